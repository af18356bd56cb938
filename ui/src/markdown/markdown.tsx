// A text of a model's, drawn as Markdown; see parse.ts for how it stays cheap while the text grows.
import { useRef } from 'preact/hooks';
import { Document } from './parse';
import { renderBlock } from './render';

export function Markdown({ text, streaming }: { text: string; streaming: boolean }) {
  const document = useRef<Document>(null);
  document.current ??= new Document();
  const blocks = document.current.update(text, !streaming);
  return (
    <div class="markdown">{blocks.map((block, i) => renderBlock(block, streaming && i === blocks.length - 1))}</div>
  );
}
