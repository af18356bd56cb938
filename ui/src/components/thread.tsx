// The conversation on show. It follows the newest text while the reader is at the end, and stays put otherwise.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { language, t } from '../i18n';
import * as chats from '../state/chats';
import { runs, send } from '../state/run';
import { model } from '../state/server';
import { Announcer } from './announcer';
import { Icons, Mark } from './icons';
import { MessageView } from './message';

const kNear = 80; // pixels from the end that still count as the end
const kPage = 40; // messages drawn at first, and more each time the reader comes near the top
const kTop = 1200; // pixels from the top

function Welcome() {
  return (
    <div class="welcome">
      <Mark />
      <h2>{t('greeting')}</h2>
      <div class="ideas">
        {(['idea1', 'idea2', 'idea3'] as const).map((key) => (
          <button type="button" key={key} disabled={!model.value} onClick={() => send(t(key))}>
            {t(key)}
          </button>
        ))}
      </div>
    </div>
  );
}

export function Thread() {
  const box = useRef<HTMLDivElement>(null);
  const inside = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  const [away, setAway] = useState(false);
  const [drawn, setDrawn] = useState(kPage);
  const fromEnd = useRef(0); // where the reader stood, while earlier messages come in above
  const conversation = chats.current.value;
  const shown = chats.shownPath.value;
  const places = chats.shownPositions.value;
  const run = conversation ? runs.value.get(conversation.id) : undefined;

  const toEnd = () => {
    follow.current = true;
    box.current!.scrollTop = box.current!.scrollHeight;
  };
  useLayoutEffect(() => {
    setDrawn(kPage);
    toEnd();
  }, [conversation?.id]);
  useLayoutEffect(() => {
    if (drawn > kPage && !follow.current) box.current!.scrollTop = box.current!.scrollHeight - fromEnd.current;
  }, [drawn]);
  useEffect(() => {
    if (run) toEnd(); // a new question: look at its answer
  }, [run?.message]);
  useEffect(() => {
    const watch = new ResizeObserver(() => follow.current && toEnd());
    watch.observe(inside.current!);
    watch.observe(box.current!);
    return () => watch.disconnect();
  }, []);
  // Only the reader lets go of the end: by wheel, touch, keys or the scroll bar, all of which move up.
  const lastTop = useRef(0);
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = box.current!;
    const left = scrollHeight - clientHeight - scrollTop;
    if (left < kNear) follow.current = true;
    else if (scrollTop < lastTop.current - 2) follow.current = false;
    lastTop.current = scrollTop;
    setAway(left > 240);
    if (scrollTop < kTop && drawn < shown.length && !follow.current) {
      fromEnd.current = scrollHeight - scrollTop;
      setDrawn(drawn + kPage);
    }
  };
  return (
    <div class="thread" ref={box} onScroll={onScroll}>
      <div class="column" ref={inside}>
        {shown.length === 0 && <Welcome />}
        {shown.slice(-drawn).map((m) => (
          <MessageView
            key={m.id}
            message={m}
            place={places.get(m.id)}
            busy={run !== undefined}
            language={language.value}
          />
        ))}
      </div>
      {run && <Announcer run={run} key={run.message} />}
      <button
        type="button"
        class="to-end"
        hidden={!away}
        onClick={toEnd}
        aria-label={t('toBottom')}
        title={t('toBottom')}
      >
        <Icons.down />
      </button>
    </div>
  );
}
