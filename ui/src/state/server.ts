// The server: its models, whether it answers, and asking the user for a key. Tries again by itself while it is away and
// the page is looked at; asks nothing while all is well.
import { computed, signal } from '@preact/signals';
import { ApiError, listModels, type Model, type Problem } from '../api';
import type { Conversation } from '../types';
import { current } from './chats';
import { apiKey, preferences, setApiKey, setPreferences } from './preferences';

const kRetryMs = 4000;

export const models = signal<Model[] | null>(null); // null: not known yet
export const trouble = signal<Problem | null>(null);
export const keyQuestion = signal<{ wrong: boolean; answer: (key: string | null, remember: boolean) => void } | null>(
  null,
);

/** The model to ask: the conversation's own, else the one chosen last, as long as the server has it. */
export function chosenModel(conversation: Conversation | null): string | undefined {
  const known = (models.value ?? []).map((m) => m.id);
  const wanted = [conversation?.model, preferences.value.model].find((m) => m !== undefined && known.includes(m));
  return wanted ?? known[0] ?? conversation?.model;
}
export const model = computed(() => chosenModel(current.value));

/** How many tokens the model of a conversation takes, prompt and answer together. */
export const contextOf = (name: string | undefined) => models.value?.find((m) => m.id === name)?.context;

export const chooseModel = (name: string) => setPreferences({ model: name });

let asking: Promise<boolean> | null = null;

/** Shows the dialog for a key; true if the user gave one. */
export function askForKey(wrong: boolean): Promise<boolean> {
  asking ??= new Promise<boolean>((resolve) => {
    keyQuestion.value = {
      wrong,
      answer(key, remember) {
        keyQuestion.value = null;
        asking = null;
        if (key !== null) setApiKey(key, remember);
        resolve(key !== null);
        if (key !== null && models.value === null) void refresh();
      },
    };
  });
  return asking;
}

let timer = 0;

export async function refresh(): Promise<void> {
  window.clearTimeout(timer);
  try {
    models.value = await listModels(apiKey.value);
    trouble.value = null;
  } catch (error) {
    const problem = error instanceof ApiError ? error.problem : ({ kind: 'network' } as const);
    trouble.value = problem;
    if (problem.kind === 'key') void askForKey(apiKey.value !== '');
    else timer = window.setTimeout(() => (document.hidden ? undefined : refresh()), kRetryMs);
  }
}

export function startServer(): void {
  void refresh();
  const again = () => {
    if (!document.hidden && trouble.value && trouble.value.kind !== 'key') void refresh();
  };
  document.addEventListener('visibilitychange', again);
  window.addEventListener('online', again);
}
