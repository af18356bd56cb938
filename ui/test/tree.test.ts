import assert from 'node:assert/strict';
import { test } from 'node:test';
import { add, newestLeaf, path, positions, remove, replace, step, titleOf } from '../src/tree';
import type { Conversation, Message } from '../src/types';

const message = (id: string, parent: string | null, content = id): Message => ({
  id,
  parent,
  role: parent === null ? 'user' : 'assistant',
  content,
  created: 0,
});
const empty: Conversation = { id: 'c', title: '', created: 0, updated: 0, settings: {}, leaf: null, messages: [] };
const grow = (...list: [string, string | null][]) =>
  list.reduce((c, [id, parent]) => add(c, message(id, parent)), empty);
const shown = (c: Conversation) =>
  path(c.messages, c.leaf)
    .map((m) => m.id)
    .join('');

//  a - b - c - d
//   \   \ e - f
//    g          A - B: the first message was edited, too
const full = grow(
  ['a', null],
  ['b', 'a'],
  ['c', 'b'],
  ['d', 'c'],
  ['e', 'b'],
  ['f', 'e'],
  ['g', 'a'],
  ['A', null],
  ['B', 'A'],
);

test('the path leads from the root to the leaf', () => {
  assert.equal(shown(full), 'AB');
  assert.equal(shown({ ...full, leaf: 'd' }), 'abcd');
  assert.equal(shown(empty), '');
  assert.equal(shown({ ...full, leaf: 'nowhere' }), '');
});

test('a path that runs in a circle ends', () => {
  const circle = [message('x', 'y'), message('y', 'x')];
  assert.deepEqual(
    path(circle, 'x').map((m) => m.id),
    ['y', 'x'],
  );
});

test('siblings are counted at every level', () => {
  const places = positions(full.messages);
  assert.deepEqual(places.get('A'), { index: 1, ids: ['a', 'A'] });
  assert.deepEqual(places.get('e'), { index: 1, ids: ['c', 'e'] });
  assert.deepEqual(places.get('d'), { index: 0, ids: ['d'] });
});

test('stepping to a sibling shows its newest branch', () => {
  assert.equal(shown(step(full, 'A', -1)), 'ag');
  const other = { ...full, leaf: 'd' };
  assert.equal(shown(step(other, 'c', 1)), 'abef');
  assert.equal(shown(step(step(other, 'c', 1), 'e', -1)), 'abcd');
  assert.equal(step(other, 'c', -1), other);
  assert.equal(step(other, 'nowhere', 1), other);
});

test('the newest leaf is the one added last below a message', () => {
  assert.equal(newestLeaf(full.messages, 'a'), 'g');
  assert.equal(newestLeaf(full.messages, 'b'), 'f');
  assert.equal(newestLeaf(full.messages, 'd'), 'd');
});

test('removing a message removes what follows and shows a neighbour', () => {
  const c = remove({ ...full, leaf: 'f' }, 'e');
  assert.deepEqual(c.messages.map((m) => m.id).join(''), 'abcdgAB');
  assert.equal(shown(c), 'abcd');
  assert.equal(shown(remove({ ...full, leaf: 'd' }, 'd')), 'abc');
  assert.equal(shown(remove({ ...full, leaf: 'B' }, 'b')), 'AB');
  assert.equal(shown(remove(grow(['a', null]), 'a')), '');
  assert.equal(remove(full, 'nowhere'), full);
});

test('conversations are never changed in place', () => {
  const before = JSON.stringify(full);
  const next = replace(full, message('b', 'a', 'new'));
  assert.equal(next.messages[1]!.content, 'new');
  assert.equal(next.messages[0], full.messages[0]);
  remove(full, 'b');
  step(full, 'A', -1);
  assert.equal(JSON.stringify(full), before);
});

test('a title is one short line', () => {
  assert.equal(titleOf('  Hello \t there\nmore'), 'Hello there');
  assert.equal(titleOf('\n'), '');
  const long = titleOf('😀'.repeat(100));
  assert.equal(Array.from(long).length, 60);
  assert.ok(long.endsWith('😀…'));
});
