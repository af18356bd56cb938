// The tree of messages of one conversation: pure functions, no storage.
import type { Conversation, Message } from './types';

/** Messages from a root to the message `leaf`, in order. A parent that is missing or repeated ends the walk. */
export function path(messages: Message[], leaf: string | null): Message[] {
  const byId = new Map(messages.map((m) => [m.id, m]));
  const found: Message[] = [];
  const seen = new Set<string>();
  for (let at = leaf === null ? undefined : byId.get(leaf); at && !seen.has(at.id);) {
    seen.add(at.id);
    found.push(at);
    at = at.parent === null ? undefined : byId.get(at.parent);
  }
  return found.reverse();
}

export interface Position {
  index: number; // of the message among its siblings, from 0
  ids: string[]; // the siblings, oldest first
}

/** Where every message of the conversation stands among those with the same parent. */
export function positions(messages: Message[]): Map<string, Position> {
  const families = new Map<string | null, string[]>();
  for (const m of messages) {
    const family = families.get(m.parent);
    if (family) family.push(m.id);
    else families.set(m.parent, [m.id]);
  }
  const found = new Map<string, Position>();
  for (const ids of families.values()) ids.forEach((id, index) => found.set(id, { index, ids }));
  return found;
}

/** The end of the branch through `id` that was added to last. */
export function newestLeaf(messages: Message[], id: string): string {
  const inside = new Set([id]);
  let newest = id;
  for (const m of messages) {
    // A message always stands behind its parent in the list.
    if (m.parent !== null && inside.has(m.parent)) {
      inside.add(m.id);
      newest = m.id;
    }
  }
  return newest;
}

export function add(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, messages: [...conversation.messages, message], leaf: message.id, updated: message.created };
}

export function replace(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, messages: conversation.messages.map((m) => (m.id === message.id ? message : m)) };
}

/** Shows the sibling `step` (-1 or 1) places from message `id`, down to the end of its newest branch. */
export function step(conversation: Conversation, id: string, by: number): Conversation {
  const place = positions(conversation.messages).get(id);
  const other = place?.ids[place.index + by];
  return other === undefined ? conversation : { ...conversation, leaf: newestLeaf(conversation.messages, other) };
}

/** Removes a message and all that follow it; a sibling's branch, else the parent, is shown instead. */
export function remove(conversation: Conversation, id: string): Conversation {
  const { messages } = conversation;
  const target = messages.find((m) => m.id === id);
  const place = positions(messages).get(id);
  if (!target || !place) return conversation;
  const gone = new Set([id]);
  const left = messages.filter((m) => {
    if (m.id !== id && !(m.parent !== null && gone.has(m.parent))) return true;
    gone.add(m.id);
    return false;
  });
  const shown = path(messages, conversation.leaf).some((m) => m.id === id);
  const sibling = place.ids[place.index - 1] ?? place.ids[place.index + 1];
  const leaf = !shown ? conversation.leaf : sibling === undefined ? target.parent : newestLeaf(left, sibling);
  return { ...conversation, messages: left, leaf };
}

/** A title from the first words of the user. */
export function titleOf(text: string): string {
  const line = text.trim().split('\n', 1)[0]!.replace(/\s+/g, ' ').trim();
  const letters = Array.from(line);
  return letters.length > 60 ? `${letters.slice(0, 59).join('').trimEnd()}…` : line;
}

export const newId = () =>
  crypto.randomUUID?.() ??
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
