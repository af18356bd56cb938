// The server's API as the page uses it: the list of models, and one streamed answer. Knows no storage and no elements.
// Addresses are relative to the page, so that it also works below a path of a reverse proxy.
import { createParser } from 'eventsource-parser';
import type { Settings } from './types';

export type Problem =
  | { kind: 'network' }
  | { kind: 'lost' }
  | { kind: 'key' }
  | { kind: 'busy'; seconds?: number }
  | { kind: 'status'; status: number; text: string };

/** What went wrong, for the user; `aborted` requests throw the browser's own AbortError instead. */
export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.kind);
  }
}

export interface ChatMessage {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

export interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_tokens_details?: { cached_tokens?: number } | null;
}

export interface Delta {
  content: string;
  reasoning: string;
  finish?: string;
  usage?: Usage;
}

const headers = (key: string): Record<string, string> => (key ? { authorization: `Bearer ${key}` } : {});

async function request(address: string, key: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, {
      ...options,
      headers: { ...options.headers, ...headers(key) },
      cache: 'no-store',
      credentials: 'same-origin',
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError({ kind: 'network' });
  }
  if (response.ok) return response;
  throw new ApiError(await problemOf(response));
}

/** The sentence of an error in OpenAI's shape, or ''. */
function sentence(body: unknown): string {
  const error = (body as { error?: unknown } | null)?.error;
  if (typeof error === 'string') return error;
  const message = (error as { message?: unknown } | null | undefined)?.message;
  return typeof message === 'string' ? message : '';
}

async function problemOf(response: Response): Promise<Problem> {
  if (response.status === 401) return { kind: 'key' };
  const text = sentence(await response.json().catch(() => null));
  if (response.status === 429 || (response.status === 503 && response.headers.has('retry-after'))) {
    const wait = Number(response.headers.get('retry-after'));
    return { kind: 'busy', seconds: wait > 0 && wait < 86_400 ? wait : undefined };
  }
  return { kind: 'status', status: response.status, text };
}

export interface Model {
  id: string;
  context?: number; // tokens of prompt and answer together
}

/** The server's models. */
export async function listModels(key: string, signal?: AbortSignal): Promise<Model[]> {
  const response = await request('v1/models', key, { signal });
  const body = await response.json().catch(() => null);
  const data: unknown = body?.data;
  if (!Array.isArray(data)) throw new ApiError({ kind: 'status', status: response.status, text: '' });
  return data
    .filter((m) => typeof m?.id === 'string' && m.id !== '')
    .map((m) => ({ id: m.id, ...(Number(m.max_model_len) > 0 ? { context: Number(m.max_model_len) } : {}) }));
}

/** The request's fields for these settings. */
export function parameters(settings: Settings): Record<string, unknown> {
  const { system: _, thinking, ...sampling } = settings;
  const fields: Record<string, unknown> = Object.fromEntries(
    Object.entries(sampling).filter(([, value]) => value !== undefined),
  );
  if (thinking !== undefined) fields.chat_template_kwargs = { enable_thinking: thinking };
  return fields;
}

/** One event's data as a Delta; null for events that say nothing. Throws what an error event tells. */
export function readEvent(data: string): Delta | null {
  let body: Record<string, unknown>;
  try {
    body = JSON.parse(data);
  } catch {
    return null;
  }
  if (body === null || typeof body !== 'object') return null;
  if ('error' in body) throw new ApiError({ kind: 'status', status: 500, text: sentence(body) });
  const choice = (Array.isArray(body.choices) ? body.choices[0] : undefined) as
    | { delta?: { content?: unknown; reasoning_content?: unknown; reasoning?: unknown }; finish_reason?: unknown }
    | undefined;
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    content: text(choice?.delta?.content),
    reasoning: text(choice?.delta?.reasoning_content) || text(choice?.delta?.reasoning),
    finish: typeof choice?.finish_reason === 'string' ? choice.finish_reason : undefined,
    usage: (body.usage as Usage | null | undefined) ?? undefined,
  };
}

/** Streams one answer. Ends when the server says so; a stream that breaks off throws. */
export async function streamChat(
  options: { model: string; messages: ChatMessage[]; settings: Settings; key: string; signal: AbortSignal },
  onDelta: (delta: Delta) => void,
): Promise<void> {
  const response = await request('v1/chat/completions', options.key, {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
    body: JSON.stringify({
      model: options.model,
      messages: options.messages,
      stream: true,
      stream_options: { include_usage: true },
      ...parameters(options.settings),
    }),
    signal: options.signal,
  });
  let done = false;
  let finished = false;
  const parser = createParser({
    onEvent(event) {
      if (done) return;
      if (event.data.trim() === '[DONE]') {
        done = true;
        return;
      }
      const delta = readEvent(event.data);
      if (!delta) return;
      finished ||= delta.finish !== undefined;
      onDelta(delta);
    },
  });
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  try {
    while (!done) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } catch (error) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === 'AbortError')) throw error;
    throw new ApiError({ kind: 'lost' });
  } finally {
    reader.cancel().catch(() => {});
  }
  if (!done && !finished) throw new ApiError({ kind: 'lost' });
}

/** Splits `<think>...</think>` off an answer whose server left the thinking in its content. */
export function splitThinking(content: string): { reasoning: string; content: string } | null {
  const open = /^\s*<think>\n?/.exec(content);
  if (!open) return null;
  const close = content.indexOf('</think>');
  if (close < 0) return { reasoning: content.slice(open[0].length), content: '' };
  return { reasoning: content.slice(open[0].length, close).trimEnd(), content: content.slice(close + 8).trimStart() };
}
