// The small dialogs: the API key, when the server asks for one, and the list of keyboard shortcuts.
import { useRef } from 'preact/hooks';
import { t, type TextKey } from '../i18n';
import { keyQuestion } from '../state/server';
import { Dialog } from './dialog';
import { isMac, shortcutsOpen } from './ui_state';

export function KeyDialog() {
  const question = keyQuestion.value;
  const key = useRef<HTMLInputElement>(null);
  const remember = useRef<HTMLInputElement>(null);
  const close = () => keyQuestion.value?.answer(null, false);
  const submit = (e: Event) => {
    e.preventDefault();
    const value = key.current!.value.trim();
    if (value) question?.answer(value, remember.current!.checked);
  };
  return (
    <Dialog open={question !== null} title={t('keyNeeded')} onClose={close} class="small-dialog" focusInside>
      <form onSubmit={submit}>
        {question?.wrong && (
          <p class="wrong" role="alert">
            {t('keyWrong')}
          </p>
        )}
        <label class="field">
          <span>{t('apiKey')}</span>
          <input ref={key} type="password" autocomplete="off" spellcheck={false} autofocus required />
        </label>
        <label class="check">
          <input ref={remember} type="checkbox" defaultChecked />
          {t('keyRemember')}
        </label>
        <div class="row">
          <button type="button" class="plain" onClick={close}>
            {t('cancel')}
          </button>
          <button type="submit" class="primary">
            {t('keyContinue')}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

const ctrl = isMac ? '⌘' : 'Ctrl';
const kShortcuts: [TextKey, string[]][] = [
  ['scSend', ['Enter']],
  ['scLine', ['Shift', 'Enter']],
  ['scStop', ['Esc']],
  ['scEdit', ['↑']],
  ['scNew', [ctrl, 'Shift', 'O']],
  ['scSearch', [ctrl, 'K']],
  ['scFocus', ['/']],
  ['scSettings', [ctrl, ',']],
  ['scHelp', ['?']],
];

export function ShortcutsDialog() {
  return (
    <Dialog
      open={shortcutsOpen.value}
      title={t('shortcuts')}
      onClose={() => (shortcutsOpen.value = false)}
      class="small-dialog"
    >
      <dl class="shortcuts">
        {kShortcuts.map(([name, keys]) => (
          <div key={name}>
            <dt>{t(name)}</dt>
            <dd>
              {keys.map((k) => (
                <kbd key={k}>{k}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
