// What of the page is open: signals shared by the components, and short notices.
import { signal } from '@preact/signals';

export const sidebarOpen = signal(!matchMedia('(max-width: 800px)').matches);
export const settingsOpen = signal(false);
export const shortcutsOpen = signal(false);
export const editing = signal<string | null>(null); // the message being edited

export const announcement = signal(''); // for screen readers

export interface Notice {
  text: string;
  action?: { label: string; run: () => void };
}
export const notice = signal<Notice | null>(null);

let timer = 0;
export function notify(text: string, action?: Notice['action']): void {
  window.clearTimeout(timer);
  notice.value = { text, action };
  timer = window.setTimeout(() => (notice.value = null), action ? 8000 : 4000);
}

export const narrow = () => matchMedia('(max-width: 800px)').matches;
export const focusComposer = () => document.getElementById('composer')?.focus();
export const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
