// One message of the conversation: what it says, what can be done with it, and where it stands among its versions.
import { memo } from 'preact/compat';
import { useEffect, useRef, useState } from 'preact/hooks';
import { number, seconds, t } from '../i18n';
import { Markdown } from '../markdown/markdown';
import * as chats from '../state/chats';
import { edit, regenerate, runs, type Live } from '../state/run';
import { contextOf } from '../state/server';
import { step, type Position } from '../tree';
import type { Message, Stats } from '../types';
import { CopyButton } from './copy_button';
import { Icons } from './icons';
import { editing, focusComposer } from './ui_state';

function Versions({ message, place }: { message: Message; place: Position | undefined }) {
  if (!place || place.ids.length < 2) return null;
  const { index, ids } = place;
  const go = (by: number) => {
    const id = chats.current.value?.id;
    if (id !== undefined) chats.change(id, (c) => step(c, message.id, by));
  };
  const label = t('version', { i: index + 1, n: ids.length });
  return (
    <span class="versions" role="group" aria-label={label}>
      <button
        type="button"
        class="ghost small"
        disabled={index === 0}
        onClick={() => go(-1)}
        aria-label={t('previous')}
        title={t('previous')}
      >
        <Icons.left />
      </button>
      <span aria-hidden="true">
        {index + 1} / {ids.length}
      </span>
      <button
        type="button"
        class="ghost small"
        disabled={index === ids.length - 1}
        onClick={() => go(1)}
        aria-label={t('next')}
        title={t('next')}
      >
        <Icons.right />
      </button>
    </span>
  );
}

function Figures({ stats, live }: { stats: Stats; live?: boolean }) {
  const parts: string[] = [];
  if (stats.tokensPerSecond !== undefined)
    parts.push(
      t('perSecond', {
        n: stats.tokensPerSecond < 100 ? stats.tokensPerSecond.toFixed(1) : number(Math.round(stats.tokensPerSecond)),
      }),
    );
  if (stats.firstTokenMs !== undefined) parts.push(t('firstToken', { s: seconds(stats.firstTokenMs) }));
  if (stats.completionTokens) parts.push(t('tokens', { n: number(stats.completionTokens) }));
  if (!live && stats.promptTokens !== undefined) {
    const cached = stats.cachedTokens ? ` (${t('cachedTokens', { n: number(stats.cachedTokens) })})` : '';
    parts.push(t('promptTokens', { n: number(stats.promptTokens) }) + cached);
  }
  return (
    <span class={live ? 'figures live' : 'figures'}>
      {parts.map((p) => (
        <span key={p}>{p}</span>
      ))}
    </span>
  );
}

function Thoughts({ text, live, ms }: { text: string; live: boolean; ms?: number }) {
  const label = live ? t('thinking') : ms !== undefined ? t('thought', { s: seconds(ms) }) : t('thoughts');
  return (
    <details class={live ? 'thoughts live' : 'thoughts'}>
      <summary>
        <span>{label}</span>
        <Icons.caret />
      </summary>
      <Markdown text={text} streaming={live} />
    </details>
  );
}

function Editor({ message }: { message: Message }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState(message.content);
  useEffect(() => {
    field.current!.focus();
    field.current!.setSelectionRange(text.length, text.length);
  }, []);
  const close = () => {
    editing.value = null;
    focusComposer();
  };
  const save = () => {
    if (!text.trim()) return;
    close();
    edit(message, text.trim());
  };
  return (
    <form
      class="editor"
      onSubmit={(e) => {
        e.preventDefault();
        save();
      }}
    >
      <textarea
        ref={field}
        dir="auto"
        aria-label={t('edit')}
        value={text}
        onInput={(e) => setText(e.currentTarget.value)}
        onKeyDown={(e) => {
          if (e.isComposing || e.keyCode === 229) return;
          if (e.key === 'Enter' && !e.shiftKey) {
            e.preventDefault();
            save();
          } else if (e.key === 'Escape') {
            e.stopPropagation();
            close();
          }
        }}
      />
      <div class="row">
        <button type="button" class="plain" onClick={close}>
          {t('cancel')}
        </button>
        <button type="submit" class="primary" disabled={!text.trim()}>
          {t('saveEdit')}
        </button>
      </div>
    </form>
  );
}

