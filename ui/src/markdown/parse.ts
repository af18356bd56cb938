// Markdown to tokens, block by block. While an answer is being written only its last block is parsed again: blocks before
// it can no longer change, and keep their identity so that nothing of them is drawn again.
import MarkdownIt from 'markdown-it';
import cjkFriendly from 'markdown-it-cjk-friendly';
import type { Env, Token } from 'markdown-it';
import { safeHref } from './links';
import { mathRules } from './math_rules';

const md = new MarkdownIt({ html: false, linkify: true, breaks: true, maxNesting: 50 });
md.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
md.linkify.add('ftp:', null).add('//', null);
md.validateLink = (url) => safeHref(url) !== null;
md.use(cjkFriendly); // **“中文”**紧接 is bold without a space, too
md.use(mathRules);

/** One block at the top of a document: a paragraph, a list, a table... `start` is its place in the text, for a key. */
export interface Block {
  start: number;
  tokens: Token[];
}

/** Groups tokens by the block at the top that they belong to. */
function group(tokens: Token[]): { line: number; tokens: Token[] }[] {
  const groups: { line: number; tokens: Token[] }[] = [];
  let depth = 0;
  for (const token of tokens) {
    if (depth === 0) groups.push({ line: token.map?.[0] ?? 0, tokens: [] });
    groups[groups.length - 1]!.tokens.push(token);
    depth += token.nesting;
  }
  return groups;
}

/** Offsets of the lines of a text as markdown-it counts them. */
function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

export class Document {
  private done: Block[] = [];
  private stable = ''; // the text of the blocks that are done
  private env: Env = { streaming: true };

  /** The blocks of `text`. With `final` the text is whole: formulas left open and late link definitions are settled. */
  update(text: string, final: boolean): Block[] {
    text = text.replace(/\r\n?/g, '\n');
    if (!text.startsWith(this.stable)) this.reset();
    if (final && this.env.references && Object.keys(this.env.references).length > 0) this.reset();
    this.env.streaming = !final;
    const offset = this.stable.length;
    const tail = text.slice(offset);
    const groups = group(md.parse(tail, this.env));
    const starts = lineStarts(tail);
    const blocks = groups.map((g) => ({ start: offset + (starts[g.line] ?? 0), tokens: g.tokens }));
    const shown = [...this.done, ...blocks];
    const last = blocks.pop();
    if (last && blocks.length > 0 && !final) {
      this.done = [...this.done, ...blocks];
      this.stable = text.slice(0, last.start);
    }
    return shown;
  }

  private reset(): void {
    this.done = [];
    this.stable = '';
    this.env = { streaming: true };
  }
}
