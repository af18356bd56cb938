// What the user chose for the page as a whole, and the API key; kept in localStorage (the key: there or for this tab only).
import { effect, signal } from '@preact/signals';
import { languageChoice } from '../i18n';
import type { Preferences } from '../types';
import { readSettings } from './transfer';

const kName = 'baize.preferences';
const kKey = 'baize.key';

function read(): Preferences {
  let found: Record<string, unknown> = {};
  try {
    found = JSON.parse(localStorage.getItem(kName) ?? '{}') ?? {};
  } catch {
    // no storage, or not ours: begin anew
  }
  const one = <T extends string>(value: unknown, of: readonly T[]) => (of.includes(value as T) ? (value as T) : of[0]!);
  return {
    theme: one(found.theme, ['auto', 'light', 'dark']),
    language: one(found.language, ['auto', 'en', 'zh']),
    defaults: readSettings(found.defaults),
    model: typeof found.model === 'string' ? found.model : undefined,
  };
}

export const preferences = signal<Preferences>(read());
export const setPreferences = (change: Partial<Preferences>) =>
  (preferences.value = { ...preferences.value, ...change });

function readKey(): string {
  try {
    return sessionStorage.getItem(kKey) ?? localStorage.getItem(kKey) ?? '';
  } catch {
    return '';
  }
}

export const apiKey = signal(readKey());

/** Sets the key, for this tab or for the browser. */
export function setApiKey(key: string, remember: boolean): void {
  apiKey.value = key;
  try {
    localStorage.removeItem(kKey);
    sessionStorage.removeItem(kKey);
    if (key) (remember ? localStorage : sessionStorage).setItem(kKey, key);
  } catch {
    // without storage the key lasts as long as the page
  }
}

/** The colour of the browser's own bars: the page's. */
function colourBars(): void {
  const paper = getComputedStyle(document.documentElement).getPropertyValue('--paper').trim();
  document.querySelector('meta[name="theme-color"]')!.setAttribute('content', paper);
}

export function applyPreferences(): void {
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', colourBars);
  effect(() => {
    const { theme, language } = preferences.value;
    languageChoice.value = language;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    colourBars();
    try {
      localStorage.setItem(kName, JSON.stringify(preferences.value));
    } catch {
      // lasts as long as the page
    }
  });
}
