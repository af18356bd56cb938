// A modal dialog: the browser's own, which keeps the focus inside, closes on Escape and gives the focus back.
import { useEffect, useRef } from 'preact/hooks';
import type { ComponentChildren } from 'preact';
import { t } from '../i18n';
import { Icons } from './icons';

interface Props {
  open: boolean;
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  class?: string;
  focusInside?: boolean; // an element of its own takes the focus; else the title does, so that it is read first
}

export function Dialog({ open, title, onClose, children, class: name = '', focusInside = false }: Props) {
  const ref = useRef<HTMLDialogElement>(null);
  const own = useRef(0); // events of closings that came from here: the next question may be open when they arrive
  useEffect(() => {
    if (open && !ref.current!.open) ref.current!.showModal();
    if (!open && ref.current!.open) {
      own.current++;
      ref.current!.close();
    }
  }, [open]);
  const closed = () => {
    if (own.current > 0) own.current--;
    else onClose();
  };
  return (
    <dialog
      ref={ref}
      class={name}
      aria-label={title}
      onClose={closed}
      onPointerDown={(e) => e.target === ref.current && onClose()}
    >
      {open && (
        <div class="dialog-body">
          <header>
            <h2 tabIndex={-1} autofocus={!focusInside}>
              {title}
            </h2>
            <button type="button" class="ghost" onClick={onClose} aria-label={t('close')} title={t('close')}>
              <Icons.close />
            </button>
          </header>
          {children}
        </div>
      )}
    </dialog>
  );
}
