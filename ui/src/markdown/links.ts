// Which links of a model's answer may become links: web pages and mail addresses, nothing else.

const kControl = /[\u0000-\u0020\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/;

/** The address to link to, or null if the text must stay text. Relative addresses are refused: an answer has no base. */
export function safeHref(address: string): string | null {
  if (kControl.test(address)) return null;
  let url: URL;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (url.protocol === 'mailto:') return url.href;
  if ((url.protocol !== 'http:' && url.protocol !== 'https:') || !/^https?:\/\//i.test(address)) return null;
  // `https://bank.example@evil.example` looks like another host than it is.
  return url.username || url.password ? null : url.href;
}
