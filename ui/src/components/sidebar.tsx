// The list of conversations, with search, and what can be done with each.
import { useEffect, useRef, useState } from 'preact/hooks';
import { language, t, type TextKey } from '../i18n';
import * as chats from '../state/chats';
import { runs } from '../state/run';
import { download, fileName, toJson, toMarkdown } from '../state/transfer';
import type { Heading } from '../types';
import { Icons, Mark } from './icons';
import { Menu } from './menu';
import { focusComposer, narrow, notify, settingsOpen, shortcutsOpen, sidebarOpen } from './ui_state';

const kDay = 86_400_000;

function groupOf(time: number): TextKey {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return 'today';
  if (time >= midnight - kDay) return 'yesterday';
  return time >= midnight - 7 * kDay ? 'week' : 'older';
}

export async function exportChat(id: string, as: 'md' | 'json'): Promise<void> {
  const chat = await chats.find(id);
  if (!chat) return;
  if (as === 'json') download(fileName(chat.title, 'json'), 'application/json', toJson([chat]));
  else
    download(
      fileName(chat.title, 'md'),
      'text/markdown',
      toMarkdown(chat, { user: t('you'), assistant: t('assistant'), thoughts: t('thoughts') }),
    );
}

async function removeChat(id: string): Promise<void> {
  runs.value.get(id)?.abort.abort();
  const gone = await chats.removeChat(id);
  if (gone) notify(t('removed'), { label: t('undo'), run: () => void chats.addChats([gone]) });
}

function Entry({ heading, active }: { heading: Heading; active: boolean }) {
  const [renaming, setRenaming] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.select(), [renaming]);
  const done = (keep: boolean) => {
    const title = field.current?.value; // gone already when the field leaves the page and loses the focus by that
    if (keep && title !== undefined) void chats.rename(heading.id, title);
    setRenaming(false);
  };
  if (renaming) {
    return (
      <li class="entry renaming">
        <input
          ref={field}
          aria-label={t('rename')}
          defaultValue={heading.title}
          maxLength={200}
          onBlur={() => done(true)}
          onKeyDown={(e) => {
            if (e.isComposing) return;
            if (e.key === 'Enter') done(true);
            if (e.key === 'Escape') {
              e.stopPropagation();
              done(false);
            }
          }}
        />
      </li>
    );
  }
  const go = async () => {
    await chats.open(heading.id);
    if (narrow()) sidebarOpen.value = false;
    else focusComposer();
  };
  return (
    <li class={`entry${active ? ' active' : ''}`}>
      <button type="button" class="title" aria-current={active ? 'page' : undefined} onClick={go} title={heading.title}>
        {runs.value.has(heading.id) && <span class="pulse" aria-hidden="true" />}
        <span dir="auto">{heading.title}</span>
      </button>
      <Menu
        label={t('chatMenu', { title: heading.title })}
        items={[
          { label: t('rename'), icon: <Icons.edit />, run: () => setRenaming(true) },
          { label: t('exportMarkdown'), icon: <Icons.save />, run: () => void exportChat(heading.id, 'md') },
          { label: t('exportJson'), icon: <Icons.save />, run: () => void exportChat(heading.id, 'json') },
          { label: t('remove'), icon: <Icons.bin />, danger: true, run: () => void removeChat(heading.id) },
        ]}
      />
    </li>
  );
}

/** The headings that match the query: titles at once, texts as soon as they are read. */
function useSearch(query: string): Heading[] {
  const all = chats.headings.value;
  const [found, setFound] = useState<ReadonlySet<string>>(new Set());
  const wanted = query.trim().toLowerCase();
  useEffect(() => {
    setFound(new Set());
    if (!wanted) return;
    const abort = new AbortController();
    const timer = setTimeout(async () => {
      const ids = await chats.search(wanted, abort.signal);
      if (!abort.signal.aborted) setFound(ids);
    }, 120);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [wanted, all]);
  if (!wanted) return all;
  return all.filter((h) => found.has(h.id) || h.title.toLowerCase().includes(wanted));
}

export function newChat(): void {
  void chats.open(null).then(() => {
    if (narrow()) sidebarOpen.value = false;
    focusComposer();
  });
}

export function Sidebar() {
  const [query, setQuery] = useState('');
  const shown = useSearch(query);
  const currentId = chats.current.value?.id;
  const groups = new Map<TextKey, Heading[]>();
  for (const h of shown) {
    const name = groupOf(h.updated);
    const group = groups.get(name);
    if (group) group.push(h);
    else groups.set(name, [h]);
  }
  const open = sidebarOpen.value;
  return (
    <>
      <nav
        id="sidebar"
        class="sidebar"
        aria-label={t('chats')}
        inert={!open}
        lang={language.value === 'zh' ? 'zh-CN' : 'en'}
      >
        <div class="brand">
          <Mark />
          <span>Baize</span>
          {language.value === 'zh' && <span class="han">白泽</span>}
          <button
            type="button"
            class="ghost"
            onClick={() => (sidebarOpen.value = false)}
            aria-label={t('closeChats')}
            title={t('closeChats')}
          >
            <Icons.left />
          </button>
        </div>
        <button type="button" class="new" onClick={newChat}>
          <Icons.plus />
          {t('newChat')}
        </button>
        <div class="search">
          <Icons.search />
          <input
            id="search"
            type="search"
            placeholder={t('search')}
            aria-label={t('search')}
            value={query}
            onInput={(e) => setQuery(e.currentTarget.value)}
          />
        </div>
        <div class="entries">
          {shown.length === 0 && <p class="quiet">{t(query.trim() ? 'noMatches' : 'noChats')}</p>}
          {[...groups].map(([name, list]) => (
            <section aria-label={t(name)} key={name}>
              <h2>{t(name)}</h2>
              <ul>
                {list.map((h) => (
                  <Entry key={h.id} heading={h} active={h.id === currentId} />
                ))}
              </ul>
            </section>
          ))}
        </div>
        <div class="foot">
          <button type="button" class="ghost wide" onClick={() => (settingsOpen.value = true)}>
            <Icons.sliders />
            {t('settings')}
          </button>
          <button
            type="button"
            class="ghost"
            onClick={() => (shortcutsOpen.value = true)}
            aria-label={t('shortcuts')}
            title={t('shortcuts')}
          >
            <Icons.keys />
          </button>
        </div>
      </nav>
      {open && <div class="backdrop" onClick={() => (sidebarOpen.value = false)} />}
    </>
  );
}
