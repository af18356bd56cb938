// Answers in the making. A Run belongs to one message of one conversation and goes on when another is shown. It draws at
// a pace that leaves the browser time: the next drawing waits at least as long as the last one took.
import { signal, type Signal } from '@preact/signals';
import { ApiError, splitThinking, streamChat, type ChatMessage, type Delta, type Usage } from '../api';
import { add, newId, path, remove, replace, titleOf } from '../tree';
import type { Conversation, Finish, Message, Settings, Stats } from '../types';
import * as chats from './chats';
import { problemText } from './problems';
import { apiKey, preferences } from './preferences';
import { askForKey, chosenModel } from './server';

const kStoreEveryMs = 2000;

export interface Live {
  content: string;
  reasoning: string;
  stats: Stats;
  started: number;
  now: number;
  thinking: boolean;
}

export interface Run {
  conversation: string;
  message: string;
  live: Signal<Live>;
  abort: AbortController;
}

export const runs = signal<ReadonlyMap<string, Run>>(new Map()); // by conversation

function setRun(conversation: string, run: Run | null): void {
  const next = new Map(runs.value);
  if (run) next.set(conversation, run);
  else next.delete(conversation);
  runs.value = next;
}

export function settingsOf(conversation: Conversation | null): Settings {
  return conversation ? conversation.settings : preferences.value.defaults;
}

/** The messages to send for an answer below `parent`. Answers that came to nothing are left out, with thoughts. */
export function toSend(conversation: Conversation, parent: string | null): ChatMessage[] {
  const system = conversation.settings.system?.trim();
  const messages: ChatMessage[] = system ? [{ role: 'system', content: system }] : [];
  for (const m of path(conversation.messages, parent)) {
    if (m.role === 'user' || m.content) messages.push({ role: m.role, content: m.content });
  }
  return messages;
}

/** Counts what comes in. Tokens are taken as one a chunk until the server tells. */
class Meter {
  readonly started = performance.now();
  private first = 0;
  private last = 0;
  private chunks = 0;
  private thoughtEnd = 0;
  private usage: Usage = {};

  take(delta: Delta): void {
    if (delta.usage) this.usage = delta.usage;
    if (!delta.content && !delta.reasoning) return;
    this.last = performance.now();
    if (!this.first) this.first = this.last;
    this.chunks++;
    if (delta.content && !this.thoughtEnd) this.thoughtEnd = this.last;
  }

  stats(thought: boolean): Stats {
    const now = performance.now();
    const tokens = this.usage.completion_tokens ?? this.chunks;
    const span = this.last - this.first;
    return {
      promptTokens: this.usage.prompt_tokens,
      cachedTokens: this.usage.prompt_tokens_details?.cached_tokens,
      completionTokens: tokens,
      firstTokenMs: this.first ? this.first - this.started : undefined,
      thinkingMs: thought && this.first ? (this.thoughtEnd || now) - this.first : undefined,
      tokensPerSecond: tokens > 1 && span > 0 ? ((tokens - 1) / span) * 1000 : undefined,
      totalMs: now - this.started,
    };
  }
}

/** Calls `draw` soon after each poke, but never so often that drawing fills the time. */
function pace(draw: () => void): { poke: () => void; end: () => void } {
  let timer = 0;
  let pause = 40;
  const go = () => {
    timer = 0;
    const before = performance.now();
    draw();
    // The drawing itself happens right after: measure to the next turn of the event loop.
    setTimeout(() => (pause = Math.min(1000, Math.max(40, 2 * (performance.now() - before)))), 0);
  };
  return {
    poke: () => (timer ||= window.setTimeout(go, pause)),
    end: () => window.clearTimeout(timer),
  };
}

const tidy = (stats: Stats): Stats =>
  Object.fromEntries(Object.entries(stats).filter(([, v]) => v !== undefined && v !== null));

