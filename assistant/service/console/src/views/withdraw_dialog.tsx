import { useLayoutEffect, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import type { DocumentStatus } from "../wire.ts";
import { Failure, useCall } from "./failure.tsx";

interface WithdrawDialogProps {
  readonly api: Api;
  readonly document: DocumentStatus;
  readonly onClose: (isWithdrawn: boolean) => void;
}

/** Asks once more before a document stops answering. The safe button has the focus. */
export function WithdrawDialog({ api, document, onClose }: WithdrawDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isWithdrawn = useRef(false);
  const { isBusy, failure, run } = useCall("Not withdrawn");
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const withdraw = async () => {
    isWithdrawn.current = await run(() => api.withdraw(document.document_id));
    if (!isWithdrawn.current) return;
    announce(`${document.title} is withdrawn`);
    dialog.current?.close();
  };
  return (
    <dialog
      ref={dialog}
      class="dialog"
      aria-labelledby="withdraw-title"
      aria-describedby="withdraw-text"
      onClose={() => onClose(isWithdrawn.current)}
    >
      <h2 id="withdraw-title">Withdraw this document?</h2>
      <div id="withdraw-text">
        <p class="document-title">{document.title}</p>
        <p>
          It stops answering, and its text is removed from the knowledge base, the index and every answer that showed
          it. What was sent to patients stays in the records. The receipt then says what else stays, and until when.
        </p>
      </div>
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="dialog-actions">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          Keep it
        </button>
        <button type="button" class="button danger" disabled={isBusy} onClick={withdraw}>
          {isBusy ? "Withdrawing…" : "Withdraw"}
        </button>
      </p>
    </dialog>
  );
}
