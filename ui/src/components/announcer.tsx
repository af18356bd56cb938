// Reads an answer to screen readers while it is written: whole sentences, every few seconds, politely.
import { useEffect } from 'preact/hooks';
import { t } from '../i18n';
import { sentencesEnd, spoken } from '../speech';
import { runs, type Run } from '../state/run';
import { announcement } from './ui_state';

const kEveryMs = 3000;
const kLongest = 600; // characters at a time; a fast model outruns any voice

export function Announcer({ run }: { run: Run }) {
  useEffect(() => {
    announcement.value = t('answering');
    let from = 0;
    const timer = setInterval(() => {
      const { content } = run.live.peek();
      const end = sentencesEnd(content, from);
      if (end === from) return;
      const next = spoken(content.slice(Math.max(from, end - kLongest), end));
      from = end;
      if (next) announcement.value = next;
    }, kEveryMs);
    return () => {
      clearInterval(timer);
      announcement.value = runs.peek().has(run.conversation) ? '' : t('answerDone');
    };
  }, [run]);
  return null;
}
