// The settings: of this chat, of new chats, and of the page. Every change counts at once.
import { useRef, useState } from 'preact/hooks';
import { t, type TextKey } from '../i18n';
import * as chats from '../state/chats';
import { apiKey, preferences, setApiKey, setPreferences } from '../state/preferences';
import { refresh } from '../state/server';
import {
  download,
  fromJson,
  ImportError,
  inLimits,
  kLimits,
  kNumericSettings,
  toJson,
  type NumericSetting,
} from '../state/transfer';
import type { Preferences, Settings } from '../types';
import { Dialog } from './dialog';
import { Icons } from './icons';
import { notify, settingsOpen } from './ui_state';

const kSteps: Partial<Record<NumericSetting, number>> = {
  temperature: 0.1,
  top_p: 0.05,
  min_p: 0.01,
  presence_penalty: 0.1,
  frequency_penalty: 0.1,
  repetition_penalty: 0.05,
};

type Change = (change: Partial<Settings>) => void;

function NumberField({ name, value, change }: { name: NumericSetting; value: number | undefined; change: Change }) {
  const [wrong, setWrong] = useState(false);
  const [least, most] = kLimits[name];
  const onInput = (e: { currentTarget: HTMLInputElement }) => {
    const { value: text, validity } = e.currentTarget;
    const number = Number(text);
    const fine = !validity.badInput && (text === '' || inLimits(name, number));
    setWrong(!fine);
    if (fine) change({ [name]: text === '' ? undefined : number });
  };
  return (
    <label class="field">
      <span>{t(name)}</span>
      <input
        type="number"
        inputMode="decimal"
        step={kSteps[name] ?? 1}
        min={least}
        max={most}
        placeholder={t('auto')}
        defaultValue={value === undefined ? '' : String(value)}
        aria-invalid={wrong}
        aria-describedby={wrong ? `wrong-${name}` : undefined}
        onInput={onInput}
      />
      {wrong && (
        <small class="wrong" id={`wrong-${name}`} role="alert">
          {t('range', { min: least, max: most })}
        </small>
      )}
    </label>
  );
}

function SettingsForm({ settings, change }: { settings: Settings; change: Change }) {
  return (
    <>
      <label class="field">
        <span>{t('system')}</span>
        <textarea
          rows={3}
          dir="auto"
          placeholder={t('systemHint')}
          value={settings.system ?? ''}
          onInput={(e) => change({ system: e.currentTarget.value || undefined })}
        />
      </label>
      <fieldset>
        <legend>{t('sampling')}</legend>
        <p class="quiet">{t('samplingHint')}</p>
        <div class="grid">
          {kNumericSettings.map((name) => (
            <NumberField key={name} name={name} value={settings[name]} change={change} />
          ))}
          <label class="field">
            <span>{t('thinkingMode')}</span>
            <select
              value={settings.thinking === undefined ? 'auto' : String(settings.thinking)}
              onChange={(e) =>
                change({ thinking: e.currentTarget.value === 'auto' ? undefined : e.currentTarget.value === 'true' })
              }
            >
              <option value="auto">{t('thinkingAuto')}</option>
              <option value="true">{t('thinkingOn')}</option>
              <option value="false">{t('thinkingOff')}</option>
            </select>
          </label>
        </div>
      </fieldset>
    </>
  );
}

const without = (settings: Settings): Settings =>
  Object.fromEntries(Object.entries(settings).filter(([, v]) => v !== undefined));

