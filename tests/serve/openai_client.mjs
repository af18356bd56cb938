// The official OpenAI client for JavaScript against a running server; test_openai_js.py starts this and test_openai.py asks
// the same in Python. From the environment: OPENAI_JS, the client's folder; SERVER, LOCKED: URLs of servers of the tiny
// model, the second one with the key "right"; ONLY_TEXT: a logit_bias under which only printable characters are drawn.
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const env = process.env;
const { default: OpenAI } = await import(`file://${env.OPENAI_JS}/index.mjs`);
const client = new OpenAI({ baseURL: `${env.SERVER}/v1`, apiKey: 'none', maxRetries: 0, timeout: 300_000 });
const locked = (apiKey) => new OpenAI({ baseURL: `${env.LOCKED}/v1`, apiKey, maxRetries: 0 });
const ONLY_TEXT = JSON.parse(env.ONLY_TEXT);
const MESSAGES = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Say something.' }];
const CHARACTERS = 'abcdefghijklmnopqrstuvwxyz';

const common = { model: 'tiny-chat', temperature: 0, max_tokens: 24, logit_bias: ONLY_TEXT };
const ask = (options = {}, ...more) => client.chat.completions.create({ ...common, messages: MESSAGES, ...options }, ...more);
const complete = (options = {}) => client.completions.create({ ...common, prompt: 'Once upon', ...options });
const post = async (path, body) => (await fetch(env.SERVER + path, { method: 'POST', body: JSON.stringify(body) })).json();

async function all(stream) {
  const items = [];
  for await (const item of await stream) items.push(item);
  return items;
}

async function metric(name) {
  const text = await (await fetch(`${env.SERVER}/metrics`)).text();
  return Number(text.match(new RegExp(`^${name}(?:{.*})? (.*)$`, 'm'))[1]);
}

async function until(condition) {
  const end = Date.now() + 300_000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, 'it never came true');
    await sleep(20);
  }
}

const content = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? '').join('');
const contents = (answer) => answer.choices.map((c) => c.message.content);

test('models', async () => {
  assert.deepEqual((await all(client.models.list())).map((m) => m.id), ['tiny-chat']);
  assert.equal((await client.models.retrieve('tiny-chat')).object, 'model');
  await assert.rejects(client.models.retrieve('gpt-4'), OpenAI.NotFoundError);
});

test('chat', async () => {
  const answer = await ask();
  assert.equal(answer.object, 'chat.completion');
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.model, 'tiny-chat');
  const choice = answer.choices[0];
  assert.deepEqual([choice.index, choice.finish_reason, choice.logprobs], [0, 'length', null]);
  assert.deepEqual([choice.message.role, choice.message.refusal], ['assistant', null]);
  assert.equal(choice.message.content.length, 24);
  const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details } = answer.usage;
  assert.equal(prompt_tokens, 's:Be brief.\nu:Say something.\na:'.length - 1); // "th" is one token
  assert.deepEqual([completion_tokens, total_tokens], [24, prompt_tokens + 24]);
  assert.ok(prompt_tokens_details.cached_tokens >= 0 && prompt_tokens_details.cached_tokens < prompt_tokens);
});

test('cached tokens', async () => {
  const messages = [{ role: 'user', content: 'j'.repeat(300) }];
  await ask({ messages });
  assert.ok((await ask({ messages })).usage.prompt_tokens_details.cached_tokens >= 256);
});

test('chat, streamed', async () => {
  const whole = contents(await ask())[0];
  const chunks = await all(ask({ stream: true, stream_options: { include_usage: true } }));
  const last = chunks.pop();
  assert.equal(new Set([last, ...chunks].map((c) => c.id)).size, 1);
  assert.ok(chunks.every((c) => c.object === 'chat.completion.chunk' && c.usage === null));
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(content(chunks), whole);
  assert.deepEqual(chunks.map((c) => c.choices[0].finish_reason), [...Array(chunks.length - 1).fill(null), 'length']);
  assert.deepEqual([last.choices, last.usage.completion_tokens], [[], 24]);
  assert.ok((await all(ask({ stream: true }))).every((c) => c.usage === undefined));
});

test('stream helper of the client', async () => {
  const stream = client.chat.completions.stream({ ...common, messages: MESSAGES });
  let text = '';
  stream.on('content', (delta) => (text += delta));
  assert.equal((await stream.finalChatCompletion()).choices[0].finish_reason, 'length');
  assert.equal(text, contents(await ask())[0]);
});

test('length', async () => {
  assert.equal(contents(await ask({ max_tokens: 5 }))[0].length, 5);
  assert.equal((await ask({ max_tokens: undefined, max_completion_tokens: 7 })).usage.completion_tokens, 7);
  assert.equal((await complete({ max_tokens: 3 })).usage.completion_tokens, 3);
  assert.equal((await complete({ max_tokens: 9, min_tokens: 9, ignore_eos: true })).usage.completion_tokens, 9);
});

