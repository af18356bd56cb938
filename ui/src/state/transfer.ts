// Conversations to files and back. What comes from a file is checked field by field: a broken or hostile one gives an
// ImportError or is trimmed to what is sound, and can carry nothing but text and numbers into the page.
import { newId, newestLeaf, path, titleOf } from '../tree';
import type { Conversation, Finish, Message, Settings, Stats } from '../types';

const kFormat = 'baize-chats';

export class ImportError extends Error {}

/** Limits of the sampling settings: [least, most, whole numbers only]. */
export const kLimits = {
  temperature: [0, 2, false],
  top_p: [0, 1, false],
  top_k: [0, 1_000_000, true],
  min_p: [0, 1, false],
  max_tokens: [1, 10_000_000, true],
  seed: [0, 2 ** 53 - 1, true],
  presence_penalty: [-2, 2, false],
  frequency_penalty: [-2, 2, false],
  repetition_penalty: [0.01, 10, false],
} as const satisfies Partial<Record<keyof Settings, readonly [number, number, boolean]>>;

export type NumericSetting = keyof typeof kLimits;
export const kNumericSettings = Object.keys(kLimits) as NumericSetting[];

export function inLimits(name: NumericSetting, value: number): boolean {
  const [least, most, whole] = kLimits[name];
  return Number.isFinite(value) && value >= least && value <= most && (!whole || Number.isInteger(value));
}

type Raw = Record<string, unknown>;
const isRaw = (value: unknown): value is Raw => typeof value === 'object' && value !== null && !Array.isArray(value);
const text = (value: unknown) => (typeof value === 'string' ? value : undefined);
const count = (value: unknown) =>
  typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined;

export function readSettings(value: unknown): Settings {
  if (!isRaw(value)) return {};
  const settings: Settings = {};
  for (const name of kNumericSettings) {
    const number = value[name];
    if (typeof number === 'number' && inLimits(name, number)) settings[name] = number;
  }
  if (text(value.system)) settings.system = text(value.system);
  if (typeof value.thinking === 'boolean') settings.thinking = value.thinking;
  return settings;
}

function readStats(value: unknown): Stats | undefined {
  if (!isRaw(value)) return undefined;
  const stats: Stats = {};
  for (const name of [
    'promptTokens',
    'cachedTokens',
    'completionTokens',
    'firstTokenMs',
    'thinkingMs',
    'tokensPerSecond',
    'totalMs',
  ] as const) {
    const number = count(value[name]);
    if (number !== undefined) stats[name] = number;
  }
  return stats;
}

const kFinishes: Finish[] = ['stop', 'length', 'stopped', 'interrupted', 'error'];

/** Messages in order, each behind its parent; ids are made anew. Those of unknown parents are left out. */
function readMessages(values: unknown[]): { messages: Message[]; ids: Map<string, string> } {
  const ids = new Map<string, string>();
  const messages: Message[] = [];
  for (const value of values) {
    if (!isRaw(value)) continue;
    const id = text(value.id);
    const content = text(value.content);
    const { role } = value;
    if (id === undefined || content === undefined || ids.has(id) || (role !== 'user' && role !== 'assistant')) continue;
    const parent = value.parent === null ? null : ids.get(text(value.parent) ?? '');
    if (parent === undefined) continue;
    const made = newId();
    ids.set(id, made);
    const message: Message = { id: made, parent, role, content, created: count(value.created) ?? 0 };
    if (text(value.reasoning)) message.reasoning = text(value.reasoning);
    if (text(value.model)) message.model = text(value.model);
    if (text(value.error)) message.error = text(value.error);
    if (role === 'assistant') message.finish = kFinishes.find((f) => f === value.finish) ?? 'interrupted';
    const stats = readStats(value.stats);
    if (stats) message.stats = stats;
    messages.push(message);
  }
  return { messages, ids };
}

export function readConversation(value: unknown): Conversation | null {
  if (!isRaw(value) || !Array.isArray(value.messages)) return null;
  const { messages, ids } = readMessages(value.messages);
  const first = messages[0];
  if (!first) return null;
  const now = Date.now();
  const leaf = ids.get(text(value.leaf) ?? '') ?? newestLeaf(messages, first.id);
  return {
    id: newId(),
    title: titleOf(text(value.title) ?? '') || titleOf(first.content),
    named: value.named === true,
    created: Math.min(count(value.created) ?? now, now),
    updated: Math.min(count(value.updated) ?? now, now),
    model: text(value.model),
    settings: readSettings(value.settings),
    leaf,
    messages,
  };
}

export const toJson = (conversations: Conversation[]) =>
  JSON.stringify({ format: kFormat, version: 1, conversations }, null, 1);

export function fromJson(file: string): Conversation[] {
  let body: unknown;
  try {
    body = JSON.parse(file);
  } catch {
    throw new ImportError('not JSON');
  }
  if (!isRaw(body) || body.format !== kFormat || !Array.isArray(body.conversations))
    throw new ImportError('unknown format');
  if (body.version !== 1) throw new ImportError('unknown version');
  return body.conversations.map(readConversation).filter((c) => c !== null);
}

/** The branch that is shown, to read elsewhere. */
export function toMarkdown(
  conversation: Conversation,
  names: { user: string; assistant: string; thoughts: string },
): string {
  const parts = [`# ${conversation.title}`];
  if (conversation.settings.system) parts.push(conversation.settings.system.replace(/^/gm, '> '));
  for (const m of path(conversation.messages, conversation.leaf)) {
    parts.push(`## ${m.role === 'user' ? names.user : (m.model ?? names.assistant)}`);
    if (m.reasoning) parts.push(`<details><summary>${names.thoughts}</summary>\n\n${m.reasoning.trim()}\n\n</details>`);
    parts.push(m.content.trim());
  }
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

/** A name for a file that any system takes. */
export const fileName = (title: string, ending: string) =>
  `${
    title
      .replace(/[^\p{L}\p{N}]+/gu, '-')
      .replace(/^-+|-+$/g, '')
      .slice(0, 60) || 'chat'
  }.${ending}`;

export function download(name: string, type: string, content: string): void {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const a = Object.assign(document.createElement('a'), { href: address, download: name });
  a.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
