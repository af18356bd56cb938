// Where messages are written. Enter sends, but never while an input method is composing a character.
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import { signal } from '@preact/signals';
import { t } from '../i18n';
import * as chats from '../state/chats';
import { runs, send, stop } from '../state/run';
import { model } from '../state/server';
import { Icons } from './icons';
import { editing, narrow } from './ui_state';

const kTallest = 240;

// What is not sent yet, by conversation; '' is the new one's.
const drafts = new Map<string, string>();
const draft = signal('');

export function Composer() {
  const field = useRef<HTMLTextAreaElement>(null);
  const id = chats.current.value?.id ?? '';
  const running = runs.value.has(id);
  const text = draft.value;
  const ready = text.trim() !== '' && model.value !== undefined && !running;

  useEffect(() => {
    draft.value = drafts.get(id) ?? '';
    if (!narrow()) field.current!.focus();
  }, [id]);
  useLayoutEffect(() => {
    const area = field.current!;
    area.style.height = 'auto';
    area.style.height = `${Math.min(area.scrollHeight, kTallest)}px`;
  }, [text]);

  const write = (value: string) => {
    draft.value = value;
    drafts.set(id, value);
  };
  const submit = () => {
    if (!ready) return;
    write('');
    send(text.trim());
    field.current!.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === 'Enter' && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      submit();
    } else if (event.key === 'ArrowUp' && text === '' && !running) {
      const last = chats.shownPath.value.findLast((m) => m.role === 'user');
      if (!last) return;
      event.preventDefault();
      editing.value = last.id;
    }
  };
  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault();
        submit();
      }}
    >
      <div class="box">
        <textarea
          id="composer"
          ref={field}
          rows={1}
          dir="auto"
          enterkeyhint="send"
          aria-label={t('message')}
          placeholder={t('placeholder', { model: model.value ?? 'Baize' })}
          value={text}
          onInput={(e) => write(e.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {running ? (
          <button
            type="button"
            class="send stop"
            onClick={() => stop(id)}
            aria-label={t('stop')}
            title={`${t('stop')} (Esc)`}
          >
            <Icons.stop />
          </button>
        ) : (
          <button type="submit" class="send" disabled={!ready} aria-label={t('send')} title={t('send')}>
            <Icons.up />
          </button>
        )}
      </div>
      <p class="hint">{t('hint')}</p>
    </form>
  );
}
