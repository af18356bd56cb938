// Tokens of Markdown to elements. Text only ever becomes text nodes: no HTML of a model's is parsed, nothing is loaded.
import type { ComponentChildren, VNode } from 'preact';
import type { Token } from 'markdown-it';
import { t } from '../i18n';
import { CodeBlock, visibleControls } from './code';
import { safeHref } from './links';
import { Formula } from './formula';
import type { Block } from './parse';

type Children = ComponentChildren[];

const kPlain: Record<string, 'p' | 'ul' | 'blockquote' | 'thead' | 'tbody' | 'tr' | 'strong' | 'em' | 's'> = {
  paragraph_open: 'p',
  bullet_list_open: 'ul',
  blockquote_open: 'blockquote',
  thead_open: 'thead',
  tbody_open: 'tbody',
  tr_open: 'tr',
  strong_open: 'strong',
  em_open: 'em',
  s_open: 's',
};

/** A link, or its text alone if the address is not one to follow. The address shows on hover and to screen readers. */
function link(href: string, children: Children): ComponentChildren {
  const safe = safeHref(href);
  if (safe === null) return <span>{children}</span>;
  return (
    <a href={safe} title={safe} target="_blank" rel="noopener noreferrer nofollow" referrerpolicy="no-referrer">
      {children}
    </a>
  );
}

function element(open: Token, children: Children): ComponentChildren {
  const plain = kPlain[open.type];
  if (plain) {
    const Tag = plain;
    if (Tag === 'p') return open.hidden ? children : <p dir="auto">{children}</p>;
    return <Tag dir={Tag === 'ul' || Tag === 'blockquote' ? 'auto' : undefined}>{children}</Tag>;
  }
  switch (open.type) {
    case 'heading_open': {
      // The page and its messages own the first two levels.
      const Tag = `h${Math.min(6, Number(open.tag[1]) + 2)}` as 'h3';
      return (
        <Tag class={`heading-${open.tag[1]}`} dir="auto">
          {children}
        </Tag>
      );
    }
    case 'ordered_list_open':
      return (
        <ol start={Number(open.attrGet('start') ?? 1)} dir="auto">
          {children}
        </ol>
      );
    case 'list_item_open':
      return <li>{children}</li>;
    case 'table_open':
      return (
        <div class="table" tabIndex={0} role="region" aria-label={t('table')}>
          <table>{children}</table>
        </div>
      );
    case 'th_open':
    case 'td_open': {
      const Tag = open.type === 'th_open' ? 'th' : 'td';
      const align = /(left|center|right)/.exec(String(open.attrGet('style') ?? ''))?.[1];
      return (
        <Tag class={align && `align-${align}`} scope={Tag === 'th' ? 'col' : undefined} dir="auto">
          {children}
        </Tag>
      );
    }
    case 'link_open':
      return link(String(open.attrGet('href') ?? ''), children);
    default:
      return <>{children}</>;
  }
}

const kTask = /^\[([ xX])\]\s/;

function task(token: Token, children: Children): void {
  const first = token.children?.[0];
  const found = first?.type === 'text' ? kTask.exec(first.content) : null;
  if (!first || !found) return;
  const done = found[1] !== ' ';
  children[0] = first.content.slice(found[0].length);
  children.unshift(<span class={`task${done ? ' done' : ''}`} role="img" aria-label={done ? '[x]' : '[ ]'} />);
}

function leaf(token: Token, streaming: boolean): ComponentChildren {
  switch (token.type) {
    case 'text':
    case 'text_special':
    case 'html_inline':
    case 'html_block':
      return token.content;
    case 'softbreak':
    case 'hardbreak':
      return <br />;
    case 'code_inline':
      return <code dir="ltr">{visibleControls(token.content)}</code>;
    case 'fence':
    case 'code_block':
      return <CodeBlock code={token.content} info={token.info} streaming={streaming} />;
    case 'hr':
      return <hr />;
    case 'math':
    case 'math_block':
      if (token.meta?.pending) return <pre class="pending-math">{token.content}</pre>;
      return <Formula tex={token.content} display={token.meta?.display === true} />;
    case 'image':
      // Loading it would tell a stranger's server of this chat: a link does so only when followed.
      return link(String(token.attrGet('src') ?? ''), ['🖼 ', token.content || token.attrGet('src') || '']);
    case 'inline':
      return nest(token.children ?? [], streaming);
    default:
      return token.content;
  }
}

function nest(tokens: Token[], streaming: boolean): Children {
  const stack: { open: Token | null; children: Children }[] = [{ open: null, children: [] }];
  for (const token of tokens) {
    const top = stack[stack.length - 1]!;
    if (token.nesting > 0) {
      stack.push({ open: token, children: [] });
    } else if (token.nesting < 0) {
      if (stack.length === 1) continue;
      stack.pop();
      stack[stack.length - 1]!.children.push(element(top.open!, top.children));
    } else if (token.type === 'inline') {
      const children = nest(token.children ?? [], streaming);
      if (stack[stack.length - 2]?.open?.type === 'list_item_open') task(token, children);
      top.children.push(...children);
    } else {
      top.children.push(leaf(token, streaming));
    }
  }
  return stack[0]!.children;
}

const drawn = new WeakMap<Block, { streaming: boolean; node: VNode }>();

/** A block as one element. Drawing the same block again gives the same element, which Preact then does not look into. */
export function renderBlock(block: Block, streaming: boolean): VNode {
  const before = drawn.get(block);
  if (before?.streaming === streaming) return before.node;
  const node = (
    <div class="block" key={block.start}>
      {nest(block.tokens, streaming)}
    </div>
  );
  drawn.set(block, { streaming, node });
  return node;
}
