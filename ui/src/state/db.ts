// Where conversations are kept: IndexedDB, headings apart from bodies so that a long history opens at once. A browser
// that refuses (private windows may) gets a store in memory; `persistent` says which.
import { openDB, type DBSchema, type IDBPDatabase } from 'idb';
import type { Conversation, Heading } from '../types';

interface Schema extends DBSchema {
  headings: { key: string; value: Heading };
  conversations: { key: string; value: Conversation };
}

export interface Store {
  persistent: boolean;
  headings(): Promise<Heading[]>;
  get(id: string): Promise<Conversation | undefined>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
  clear(): Promise<void>;
  /** Calls `visit` with every conversation, in no order, until it returns false. */
  each(visit: (conversation: Conversation) => boolean | void): Promise<void>;
}

export const headingOf = ({ id, title, created, updated }: Heading): Heading => ({ id, title, created, updated });

class IndexedStore implements Store {
  readonly persistent = true;
  constructor(private db: IDBPDatabase<Schema>) {}

  headings() {
    return this.db.getAll('headings');
  }
  get(id: string) {
    return this.db.get('conversations', id);
  }
  async put(conversation: Conversation) {
    const change = this.db.transaction(['headings', 'conversations'], 'readwrite');
    void change.objectStore('headings').put(headingOf(conversation), conversation.id);
    void change.objectStore('conversations').put(conversation, conversation.id);
    await change.done;
  }
  async remove(id: string) {
    const change = this.db.transaction(['headings', 'conversations'], 'readwrite');
    void change.objectStore('headings').delete(id);
    void change.objectStore('conversations').delete(id);
    await change.done;
  }
  async clear() {
    const change = this.db.transaction(['headings', 'conversations'], 'readwrite');
    void change.objectStore('headings').clear();
    void change.objectStore('conversations').clear();
    await change.done;
  }
  async each(visit: (conversation: Conversation) => boolean | void) {
    for (let at = await this.db.transaction('conversations').store.openCursor(); at; at = await at.continue()) {
      if (visit(at.value) === false) return;
    }
  }
}

class MemoryStore implements Store {
  readonly persistent = false;
  private all = new Map<string, Conversation>();

  async headings() {
    return [...this.all.values()].map(headingOf);
  }
  async get(id: string) {
    return this.all.get(id);
  }
  async put(conversation: Conversation) {
    this.all.set(conversation.id, conversation);
  }
  async remove(id: string) {
    this.all.delete(id);
  }
  async clear() {
    this.all.clear();
  }
  async each(visit: (conversation: Conversation) => boolean | void) {
    for (const conversation of this.all.values()) if (visit(conversation) === false) return;
  }
}

export async function openStore(): Promise<Store> {
  try {
    return new IndexedStore(
      await openDB<Schema>('baize', 1, {
        upgrade(db) {
          db.createObjectStore('headings');
          db.createObjectStore('conversations');
        },
      }),
    );
  } catch {
    return new MemoryStore();
  }
}
