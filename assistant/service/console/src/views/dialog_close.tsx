import type { RefObject } from "preact";

/** The row of a dialog whose only key closes it. */
export function DialogClose({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  return (
    <p class="dialog-actions">
      <button type="button" class="button" onClick={() => dialog.current?.close()}>
        Close
      </button>
    </p>
  );
}
