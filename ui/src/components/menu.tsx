// A button that opens a small menu. The browser's popover closes it (Escape, a click elsewhere); arrows move in it.
import { useRef, useState } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { Icons } from './icons';

export interface Item {
  label: string;
  icon: ComponentChildren;
  run: () => void;
  danger?: boolean;
}

export function Menu({ label, items, tabIndex }: { label: string; items: Item[]; tabIndex?: number }) {
  const button = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const [open, setOpen] = useState(false);

  const show = () => {
    const box = list.current!;
    box.showPopover();
    const { right, bottom, top } = button.current!.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = box;
    box.style.left = `${Math.max(8, Math.min(right - width, innerWidth - width - 8))}px`;
    box.style.top = `${bottom + height + 8 > innerHeight ? Math.max(8, top - height - 4) : bottom + 4}px`;
    box.querySelector('button')?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const buttons = Array.from(list.current!.querySelectorAll('button'));
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === 'Tab') list.current!.hidePopover();
    if (to === undefined) return;
    event.preventDefault();
    buttons[(to + buttons.length) % buttons.length]?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class="ghost small"
        aria-haspopup="menu"
        aria-expanded={open}
        aria-label={label}
        title={label}
        tabIndex={tabIndex}
        onClick={show}
      >
        <Icons.more />
      </button>
      <div
        ref={list}
        popover="auto"
        role="menu"
        class="menu"
        aria-label={label}
        onKeyDown={onKeyDown}
        onToggle={(e) => setOpen(e.newState === 'open')}
      >
        {items.map((item) => (
          <button
            type="button"
            role="menuitem"
            class={item.danger ? 'danger' : undefined}
            onClick={() => {
              list.current!.hidePopover();
              item.run();
            }}
          >
            {item.icon}
            {item.label}
          </button>
        ))}
      </div>
    </>
  );
}