function UserMessage({ message, place, busy }: { message: Message; place: Position | undefined; busy: boolean }) {
  if (editing.value === message.id)
    return (
      <article class="message user" aria-label={t('you')}>
        <Editor message={message} />
      </article>
    );
  return (
    <article class="message user" aria-label={t('you')}>
      <div class="bubble" dir="auto">
        {message.content}
      </div>
      <div class="tools">
        <Versions message={message} place={place} />
        <CopyButton text={() => message.content} />
        <button
          type="button"
          class="ghost small"
          disabled={busy}
          onClick={() => (editing.value = message.id)}
          aria-label={t('edit')}
          title={t('edit')}
        >
          <Icons.edit />
        </button>
      </div>
    </article>
  );
}

function Ending({ message, busy }: { message: Message; busy: boolean }) {
  const { finish } = message;
  if (finish === 'error') {
    return (
      <div class="problem" role="alert">
        <Icons.warn />
        <span dir="auto">{message.error}</span>
        <button type="button" class="plain" disabled={busy} onClick={() => regenerate(message)}>
          {t('retry')}
        </button>
      </div>
    );
  }
  if (finish === 'length') return <p class="quiet">{t('endLength')}</p>;
  if (finish === 'stopped') return <p class="quiet">{t('endStopped')}</p>;
  if (finish !== 'stop') return <p class="quiet">{t('endInterrupted')}</p>;
  return message.content.trim() ? null : <p class="quiet">{t('emptyAnswer')}</p>;
}

const kFull = 0.75;

/** Says when the chat nears the end of what the model can hold. */
function Fullness({ message }: { message: Message }) {
  const context = contextOf(message.model);
  const used = (message.stats?.promptTokens ?? 0) + (message.stats?.completionTokens ?? 0);
  if (!context || used < kFull * context) return null;
  return <p class="quiet">{t('contextFull', { n: Math.min(100, Math.round((100 * used) / context)) })}</p>;
}

function Waiting() {
  return (
    <p class="waiting">
      <span class="dots" aria-hidden="true">
        <i />
        <i />
        <i />
      </span>
      {t('waiting')}
    </p>
  );
}

function LiveFigures({ live }: { live: Live }) {
  const waited = live.now - live.started;
  if (!live.stats.firstTokenMs) return waited > 1000 ? <span class="figures live">{seconds(waited)}</span> : null;
  return <Figures stats={live.stats} live />;
}

/** An answer, while it is written and afterwards: the same elements, so that nothing jumps or folds when it ends. */
function Answer({ message, place, busy }: { message: Message; place: Position | undefined; busy: boolean }) {
  const run = [...runs.value.values()].find((r) => r.message === message.id);
  const live = run?.live.value;
  const { content, reasoning } = live ?? message;
  const stats = live?.stats ?? message.stats;
  return (
    <article class="message assistant" aria-label={t('assistant')} aria-busy={live ? 'true' : undefined}>
      {reasoning && <Thoughts key="thoughts" text={reasoning} live={live?.thinking === true} ms={stats?.thinkingMs} />}
      {content && <Markdown key="text" text={content} streaming={live !== undefined} />}
      {live && !content && !reasoning && <Waiting />}
      {!live && <Ending message={message} busy={busy} />}
      {!live && <Fullness message={message} />}
      <div class="tools" key="tools">
        {live && <LiveFigures live={live} />}
        {!live && (
          <>
            <Versions message={message} place={place} />
            {content && <CopyButton text={() => content} />}
            <button
              type="button"
              class="ghost small"
              disabled={busy}
              onClick={() => regenerate(message)}
              aria-label={t('regenerate')}
              title={t('regenerate')}
            >
              <Icons.again />
            </button>
            {stats && message.finish !== 'error' && <Figures stats={stats} />}
          </>
        )}
      </div>
    </article>
  );
}

interface Props {
  message: Message;
  place: Position | undefined;
  busy: boolean;
  language: string; // drawn anew when it changes
}

const same = (a: Props, b: Props) =>
  a.message === b.message &&
  a.busy === b.busy &&
  a.language === b.language &&
  a.place?.index === b.place?.index &&
  a.place?.ids.length === b.place?.ids.length;

export const MessageView = memo(
  ({ message, place, busy }: Props) =>
    message.role === 'user' ? (
      <UserMessage message={message} place={place} busy={busy} />
    ) : (
      <Answer message={message} place={place} busy={busy} />
    ),
  same,
);
