import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileName, fromJson, ImportError, inLimits, readSettings, toJson, toMarkdown } from '../src/state/transfer';
import { path } from '../src/tree';
import type { Conversation } from '../src/types';

const chat: Conversation = {
  id: 'c',
  title: 'A chat',
  named: true,
  created: 1,
  updated: 2,
  model: 'm',
  settings: { system: 'Be brief.\nPlease.', temperature: 0.5 },
  leaf: 'd',
  messages: [
    { id: 'a', parent: null, role: 'user', content: 'Hi', created: 1 },
    { id: 'b', parent: 'a', role: 'assistant', content: 'No', created: 1, finish: 'stop' },
    {
      id: 'd',
      parent: 'a',
      role: 'assistant',
      content: 'Hello',
      reasoning: 'Greet.',
      created: 2,
      finish: 'stop',
      model: 'm',
      stats: { completionTokens: 3 },
    },
  ],
};

test('what is exported comes back the same, with new ids', () => {
  const [back, ...rest] = fromJson(toJson([chat]));
  assert.equal(rest.length, 0);
  assert.notEqual(back!.id, chat.id);
  const plain = ({ messages, leaf, id: _, ...about }: Conversation) => ({
    ...about,
    path: path(messages, leaf).map(({ id: _i, parent: _p, ...m }) => m),
    n: messages.length,
  });
  assert.deepEqual(plain(back!), plain(chat));
});

test('Markdown holds the branch on show', () => {
  assert.equal(
    toMarkdown(chat, { user: 'You', assistant: 'Answer', thoughts: 'Thoughts' }),
    '# A chat\n\n> Be brief.\n> Please.\n\n## You\n\nHi\n\n## m\n\n<details><summary>Thoughts</summary>\n\nGreet.\n\n</details>\n\nHello\n',
  );
});

test('files that are not ours are refused', () => {
  for (const file of [
    '',
    'x',
    '[]',
    'null',
    '{}',
    '{"format":"baize-chats"}',
    '{"format":"baize-chats","version":2,"conversations":[]}',
    '{"format":"other","version":1,"conversations":[]}',
  ]) {
    assert.throws(() => fromJson(file), ImportError, file);
  }
});

test('hostile files are trimmed to what is sound', () => {
  const read = (conversation: unknown) =>
    fromJson(JSON.stringify({ format: 'baize-chats', version: 1, conversations: [conversation] }));
  for (const bad of [
    null,
    1,
    'x',
    [],
    {},
    { messages: 'x' },
    { messages: [] },
    { messages: [null, 1, { id: 'a' }, { id: 1, content: '', role: 'user', parent: null }] },
  ])
    assert.deepEqual(read(bad), []);
  const [one] = read({
    title: { toString: 'x' },
    leaf: 'nowhere',
    settings: { temperature: 'hot', top_k: 1.5, top_p: 7, seed: 3, system: ['x'], other: 1 },
    messages: [
      { id: 'a', parent: null, role: 'user', content: 'x', extra: '<script>' },
      { id: 'a', parent: null, role: 'user', content: 'twice' },
      { id: 'b', parent: 'later', role: 'assistant', content: 'orphan' },
      { id: 'later', parent: 'a', role: 'system', content: 'no such role' },
      {
        id: 'c',
        parent: 'a',
        role: 'assistant',
        content: 'y',
        stats: { totalMs: -1, tokensPerSecond: 'x' },
        finish: 'odd',
        error: 5,
      },
    ],
  });
  assert.equal(one!.title, 'x');
  assert.deepEqual(one!.settings, { seed: 3 });
  assert.deepEqual(
    one!.messages.map((m) => m.content),
    ['x', 'y'],
  );
  assert.deepEqual(one!.messages[1]!.stats, {});
  assert.equal(one!.messages[1]!.finish, 'interrupted');
  assert.equal(one!.leaf, one!.messages[1]!.id);
  const polluting =
    '{"format":"baize-chats","version":1,"conversations":[{"__proto__":{"polluted":1},"messages":[{"id":"__proto__","parent":null,"role":"user","content":"x"}],"settings":{"__proto__":{"seed":1}}}]}';
  assert.equal(fromJson(polluting).length, 1);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test('limits of the settings', () => {
  assert.ok(
    inLimits('temperature', 2) &&
      !inLimits('temperature', 2.1) &&
      !inLimits('top_k', 1.5) &&
      !inLimits('seed', Number.NaN),
  );
  assert.deepEqual(readSettings({ thinking: false, min_p: 0 }), { thinking: false, min_p: 0 });
});

test('names of files', () => {
  assert.equal(fileName('../../etc/passwd', 'md'), 'etc-passwd.md');
  assert.equal(fileName('为什么？', 'json'), '为什么.json');
  assert.equal(fileName('???', 'md'), 'chat.md');
});
