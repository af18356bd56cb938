// A block of code: its language, a copy button, highlighting by highlight.js as elements (never as HTML text).
import { useMemo } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { createLowlight } from 'lowlight';
import { CopyButton } from '../components/copy_button';
import { languages } from './languages';

const lowlight = createLowlight(languages);
lowlight.registerAlias({ xml: ['vue', 'svelte'], ini: ['conf'], bash: ['console', 'shell-session'], python: ['py3'] });

const kLongestWhileStreaming = 6_000;
const kLongest = 120_000;

// Characters that reorder or hide text: code that shows one thing and copies another must not go unseen.
const kHidden = /([\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff])/;

/** The text with such characters shown by their code. */
export function visibleControls(text: string): ComponentChildren {
  if (!kHidden.test(text)) return text;
  return text
    .split(kHidden)
    .map((part, i) =>
      i % 2 ? <span class="control">U+{part.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}</span> : part,
    );
}

interface HastNode {
  type: string;
  value?: string;
  properties?: { className?: string[] };
  children?: HastNode[];
}

function toElements(nodes: HastNode[]): ComponentChildren[] {
  return nodes.map((node) =>
    node.type === 'text' ? (
      visibleControls(node.value ?? '')
    ) : (
      <span class={(node.properties?.className ?? []).join(' ')}>{toElements(node.children ?? [])}</span>
    ),
  );
}

export function highlight(code: string, language: string): ComponentChildren {
  if (!lowlight.registered(language)) return visibleControls(code);
  try {
    return toElements(lowlight.highlight(language, code).children as HastNode[]);
  } catch {
    return visibleControls(code);
  }
}

/** The language that a fence names: ```c++ {1,2} and ```python title="x" name C++ and Python. */
export const languageOf = (info: string) => /^[\w+#.-]{1,30}/.exec(info.trim())?.[0]?.toLowerCase() ?? '';

export function CodeBlock({ code, info, streaming }: { code: string; info: string; streaming: boolean }) {
  const language = languageOf(info);
  const body = useMemo(
    () =>
      code.length > (streaming ? kLongestWhileStreaming : kLongest) ? visibleControls(code) : highlight(code, language),
    [code, language, streaming],
  );
  return (
    <figure class="code" dir="ltr">
      <figcaption>
        <span>{language}</span>
        <CopyButton text={() => code} />
      </figcaption>
      <pre tabIndex={0} role="region" aria-label={language || 'code'}>
        <code>{body}</code>
      </pre>
    </figure>
  );
}