test('stop', async () => {
  const whole = contents(await ask())[0];
  const text = whole.slice(8, 10);
  for (const stop of [text, ['never there', text]]) {
    const answer = await ask({ stop });
    assert.equal(contents(answer)[0], whole.slice(0, whole.indexOf(text)));
    assert.equal(answer.choices[0].finish_reason, 'stop');
    const chunks = await all(ask({ stop, stream: true }));
    assert.equal(content(chunks), whole.slice(0, whole.indexOf(text)));
    assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
  }
});

test('end token', async () => {
  const answer = await ask({ logit_bias: { 2: 100 } }); // </s>
  assert.deepEqual([answer.choices[0].finish_reason, contents(answer)[0]], ['stop', '']);
  assert.equal((await ask({ logit_bias: { 2: 100 }, ignore_eos: true })).choices[0].finish_reason, 'length');
});

test('n and seed', async () => {
  const hot = { temperature: 2, n: 3, seed: 11, top_k: 0, top_p: 1 };
  const texts = contents(await ask(hot));
  assert.equal(new Set(texts).size, 3);
  assert.deepEqual(contents(await ask(hot)), texts);
  const streamed = ['', '', ''];
  for (const chunk of await all(ask({ ...hot, stream: true }))) {
    for (const choice of chunk.choices) streamed[choice.index] += choice.delta.content ?? '';
  }
  assert.deepEqual(streamed, texts);
  assert.notEqual(contents(await ask({ ...hot, seed: 12 }))[0], texts[0]);
});

test('fields that OpenAI does not have', async () => {
  const greedy = contents(await ask())[0];
  for (const narrow of [{ top_k: 1 }, { min_p: 1 }, { top_p: 0 }]) {
    assert.equal(contents(await ask({ temperature: 1.5, ...narrow }))[0], greedy);
  }
  assert.equal(contents(await ask({ typical_p: 0.5 }))[0].length, 24);
  assert.notEqual(contents(await ask({ repetition_penalty: 5 }))[0], greedy);
  assert.equal(new Set(contents(await ask({ presence_penalty: 100 }))[0]).size, 24);
  const thinking = await ask({ chat_template_kwargs: { enable_thinking: true } });
  assert.equal(thinking.usage.prompt_tokens, (await ask()).usage.prompt_tokens + 'think '.length - 1); // "th"
});

test('completions', async () => {
  const answer = await complete();
  assert.equal(answer.object, 'text_completion');
  assert.match(answer.id, /^cmpl-/);
  const text = answer.choices[0].text;
  assert.deepEqual([text.length, answer.choices[0].finish_reason], [24, 'length']);
  const chunks = await all(complete({ stream: true }));
  assert.equal(chunks.map((c) => c.choices[0].text).join(''), text);
  assert.equal((await complete({ echo: true })).choices[0].text, 'Once upon' + text);
  const only = await complete({ echo: true, max_tokens: 0 });
  assert.deepEqual([only.choices[0].text, only.usage.completion_tokens], ['Once upon', 0]);
});

test('prompts of every form', async () => {
  const texts = ['Once upon', 'Twice below'];
  const ids = await Promise.all(texts.map(async (prompt) => (await post('/tokenize', { prompt })).tokens));
  const want = await Promise.all(texts.map(async (prompt) => (await complete({ prompt })).choices[0].text));
  const given = async (prompt, more = {}) => (await complete({ prompt, ...more })).choices.map((c) => c.text);
  assert.deepEqual(await given(texts), want);
  assert.deepEqual(await given(ids), want);
  assert.deepEqual(await given(ids[0]), [want[0]]);
  assert.deepEqual(await given(texts, { n: 2 }), [want[0], want[0], want[1], want[1]]);
});

test('token ids', async () => {
  const answer = await complete({ return_token_ids: true });
  const { prompt_token_ids, token_ids, text } = answer.choices[0];
  assert.deepEqual(prompt_token_ids, (await post('/tokenize', { prompt: 'Once upon' })).tokens);
  assert.equal((await post('/detokenize', { tokens: token_ids })).prompt, text);
  const chunks = await all(ask({ stream: true, return_token_ids: true }));
  assert.deepEqual(chunks[0].choices[0].prompt_token_ids, (await post('/tokenize', { messages: MESSAGES })).tokens);
  assert.equal(chunks.flatMap((c) => c.choices[0].token_ids ?? []).length, 24);
});

