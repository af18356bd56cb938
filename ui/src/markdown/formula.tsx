// A formula, as MathML that the browser sets itself: no fonts, no style sheet, no HTML parsed.
import { useLayoutEffect, useRef } from 'preact/hooks';
import temml from 'temml';

const kLongest = 10_000;
const kElements = new Set(['math', 'span']);

/** Takes away what a formula has no need of, should Temml let it through: links, handlers, foreign elements. */
function strip(root: Element): void {
  for (const child of Array.from(root.querySelectorAll('*'))) {
    const mathml = child.namespaceURI === 'http://www.w3.org/1998/Math/MathML';
    if (!mathml && !kElements.has(child.localName)) {
      child.replaceWith(child.textContent ?? '');
      continue;
    }
    for (const { name } of Array.from(child.attributes)) {
      if (/^on|href|src|action|^id$/i.test(name)) child.removeAttribute(name);
    }
  }
}

export function Formula({ tex, display }: { tex: string; display: boolean }) {
  const ref = useRef<HTMLSpanElement>(null);
  useLayoutEffect(() => {
    const target = ref.current!;
    const plain = () => target.replaceChildren(Object.assign(document.createElement('code'), { textContent: tex }));
    if (tex.length > kLongest) return plain();
    try {
      temml.render(tex, target, {
        displayMode: display,
        throwOnError: true,
        trust: false,
        strict: false,
        maxExpand: 200,
        maxSize: [20, 20],
      });
      strip(target);
    } catch {
      plain();
    }
  }, [tex, display]);
  return <span ref={ref} class={display ? 'formula display' : 'formula'} title={tex.length < 500 ? tex : undefined} />;
}
