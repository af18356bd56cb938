// The whole page: header, list of conversations, thread, composer, dialogs, and the keys that work everywhere.
import { useEffect, useLayoutEffect } from 'preact/hooks';
import { language, t } from '../i18n';
import * as chats from '../state/chats';
import { problemText } from '../state/problems';
import { runs, stop } from '../state/run';
import { chooseModel, keyQuestion, model, models, refresh, trouble } from '../state/server';
import { Composer } from './composer';
import { KeyDialog, ShortcutsDialog } from './dialogs';
import { Icons } from './icons';
import { SettingsDialog } from './settings';
import { newChat, Sidebar } from './sidebar';
import { Thread } from './thread';
import {
  announcement,
  focusComposer,
  isMac,
  narrow,
  notice,
  settingsOpen,
  shortcutsOpen,
  sidebarOpen,
} from './ui_state';

function ModelPicker() {
  const names = models.value?.map((m) => m.id) ?? null;
  if (names === null) return <span class="model quiet">{trouble.value ? '' : t('modelLoading')}</span>;
  if (names.length === 0) return <span class="model quiet">{t('errNoModel')}</span>;
  if (names.length === 1)
    return (
      <span class="model" title={names[0]}>
        {names[0]}
      </span>
    );
  const choose = (name: string) => {
    chooseModel(name);
    const id = chats.current.value?.id;
    if (id !== undefined) chats.change(id, (c) => ({ ...c, model: name }));
  };
  return (
    <select class="model" aria-label={t('model')} value={model.value} onChange={(e) => choose(e.currentTarget.value)}>
      {names.map((name) => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

function Header() {
  const conversation = chats.current.value;
  return (
    <header class="bar">
      {!sidebarOpen.value && (
        <>
          <button
            type="button"
            class="ghost"
            onClick={() => (sidebarOpen.value = true)}
            aria-label={t('openChats')}
            title={t('openChats')}
            aria-expanded={false}
            aria-controls="sidebar"
          >
            <Icons.menu />
          </button>
          <button type="button" class="ghost" onClick={newChat} aria-label={t('newChat')} title={t('newChat')}>
            <Icons.plus />
          </button>
        </>
      )}
      <ModelPicker />
      <h1 dir="auto">{conversation?.title ?? ''}</h1>
      <button
        type="button"
        class="ghost"
        onClick={() => (settingsOpen.value = true)}
        aria-label={t('settings')}
        title={t('settings')}
      >
        <Icons.sliders />
      </button>
    </header>
  );
}

function Trouble() {
  const problem = trouble.value;
  if (!problem) return null;
  return (
    <div class="banner" role="alert">
      <Icons.warn />
      <span>{problem.kind === 'network' ? `${problemText(problem)} ${t('offline')}` : problemText(problem)}</span>
      <button type="button" class="plain" onClick={() => void refresh()}>
        {t('retry')}
      </button>
    </div>
  );
}

function Toast() {
  const shown = notice.value;
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown && (
        <div class="toast">
          <span>{shown.text}</span>
          {shown.action && (
            <button
              type="button"
              class="plain"
              onClick={() => {
                notice.value = null;
                shown.action!.run();
              }}
            >
              {shown.action.label}
            </button>
          )}
        </div>
      )}
    </div>
  );
}

function onKeyDown(event: KeyboardEvent): void {
  if (event.isComposing || event.defaultPrevented) return;
  const inDialog = settingsOpen.value || shortcutsOpen.value || keyQuestion.value !== null;
  const control = isMac ? event.metaKey : event.ctrlKey;
  const inField = event.target instanceof HTMLElement && /^(input|textarea|select)$/i.test(event.target.tagName);
  const key = event.key.toLowerCase();
  const run = (action: () => void) => {
    event.preventDefault();
    action();
  };
  if (inDialog) return;
  if (key === 'escape') {
    const id = chats.current.value?.id;
    if (narrow() && sidebarOpen.value) run(() => (sidebarOpen.value = false));
    else if (id !== undefined && runs.value.has(id)) run(() => stop(id));
  } else if (control && event.shiftKey && key === 'o') run(newChat);
  else if (control && key === 'k') {
    run(() => {
      sidebarOpen.value = true;
      requestAnimationFrame(() => document.getElementById('search')?.focus());
    });
  } else if (control && key === ',') run(() => (settingsOpen.value = true));
  else if (!inField && key === '/' && !control) run(focusComposer);
  else if (!inField && key === '?') run(() => (shortcutsOpen.value = true));
}

export function App() {
  // Before the page is first painted: what is seen also listens.
  useLayoutEffect(() => {
    document.addEventListener('keydown', onKeyDown);
    return () => document.removeEventListener('keydown', onKeyDown);
  }, []);
  const title = chats.current.value?.title;
  useEffect(() => {
    document.documentElement.lang = language.value === 'zh' ? 'zh-CN' : 'en';
    document.title = title ? `${title} · Baize` : 'Baize';
  });
  return (
    <div class={sidebarOpen.value ? 'page with-sidebar' : 'page'}>
      <a
        class="skip"
        href="#composer"
        onClick={(e) => {
          e.preventDefault();
          focusComposer();
        }}
      >
        {t('skip')}
      </a>
      <Sidebar />
      <main inert={narrow() && sidebarOpen.value}>
        <Header />
        <Trouble />
        {!chats.persistent.value && <div class="banner">{t('errStorage')}</div>}
        <Thread />
        <Composer />
      </main>
      <SettingsDialog />
      <KeyDialog />
      <ShortcutsDialog />
      <Toast />
      <div class="unseen" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </div>
  );
}