function Choice<T extends string>({
  name,
  value,
  options,
  change,
}: {
  name: TextKey;
  value: T;
  options: [T, string][];
  change: (value: T) => void;
}) {
  return (
    <label class="field">
      <span>{t(name)}</span>
      <select value={value} onChange={(e) => change(e.currentTarget.value as T)}>
        {options.map(([key, label]) => (
          <option key={key} value={key}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}

async function importFile(file: File | undefined): Promise<void> {
  if (!file) return;
  try {
    const read = fromJson(await file.text());
    await chats.addChats(read);
    notify(t('imported', { n: read.length }));
  } catch (error) {
    notify(t('importFailed', { reason: error instanceof ImportError ? error.message : String(error) }));
  }
}

function General() {
  const { theme, language } = preferences.value;
  const file = useRef<HTMLInputElement>(null);
  const [sure, setSure] = useState(false);
  const n = chats.headings.value.length;
  return (
    <>
      <div class="grid">
        <Choice<Preferences['theme']>
          name="theme"
          value={theme}
          change={(v) => setPreferences({ theme: v })}
          options={[
            ['auto', t('themeAuto')],
            ['light', t('themeLight')],
            ['dark', t('themeDark')],
          ]}
        />
        <Choice<Preferences['language']>
          name="language"
          value={language}
          change={(v) => setPreferences({ language: v })}
          options={[
            ['auto', t('languageAuto')],
            ['en', 'English'],
            ['zh', '中文'],
          ]}
        />
      </div>
      <label class="field">
        <span>{t('apiKey')}</span>
        <input
          type="password"
          autocomplete="off"
          spellcheck={false}
          value={apiKey.value}
          onChange={(e) => {
            setApiKey(e.currentTarget.value.trim(), true);
            void refresh();
          }}
        />
        <small class="quiet">{t('apiKeyHint')}</small>
      </label>
      <fieldset>
        <legend>{t('data')}</legend>
        <p class="quiet">{chats.persistent.value ? t('dataHint') : t('errStorage')}</p>
        <div class="row start">
          <button
            type="button"
            class="plain"
            disabled={n === 0}
            onClick={async () => download('baize-chats.json', 'application/json', toJson(await chats.allChats()))}
          >
            <Icons.save />
            {t('exportAll')}
          </button>
          <button type="button" class="plain" onClick={() => file.current!.click()}>
            <Icons.up />
            {t('importChats')}
          </button>
          <input
            ref={file}
            type="file"
            accept=".json,application/json"
            hidden
            onChange={(e) => {
              void importFile(e.currentTarget.files?.[0]);
              e.currentTarget.value = '';
            }}
          />
          {!sure && (
            <button type="button" class="plain danger" disabled={n === 0} onClick={() => setSure(true)}>
              <Icons.bin />
              {t('removeAll')}
            </button>
          )}
        </div>
        {sure && (
          <div class="problem" role="alert">
            <span>{t('removeAllSure', { n })}</span>
            <button type="button" class="plain" onClick={() => setSure(false)}>
              {t('cancel')}
            </button>
            <button
              type="button"
              class="plain danger"
              onClick={async () => {
                setSure(false);
                await chats.removeAllChats();
                notify(t('allRemoved'));
              }}
            >
              {t('remove')}
            </button>
          </div>
        )}
      </fieldset>
    </>
  );
}

export function SettingsDialog() {
  const conversation = chats.current.value;
  const [tab, setTab] = useState<'chat' | 'new' | 'general'>('chat');
  const shown = tab === 'chat' && !conversation ? 'new' : tab;
  const tabs = [
    ...(conversation ? [['chat', t('thisChat')] as const] : []),
    ['new', t('allChats')] as const,
    ['general', t('general')] as const,
  ];
  const changeChat: Change = (change) =>
    conversation && chats.change(conversation.id, (c) => ({ ...c, settings: without({ ...c.settings, ...change }) }));
  const changeDefaults: Change = (change) =>
    setPreferences({ defaults: without({ ...preferences.value.defaults, ...change }) });
  const move = (e: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
    if (!by) return;
    const at = tabs.findIndex(([name]) => name === shown);
    const next = tabs[(at + by + tabs.length) % tabs.length]![0];
    setTab(next);
    document.getElementById(`tab-${next}`)?.focus();
  };
  return (
    <Dialog
      open={settingsOpen.value}
      title={t('settings')}
      onClose={() => (settingsOpen.value = false)}
      class="settings"
    >
      <div role="tablist" aria-label={t('settings')} class="tabs" onKeyDown={move}>
        {tabs.map(([name, label]) => (
          <button
            type="button"
            role="tab"
            key={name}
            id={`tab-${name}`}
            aria-selected={name === shown}
            aria-controls="tab-body"
            tabIndex={name === shown ? 0 : -1}
            onClick={() => setTab(name)}
          >
            {label}
          </button>
        ))}
      </div>
      <div id="tab-body" role="tabpanel" aria-labelledby={`tab-${shown}`} class="tab-body">
        {shown === 'chat' && conversation && (
          <>
            <SettingsForm
              key={`${conversation.id} ${conversation.settings === preferences.value.defaults}`}
              settings={conversation.settings}
              change={changeChat}
            />
            <button
              type="button"
              class="plain"
              onClick={() =>
                changeChat({
                  ...Object.fromEntries(Object.keys(conversation.settings).map((k) => [k, undefined])),
                  ...preferences.value.defaults,
                })
              }
            >
              {t('useDefaults')}
            </button>
          </>
        )}
        {shown === 'new' && (
          <SettingsForm key="defaults" settings={preferences.value.defaults} change={changeDefaults} />
        )}
        {shown === 'general' && <General />}
      </div>
    </Dialog>
  );
}
