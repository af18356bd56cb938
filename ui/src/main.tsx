import { render } from 'preact';
import { App } from './components/app';
import { startChats } from './state/chats';
import { applyPreferences } from './state/preferences';
import { startServer } from './state/server';
import './styles.css';

applyPreferences();
startServer();
await startChats();
render(<App />, document.getElementById('app')!);
