// The conversations: the list, the one on show, and every change to them. All changes go through `change`, which keeps
// the newest version of what is loaded, draws it and stores it.
import { batch, computed, signal } from '@preact/signals';
import { t } from '../i18n';
import { newId, path, positions } from '../tree';
import type { Conversation, Heading } from '../types';
import { headingOf, openStore, type Store } from './db';

export const headings = signal<Heading[]>([]);
export const current = signal<Conversation | null>(null); // null: a new chat, not begun
export const persistent = signal(true);

export const shownPath = computed(() => (current.value ? path(current.value.messages, current.value.leaf) : []));
export const shownPositions = computed(() => positions(current.value?.messages ?? []));

let store: Store;
const loaded = new Map<string, Conversation>(); // those on show or being answered
const inUse = new Set<string>(); // those being answered: they stay loaded
let channel: BroadcastChannel | null = null;

const sorted = (list: Heading[]) => list.sort((a, b) => b.updated - a.updated);

export async function startChats(): Promise<void> {
  store = await openStore();
  persistent.value = store.persistent;
  headings.value = sorted(await store.headings());
  const wanted = location.hash.slice(1);
  if (headings.value.some((h) => h.id === wanted)) await open(wanted);
  window.addEventListener('hashchange', () => {
    const id = location.hash.slice(1);
    if (id !== (current.value?.id ?? '')) void open(headings.value.some((h) => h.id === id) ? id : null);
  });
  // Another tab changed something: show what it stored, unless this tab is in the middle of an answer there.
  channel = new BroadcastChannel('baize');
  channel.addEventListener('message', async ({ data }) => {
    headings.value = sorted(await store.headings());
    if (typeof data !== 'string' || inUse.has(data)) return;
    loaded.delete(data);
    if (current.value?.id === data) current.value = (await store.get(data)) ?? null;
    if (current.value) loaded.set(current.value.id, current.value);
  });
}

function address(id: string | null): void {
  const wanted = id === null ? location.pathname + location.search : `#${id}`;
  if (location.hash.slice(1) !== (id ?? '')) history.pushState(null, '', wanted);
}

/** Shows a conversation, or with null a new one. */
export async function open(id: string | null): Promise<void> {
  const before = current.value?.id;
  const next = id === null ? null : (loaded.get(id) ?? (await store.get(id)) ?? null);
  if (before !== undefined && !inUse.has(before)) loaded.delete(before);
  if (next) loaded.set(next.id, next);
  current.value = next;
  address(next?.id ?? null);
}

export const get = (id: string) => loaded.get(id);

/** Stores and draws a new version of a conversation that is loaded. `quiet` leaves it where it is in the list. */
export function put(conversation: Conversation): void {
  loaded.set(conversation.id, conversation);
  batch(() => {
    if (current.value?.id === conversation.id) current.value = conversation;
    const known = headings.value.find((h) => h.id === conversation.id);
    if (known?.title !== conversation.title || known.updated !== conversation.updated) {
      headings.value = sorted([headingOf(conversation), ...headings.value.filter((h) => h.id !== conversation.id)]);
    }
  });
  void store.put(conversation).then(
    () => channel?.postMessage(conversation.id),
    () => (persistent.value = false), // the disk is full, most likely
  );
}

export function change(id: string, by: (conversation: Conversation) => Conversation): void {
  const conversation = loaded.get(id);
  if (conversation) put(by(conversation));
}

/** Begins the conversation that `current` stands for. */
export function begin(title: string, settings: Conversation['settings'], model: string | undefined): Conversation {
  const now = Date.now();
  const made: Conversation = {
    id: newId(),
    title: title || t('untitled'),
    created: now,
    updated: now,
    model,
    settings,
    leaf: null,
    messages: [],
  };
  loaded.set(made.id, made);
  current.value = made;
  address(made.id);
  return made;
}

/** Keeps a conversation loaded while it is answered. */
export function hold(id: string): () => void {
  inUse.add(id);
  return () => {
    inUse.delete(id);
    if (current.value?.id !== id) loaded.delete(id);
  };
}

export async function find(id: string): Promise<Conversation | undefined> {
  return loaded.get(id) ?? (await store.get(id));
}

export async function rename(id: string, title: string): Promise<void> {
  const conversation = await find(id);
  const wanted = title.trim().slice(0, 200);
  if (!conversation || !wanted) return;
  const renamed = { ...conversation, title: wanted, named: true };
  const wasLoaded = loaded.has(id);
  put(renamed);
  if (!wasLoaded) loaded.delete(id);
}

/** Deletes a conversation and returns it, so that it can be put back. */
export async function removeChat(id: string): Promise<Conversation | undefined> {
  const gone = await find(id);
  await store.remove(id);
  loaded.delete(id);
  batch(() => {
    headings.value = headings.value.filter((h) => h.id !== id);
    if (current.value?.id === id) {
      current.value = null;
      address(null);
    }
  });
  channel?.postMessage(id);
  return gone;
}

export async function removeAllChats(): Promise<void> {
  await store.clear();
  loaded.clear();
  batch(() => {
    headings.value = [];
    current.value = null;
  });
  address(null);
  channel?.postMessage('');
}

export async function allChats(): Promise<Conversation[]> {
  const all: Conversation[] = [];
  await store.each((c) => void all.push(c));
  return all.sort((a, b) => a.created - b.created);
}

export async function addChats(conversations: Conversation[]): Promise<void> {
  for (const conversation of conversations) await store.put(conversation);
  headings.value = sorted(await store.headings());
  channel?.postMessage('');
}

/** The ids of conversations that hold all words of the query, in title or text. */
export async function search(query: string, signal: AbortSignal): Promise<Set<string>> {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Set<string>();
  await store.each((c) => {
    if (signal.aborted) return false;
    const text = [c.title, ...c.messages.map((m) => m.content)].join('\n').toLowerCase();
    if (words.every((w) => text.includes(w))) found.add(c.id);
  });
  return found;
}
