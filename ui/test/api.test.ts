import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError, parameters, readEvent, splitThinking } from '../src/api';
import { language, languageChoice, seconds, t } from '../src/i18n';
import { problemText } from '../src/state/problems';
import { toSend } from '../src/state/run';

test('events of a stream', () => {
  assert.deepEqual(readEvent('{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}'), {
    content: 'a',
    reasoning: '',
    finish: undefined,
    usage: undefined,
  });
  assert.equal(readEvent('{"choices":[{"delta":{"reasoning_content":"b"}}]}')!.reasoning, 'b');
  assert.equal(readEvent('{"choices":[{"delta":{},"finish_reason":"length"}]}')!.finish, 'length');
  assert.equal(readEvent('{"choices":[],"usage":{"completion_tokens":3}}')!.usage!.completion_tokens, 3);
  assert.equal(readEvent('{"choices":[{"delta":{"content":{"evil":1}}}]}')!.content, '');
  for (const odd of ['', 'nonsense', 'null', '1', '"a"']) assert.equal(readEvent(odd), null);
  assert.throws(
    () => readEvent('{"error":{"message":"out of memory"}}'),
    (e) => e instanceof ApiError && e.problem.kind === 'status' && e.problem.text === 'out of memory',
  );
});

test('settings become fields of the request', () => {
  assert.deepEqual(parameters({ system: 's', temperature: 0, top_k: undefined, thinking: false }), {
    temperature: 0,
    chat_template_kwargs: { enable_thinking: false },
  });
  assert.deepEqual(parameters({}), {});
});

test('thinking that the server left in the answer', () => {
  assert.equal(splitThinking('plain <think>'), null);
  assert.deepEqual(splitThinking('<think>\na'), { reasoning: 'a', content: '' });
  assert.deepEqual(splitThinking('<think>a\n</think>\n\nb'), { reasoning: 'a', content: 'b' });
});

test('what is sent: the system prompt and the branch, without thoughts and answers that came to nothing', () => {
  const base = { id: 'c', title: '', created: 0, updated: 0, leaf: 'd' };
  const messages = [
    { id: 'a', parent: null, role: 'user' as const, content: 'A', created: 0 },
    { id: 'b', parent: 'a', role: 'assistant' as const, content: '', error: 'x', created: 0 },
    { id: 'b2', parent: 'a', role: 'assistant' as const, content: 'B', reasoning: 'R', created: 0 },
    { id: 'c', parent: 'b2', role: 'user' as const, content: 'C', created: 0 },
    { id: 'd', parent: 'b', role: 'user' as const, content: 'D', created: 0 },
  ];
  const conversation = { ...base, settings: { system: ' S ' }, messages };
  assert.deepEqual(toSend(conversation, 'c'), [
    { role: 'system', content: 'S' },
    { role: 'user', content: 'A' },
    { role: 'assistant', content: 'B' },
    { role: 'user', content: 'C' },
  ]);
  assert.deepEqual(
    toSend({ ...conversation, settings: {} }, 'd').map((m) => m.content),
    ['A', 'D'],
  );
});

test('texts in both languages', () => {
  languageChoice.value = 'en';
  assert.equal(t('version', { i: 2, n: 3 }), 'Version 2 of 3');
  assert.equal(seconds(210), '0.21 s');
  assert.equal(seconds(12_300), '12 s');
  assert.equal(problemText({ kind: 'busy', seconds: 3 }), 'The server is busy. Try again in 3.0 s.');
  assert.equal(problemText({ kind: 'status', status: 400, text: 'the prompt is too long' }), 'the prompt is too long');
  languageChoice.value = 'zh';
  assert.equal(language.value, 'zh');
  assert.equal(t('newChat'), '新对话');
  languageChoice.value = 'auto';
});
