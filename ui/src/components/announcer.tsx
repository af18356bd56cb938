// Reads an answer to screen readers while it is written: whole sentences, every few seconds, politely.
import { useEffect, useState } from 'preact/hooks';
import { t } from '../i18n';
import type { Run } from '../state/run';

const kEveryMs = 3000;
const kLongest = 600; // characters at a time; a fast model outruns any voice

/** What of `text` from `from` on is whole sentences: where they end. */
export function sentencesEnd(text: string, from: number): number {
  let end = from;
  for (const found of text.slice(from).matchAll(/[.!?](?=\s)|[。！？]|\n/g)) end = from + found.index + 1;
  return end;
}

/** Without the marks of Markdown, which would be read out. */
export const spoken = (text: string) => text.replace(/[`*_#|>~]+/g, ' ').replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/\s+/g, ' ').trim();

export function Announcer({ run }: { run: Run }) {
  const [text, setText] = useState(() => t('answering'));
  useEffect(() => {
    let from = 0;
    const timer = setInterval(() => {
      const { content } = run.live.peek();
      const end = sentencesEnd(content, from);
      if (end === from) return;
      const next = spoken(content.slice(Math.max(from, end - kLongest), end));
      from = end;
      if (next) setText(next);
    }, kEveryMs);
    return () => clearInterval(timer);
  }, [run]);
  return <div class="unseen" role="status" aria-live="polite">{text}</div>;
}
