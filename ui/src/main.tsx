import { render } from 'preact';
import { App } from './components/app';
import { startChats } from './state/chats';
import { applyPreferences } from './state/preferences';
import { startServer } from './state/server';
import './styles.css';

/** Keeps the page above the keyboard of a phone whose browser lays it over the page (Safari). */
function fitKeyboard(): void {
  const view = window.visualViewport;
  view?.addEventListener('resize', () => {
    const covered = view.scale === 1 && window.innerHeight - view.height > 100;
    if (covered) document.documentElement.style.setProperty('--height', `${view.height}px`);
    else document.documentElement.style.removeProperty('--height');
    window.scrollTo(0, 0);
  });
}

applyPreferences();
fitKeyboard();
startServer();
await startChats();
render(<App />, document.getElementById('app')!);
