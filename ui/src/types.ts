// The data that the page keeps. Messages of a conversation form a tree: an edit or a regeneration adds a sibling, and
// `leaf` says which path from a root is shown. Everything is plain data: it is stored and exported as it stands, and
// never changed in place (components compare by identity).

export type Role = 'user' | 'assistant';
export type Finish = 'stop' | 'length' | 'stopped' | 'interrupted' | 'error';

/** What one answer cost; times in milliseconds. */
export interface Stats {
  promptTokens?: number;
  cachedTokens?: number;
  completionTokens?: number;
  firstTokenMs?: number;
  thinkingMs?: number;
  tokensPerSecond?: number;
  totalMs?: number;
}

export interface Message {
  id: string;
  parent: string | null;
  role: Role;
  content: string;
  reasoning?: string;
  created: number;
  model?: string;
  finish?: Finish; // absent while the answer is being written, and on the user's messages
  error?: string;
  stats?: Stats;
}

/** What a request is made with. An absent field leaves the choice to the server and the model's own defaults. */
export interface Settings {
  system?: string;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  max_tokens?: number;
  seed?: number;
  presence_penalty?: number;
  frequency_penalty?: number;
  repetition_penalty?: number;
  thinking?: boolean;
}

/** What the list of conversations needs. */
export interface Heading {
  id: string;
  title: string;
  created: number;
  updated: number;
}

export interface Conversation extends Heading {
  named?: boolean; // the user chose the title
  model?: string;
  settings: Settings;
  leaf: string | null;
  messages: Message[];
}

export interface Preferences {
  theme: 'auto' | 'light' | 'dark';
  language: 'auto' | 'en' | 'zh';
  defaults: Settings;
  model?: string;
}
