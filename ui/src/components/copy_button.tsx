// Copies a text and says so, also to screen readers. Where the clipboard is closed (plain http from elsewhere) it selects
// a hidden field and lets the browser copy that.
import { useRef, useState } from 'preact/hooks';
import { t } from '../i18n';
import { Icons } from './icons';

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = document.createElement('textarea');
    field.value = text;
    field.style.position = 'fixed';
    field.style.opacity = '0';
    document.body.append(field);
    field.select();
    document.execCommand('copy');
    field.remove();
  }
}

export function CopyButton({ text }: { text: () => string }) {
  const [copied, setCopied] = useState(false);
  const timer = useRef(0);
  const click = async () => {
    const focused = document.activeElement;
    await copy(text());
    if (focused instanceof HTMLElement) focused.focus();
    setCopied(true);
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => setCopied(false), 1600);
  };
  const label = t(copied ? 'copied' : 'copy');
  return (
    <button type="button" class="ghost small" onClick={click} title={label} aria-label={label}>
      {copied ? <Icons.check /> : <Icons.copy />}
    </button>
  );
}
