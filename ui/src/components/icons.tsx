// The page's pictures, drawn for it: line icons of 20 units, and the mark, a Baize: the white beast of good counsel.
import type { ComponentChildren } from 'preact';

const icon = (children: ComponentChildren) => () => (
  <svg
    class="icon"
    viewBox="0 0 20 20"
    fill="none"
    stroke="currentColor"
    stroke-width="1.6"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    {children}
  </svg>
);

export const Icons = {
  plus: icon(<path d="M10 4v12M4 10h12" />),
  menu: icon(<path d="M3.5 5.500h13M3.5 10h13M3.5 14.500h8" />),
  search: icon(
    <>
      <circle cx="9" cy="9" r="5" />
      <path d="m13 13 3.5 3.5" />
    </>,
  ),
  sliders: icon(
    <>
      <path d="M3 6h7M14 6h3M3 14h3M10 14h7" />
      <circle cx="12" cy="6" r="2" />
      <circle cx="8" cy="14" r="2" />
    </>,
  ),
  more: icon(
    <g fill="currentColor" stroke="none">
      <circle cx="4.5" cy="10" r="1.5" />
      <circle cx="10" cy="10" r="1.5" />
      <circle cx="15.5" cy="10" r="1.5" />
    </g>,
  ),
  copy: icon(
    <>
      <rect x="7" y="7" width="9.5" height="9.5" rx="2" />
      <path d="M13 4.500A1.5 1.5 0 0 0 11.5 3H5a2 2 0 0 0-2 2v6.500A1.5 1.5 0 0 0 4.5 13" />
    </>,
  ),
  check: icon(<path d="m4 10.5 4 4 8-9" />),
  edit: icon(<path d="m4 16 .8-3.400L13 4.400a1.8 1.8 0 0 1 2.6 2.600l-8.2 8.200Z" />),
  again: icon(
    <>
      <path d="M15.8 8A6.2 6.2 0 1 0 16 11.5" />
      <path d="M16.3 4.200V8h-3.8" />
    </>,
  ),
  left: icon(<path d="m12 5-5 5 5 5" />),
  right: icon(<path d="m8 5 5 5-5 5" />),
  down: icon(<path d="M10 4v12m0 0 5-5m-5 5-5-5" />),
  up: icon(<path d="M10 16V4m0 0 5 5m-5-5L5 9" />),
  stop: icon(<rect x="5.5" y="5.5" width="9" height="9" rx="2" fill="currentColor" stroke="none" />),
  close: icon(<path d="m5 5 10 10M15 5 5 15" />),
  bin: icon(
    <path d="M3.5 5.500h13M8 5.500V4a1 1 0 0 1 1-1h2a1 1 0 0 1 1 1v1.500M5 5.500l.7 10a1.6 1.6 0 0 0 1.6 1.500h5.400a1.6 1.6 0 0 0 1.6-1.500l.7-10M8.3 9v4.500M11.7 9v4.5" />,
  ),
  save: icon(<path d="M10 3v9m0 0 3.5-3.500M10 12 6.5 8.500M3.5 13.500V15a2 2 0 0 0 2 2h9a2 2 0 0 0 2-2v-1.5" />),
  keys: icon(
    <>
      <rect x="2.5" y="5" width="15" height="10" rx="2" />
      <path d="M5.5 8h.010M8.5 8h.010M11.5 8h.010M14.5 8h.010M7 12h6" />
    </>,
  ),
  caret: icon(<path d="m6 8 4 4 4-4" />),
  warn: icon(
    <>
      <path d="M10 7v4M10 13.800v.010" />
      <path d="M8.7 3.6 2.4 14.300A1.5 1.5 0 0 0 3.7 16.500h12.600a1.5 1.5 0 0 0 1.3-2.200L11.3 3.600a1.5 1.5 0 0 0-2.6 0Z" />
    </>,
  ),
};

/** The beast's head: a mane of clouds, two horns, and the third eye that sees the nature of all things. */
export function Mark() {
  return (
    <svg
      class="mark"
      viewBox="0 0 64 64"
      fill="none"
      stroke="currentColor"
      stroke-width="2.4"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
      focusable="false"
    >
      <path
        class="mane"
        d="M41.2 19.8A6.1 6.1 0 0 1 49.2 27.8A6.1 6.1 0 0 1 51.4 38.9A6.1 6.1 0 0 1 47.1 49.4A6.1 6.1 0 0 1 37.7 55.7A6.1 6.1 0 0 1 26.3 55.7A6.1 6.1 0 0 1 16.9 49.4A6.1 6.1 0 0 1 12.6 38.9A6.1 6.1 0 0 1 14.8 27.8A6.1 6.1 0 0 1 22.8 19.8"
      />
      <path d="M22.5 19.500c-5-3-6.5-8-5-14 3 4 6.5 5.5 10.5 10.500M41.5 19.500c5-3 6.5-8 5-14-3 4-6.5 5.5-10.5 10.5" />
      <path d="M24.5 35.500c1.6-1.9 3.9-1.9 5.5 0M34 35.500c1.6-1.9 3.9-1.9 5.5 0" />
      <path d="M28.5 43.500c1.2 1.5 2.5 1.5 3.5 0 1 1.5 2.3 1.5 3.5 0" />
      <path d="M32 24.500c1.4 1.5 2 2.6 2 3.700a2 2 0 0 1-4 0c0-1.1.6-2.2 2-3.700z" fill="currentColor" stroke="none" />
    </svg>
  );
}
