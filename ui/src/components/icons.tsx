// The page's pictures, drawn for it: line icons of 20 units, and the mark, a Baize: the white beast of good counsel.
import type { ComponentChildren } from 'preact';

const icon = (children: ComponentChildren) => () => (
  <svg class="icon" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
    {children}
  </svg>
);

export const Icons = {
  plus: icon(<path d="M10 4v12M4 10h12" />),
  menu: icon(<path d="M3.500 5.500h13M3.500 10h13M3.500 14.500h8" />),
  search: icon(<><circle cx="9" cy="9" r="5" /><path d="m13 13 3.500 3.500" /></>),
  sliders: icon(<><path d="M3 6h7M14 6h3M3 14h3M10 14h7" /><circle cx="12" cy="6" r="2" /><circle cx="8" cy="14" r="2" /></>),
  more: icon(<g fill="currentColor" stroke="none"><circle cx="4.500" cy="10" r="1.500" /><circle cx="10" cy="10" r="1.500" /><circle cx="15.500" cy="10" r="1.500" /></g>),
  copy: icon(<><rect x="7" y="7" width="9.500" height="9.500" rx="2" /><path d="M13 4.500A1.500 1.500 0 0 0 11.500 3H5a2 2 0 0 0-2 2v6.500A1.500 1.500 0 0 0 4.500 13" /></>),
  check: icon(<path d="m4 10.500 4 4 8-9" />),
  edit: icon(<path d="m4 16 .800-3.400L13 4.400a1.800 1.800 0 0 1 2.600 2.600l-8.200 8.200Z" />),
  again: icon(<><path d="M15.800 8A6.200 6.200 0 1 0 16 11.500" /><path d="M16.300 4.200V8h-3.800" /></>),
  left: icon(<path d="m12 5-5 5 5 5" />),
  right: icon(<path d="m8 5 5 5-5 5" />),
  down: icon(<path d="M10 4v12m0 0 5-5m-5 5-5-5" />),
  up: icon(<path d="M10 16V4m0 0 5 5m-5-5L5 9" />),
  stop: icon(<rect x="5.500" y="5.500" width="9" height="9" rx="2" fill="currentColor" stroke="none" />),
  close: icon(<path d="m5 5 10 10M15 5 5 15" />),
  bin: icon(<path d="M3.500 5.500h13M8 5.500V4a1 1 0 0 1 1-1h2a1 1 0 0 1 1 1v1.500M5 5.500l.700 10a1.600 1.600 0 0 0 1.600 1.500h5.400a1.600 1.600 0 0 0 1.600-1.500l.700-10M8.300 9v4.500M11.700 9v4.500" />),
  save: icon(<path d="M10 3v9m0 0 3.500-3.500M10 12 6.500 8.500M3.500 13.500V15a2 2 0 0 0 2 2h9a2 2 0 0 0 2-2v-1.500" />),
  keys: icon(<><rect x="2.500" y="5" width="15" height="10" rx="2" /><path d="M5.500 8h.010M8.500 8h.010M11.500 8h.010M14.500 8h.010M7 12h6" /></>),
  caret: icon(<path d="m6 8 4 4 4-4" />),
  warn: icon(<><path d="M10 7v4M10 13.800v.010" /><path d="M8.700 3.600 2.400 14.300A1.500 1.500 0 0 0 3.700 16.500h12.600a1.500 1.500 0 0 0 1.300-2.200L11.300 3.600a1.500 1.500 0 0 0-2.600 0Z" /></>),
};

/** The beast's head: swept horns, a mane of clouds, and the third eye that sees the nature of all things. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 64 64" fill="none" stroke="currentColor" stroke-width="2.6" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" focusable="false">
      <path d="M25 22C17 21 11 15 13 5c3 6 7 9 14 11M39 22c8-1 14-7 12-17-3 6-7 9-14 11" />
      <path d="M19 23a7 7 0 0 0-9 9 7 7 0 0 0-1 12 7 7 0 0 0 8 10M45 23a7 7 0 0 1 9 9 7 7 0 0 1 1 12 7 7 0 0 1-8 10" />
      <path d="M20 25c3-6 7-8 12-8s9 2 12 8c3 7 2 14-2 20-3 5-6 9-10 9s-7-4-10-9c-4-6-5-13-2-20Z" />
      <path d="M22.500 34c2-1.600 4.500-1.600 6.500.500M41.500 34c-2-1.600-4.500-1.600-6.500.500" />
      <path d="M29 45.500c2 1.600 4 1.600 6 0M32 43v3" />
      <circle cx="32" cy="25.500" r="2.200" fill="currentColor" stroke="none" />
    </svg>
  );
}
