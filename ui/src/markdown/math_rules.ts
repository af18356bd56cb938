// Formulas in Markdown: $...$, \(...\) inside a line; $$...$$, \[...\] displayed. Dollars follow pandoc's rule (no space
// inside, no digit behind), so that prices stay prices.
import type { MarkdownIt, StateBlock, StateInline } from 'markdown-it';

const kPairs: [open: string, close: string, display: boolean][] = [
  ['$$', '$$', true],
  ['\\[', '\\]', true],
  ['\\(', '\\)', false],
  ['$', '$', false],
];

/** Where `close` stands from `from` on, not behind a backslash of its own; -1 if nowhere. */
function find(text: string, close: string, from: number, end: number): number {
  for (let at = text.indexOf(close, from); at >= 0 && at + close.length <= end; at = text.indexOf(close, at + 1)) {
    let slashes = 0;
    while (at - slashes - 1 >= from && text[at - slashes - 1] === '\\') slashes++;
    if (slashes % 2 === 0) return at;
  }
  return -1;
}

function inlineMath(state: StateInline, silent: boolean): boolean {
  const { src, pos, posMax } = state;
  for (const [open, close, display] of kPairs) {
    if (!src.startsWith(open, pos)) continue;
    const from = pos + open.length;
    const at = find(src, close, from, posMax);
    if (at <= from) return false;
    if (open === '$') {
      if (/\s/.test(src[from]!) || /\s/.test(src[at - 1]!) || /\d/.test(src[at + 1] ?? '') || src[at + 1] === '$')
        return false;
      if (src.slice(from, at).includes('\n\n')) return false;
    }
    if (!silent) {
      const token = state.push('math', 'math', 0);
      token.content = src.slice(from, at);
      token.meta = { display };
    }
    state.pos = at + close.length;
    return true;
  }
  return false;
}

function blockMath(state: StateBlock, startLine: number, endLine: number, silent: boolean): boolean {
  const start = state.bMarks[startLine]! + state.tShift[startLine]!;
  if (state.sCount[startLine]! - state.blkIndent >= 4) return false;
  const pair = kPairs.find(([open, , display]) => display && state.src.startsWith(open, start));
  if (!pair) return false;
  const [open, close] = pair;
  // The closing mark must end its line; a blank line or the end of the enclosing block ends the search.
  let line = startLine;
  let from = start + open.length;
  let at = -1;
  for (; line < endLine; line++) {
    if (line > startLine && (state.isEmpty(line) || state.sCount[line]! < state.blkIndent)) break;
    const end = state.eMarks[line]!;
    at = find(state.src, close, Math.max(from, state.bMarks[line]!), end);
    if (at >= 0) {
      if (state.src.slice(at + close.length, end).trim() !== '') return false;
      break;
    }
    from = start + open.length;
  }
  const pending = at < 0;
  // Text that ends inside a formula: while it is being written, keep it together and do not read it as Markdown.
  if (pending && !(state.env.streaming === true && line === endLine)) return false;
  if (silent) return true;
  const token = state.push('math_block', 'math', 0);
  token.block = true;
  token.content = state.src.slice(start + open.length, pending ? state.eMarks[line - 1] : at);
  token.meta = { display: true, pending };
  token.map = [startLine, pending ? line : line + 1];
  state.line = pending ? line : line + 1;
  return true;
}

export function mathRules(md: MarkdownIt): void {
  md.inline.ruler.before('escape', 'math', inlineMath);
  md.block.ruler.before('fence', 'math', blockMath, { alt: ['paragraph', 'reference', 'blockquote', 'list'] });
}
