// Text of a model's as a screen reader should hear it.

/** What of `text` from `from` on is whole sentences: where they end. */
export function sentencesEnd(text: string, from: number): number {
  let end = from;
  for (const found of text.slice(from).matchAll(/[.!?](?=\s)|[。！？]|\n/g)) end = from + found.index + 1;
  return end;
}

/** Without the marks of Markdown, which would be read out. */
export const spoken = (text: string) =>
  text
    .replace(/[`*_#|>~]+/g, ' ')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/\s+/g, ' ')
    .trim();