/** Answers below message `parent` of a loaded conversation: adds the answer, streams into it, stores it. */
export async function answer(id: string, parent: string): Promise<void> {
  const before = chats.get(id);
  if (!before || runs.value.has(id)) return;
  const model = chosenModel(before);
  const created = Date.now();
  let message: Message = { id: newId(), parent, role: 'assistant', content: '', created, model };
  const release = chats.hold(id);
  chats.put(add(before, message));
  const abort = new AbortController();
  const meter = new Meter();
  let raw = '';
  let reasoning = '';
  const parts = () => {
    const split = reasoning ? null : splitThinking(raw);
    return split ?? { content: raw, reasoning };
  };
  const look = (): Live => {
    const p = parts();
    return {
      ...p,
      stats: meter.stats(p.reasoning !== ''),
      started: meter.started,
      now: performance.now(),
      thinking: p.reasoning !== '' && !p.content,
    };
  };
  const live = signal(look());
  const snapshot = (): Message => {
    const { content, reasoning: thoughts } = parts();
    return {
      ...message,
      content,
      ...(thoughts ? { reasoning: thoughts } : {}),
      stats: tidy(meter.stats(thoughts !== '')),
    };
  };
  const drawing = pace(() => (live.value = look()));
  const ticking = window.setInterval(() => (live.value = look()), 500);
  const storing = window.setInterval(() => chats.change(id, (c) => replace(c, snapshot())), kStoreEveryMs);
  setRun(id, { conversation: id, message: message.id, live, abort });
  let finish: Finish = 'stop';
  let problem: ApiError | undefined;
  try {
    await streamChat(
      {
        model: model ?? '',
        messages: toSend(before, parent),
        settings: before.settings,
        key: apiKey.value,
        signal: abort.signal,
      },
      (delta) => {
        meter.take(delta);
        raw += delta.content;
        reasoning += delta.reasoning;
        if (delta.finish === 'length') finish = 'length';
        drawing.poke();
      },
    );
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') finish = 'stopped';
    else {
      problem = error instanceof ApiError ? error : new ApiError({ kind: 'status', status: 0, text: String(error) });
      finish = 'error';
    }
  }
  drawing.end();
  window.clearInterval(ticking);
  window.clearInterval(storing);
  message = { ...snapshot(), finish };
  if (problem) message.error = problemText(problem.problem);
  // An answer refused for want of a key leaves no trace: the key is asked for, and the request made again.
  const refused = problem?.problem.kind === 'key';
  chats.change(id, (c) => (refused ? remove(c, message.id) : replace(c, message)));
  setRun(id, null);
  release();
  if (refused && (await askForKey(apiKey.value !== ''))) return answer(id, parent);
  if (refused) chats.change(id, (c) => add(c, message));
}

export function stop(id: string): void {
  runs.value.get(id)?.abort.abort();
}

/** Sends a user's message at the end of the branch on show, beginning a conversation if there is none. */
export function send(text: string): void {
  const conversation = chats.current.value ?? chats.begin(titleOf(text), preferences.value.defaults, chosenModel(null));
  addUserMessage(conversation, conversation.leaf, text);
}

/** Sends another version of a user's message, as a branch of its own. */
export function edit(original: Message, text: string): void {
  const conversation = chats.current.value;
  if (conversation) addUserMessage(conversation, original.parent, text);
}

function addUserMessage(conversation: Conversation, parent: string | null, text: string): void {
  if (runs.value.has(conversation.id)) return;
  const message: Message = { id: newId(), parent, role: 'user', content: text, created: Date.now() };
  const next = add(conversation, message);
  const title = next.named || conversation.messages.length > 0 ? next.title : titleOf(text) || next.title;
  chats.put({ ...next, title });
  void answer(conversation.id, message.id);
}

/** Asks for another answer to the same message; one that failed is replaced. */
export function regenerate(message: Message): void {
  const conversation = chats.current.value;
  if (!conversation || message.parent === null || runs.value.has(conversation.id)) return;
  if (message.finish === 'error' && !message.content) chats.put(remove(conversation, message.id));
  void answer(conversation.id, message.parent);
}