test('logprobs of a chat', async () => {
  const wish = { logprobs: true, top_logprobs: 3, logit_bias: {}, max_tokens: 8 };
  const answer = await ask(wish);
  const tokens = answer.choices[0].logprobs.content;
  assert.equal(tokens.length, answer.usage.completion_tokens);
  for (const token of tokens) {
    assert.equal(Buffer.from(token.bytes).toString(), token.token);
    const best = token.top_logprobs.map((t) => t.logprob);
    assert.deepEqual([best.length, token.top_logprobs[0].token], [3, token.token]); // greedy
    assert.deepEqual(best, best.toSorted((a, b) => b - a));
    assert.ok(token.logprob <= 0 && best.reduce((sum, p) => sum + Math.exp(p), 0) <= 1.001);
  }
  const streamed = (await all(ask({ ...wish, stream: true }))).flatMap((c) => c.choices[0].logprobs?.content ?? []);
  assert.deepEqual(streamed.map((t) => t.token), tokens.map((t) => t.token));
});

test('logprobs of a completion', async () => {
  const { text, logprobs } = (await complete({ logprobs: 2 })).choices[0];
  assert.equal(logprobs.tokens.join(''), text);
  assert.deepEqual(logprobs.text_offset, [...Array(24).keys()]);
  assert.ok(logprobs.token_logprobs.every((p) => p < 0) && logprobs.top_logprobs.every((t) => Object.keys(t).length === 2));
  const echoed = (await complete({ logprobs: 2, echo: true })).choices[0];
  assert.equal(echoed.logprobs.tokens.join(''), echoed.text);
  assert.deepEqual([echoed.logprobs.token_logprobs[0], echoed.logprobs.top_logprobs[0]], [null, null]);
});

test('best of', async () => {
  const wish = { temperature: 2, top_p: 1, seed: 5, logprobs: 0, logit_bias: {}, max_tokens: 6 };
  const means = (answer) => answer.choices.map((c) => c.logprobs.token_logprobs.reduce((sum, p) => sum + p, 0) / c.logprobs.tokens.length);
  const every = means(await complete({ n: 6, ...wish })).toSorted((a, b) => b - a);
  const best = means(await complete({ n: 2, best_of: 6, ...wish }));
  assert.ok(best.length === 2 && best.every((mean, i) => Math.abs(mean - every[i]) < 1e-3));
});

test('a stream that is given up ends its request', async () => {
  // While its client reads nothing, such a stream waits: with so much to tell it does not fit into the system's buffers.
  const long = { max_tokens: 15_000, ignore_eos: true, stream: true, logprobs: true, top_logprobs: 20 };
  const drawn = await metric('baize_engine_drawn_tokens_total');
  const abort = new AbortController();
  const stream = await ask(long, { signal: abort.signal });
  await assert.doesNotReject(async () => { // the client ends the loop without a word
    for await (const chunk of stream) {
      if (abort.signal.aborted || !chunk.choices[0].delta.content) continue; // what had come is still given
      assert.equal(await metric('baize_requests_running'), 1);
      abort.abort();
    }
  });
  await until(async () => (await metric('baize_requests_running')) === 0);
  for await (const _ of await ask(long)) break; // leaving the loop, too, gives it up
  await until(async () => (await metric('baize_requests_running')) === 0);
  const given = await metric('baize_engine_drawn_tokens_total');
  assert.ok(given - drawn < 2 * 15_000);
  const early = new AbortController();
  const waiting = ask({ ...long, stream: false, n: 16 }, { signal: early.signal });
  await until(async () => (await metric('baize_requests_running')) >= 1);
  early.abort();
  await assert.rejects(waiting, OpenAI.APIUserAbortError);
  await until(async () => (await metric('baize_requests_running')) + (await metric('baize_requests_waiting')) === 0);
  assert.ok((await metric('baize_engine_drawn_tokens_total')) - given < 16 * 15_000);
});

test('errors are those of the client', async () => {
  await assert.rejects(ask({ model: 'gpt-4' }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError && error.message.includes('tiny-chat'));
    assert.deepEqual([error.status, error.code, error.param], [404, 'model_not_found', 'model']);
    return true;
  });
  await assert.rejects(ask({ tools: [{ type: 'function', function: { name: 'f' } }] }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.type, error.param], [400, 'invalid_request_error', 'tools']);
    return true;
  });
  await assert.rejects(ask({ messages: [{ role: 'user', content: CHARACTERS.repeat(800) }], stream: true }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError && /16384/.test(error.message) && /20805/.test(error.message));
    assert.equal(error.code, 'context_length_exceeded');
    return true;
  });
  await assert.rejects(locked('wrong').models.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.deepEqual([error.status, error.code], [401, 'invalid_api_key']);
    return true;
  });
  assert.equal((await all(locked('right').models.list())).length, 1);
});
