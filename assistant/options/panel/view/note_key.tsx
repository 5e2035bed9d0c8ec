import { useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Api } from "@console/api.ts";
import { CopyButton } from "@console/views/copy_button.tsx";
import { Failure, useCall } from "@console/views/failure.tsx";
import { GiveButton } from "@console/views/give_button.tsx";
import { Icon } from "@console/views/icons.tsx";
import { useWorkspace } from "@console/views/workspace_state.ts";

/** The note of a conversation as text, as the service makes it from the record. Throws ApiError. */
export async function noteOf(api: Pick<Api, "file">, conversationId: string): Promise<string> {
  const zone = encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone);
  const path = `/v1/conversations/${encodeURIComponent(conversationId)}/note?zone=${zone}`;
  return await (await api.file(path, "text/plain")).text();
}

/** Opens the note of the conversation that the page shows. */
export function NoteKey({ api }: { api: Api }) {
  const { conversation } = useWorkspace();
  const [note, setNote] = useState<{ readonly of: string; readonly text: string } | null>(null);
  const { isBusy, failure, run } = useCall("No note");
  const id = conversation.id.value;
  const isAnswered = conversation.turns.value.some(({ answerId }) => answerId !== null);
  if (id === null || !isAnswered) return null;
  const open = () => void run(async () => setNote({ of: id, text: await noteOf(api, id) }));
  return (
    <>
      <p class="actions note-key">
        <button type="button" class="button small" disabled={isBusy} onClick={open}>
          <Icon name="copy" /> Note of this conversation
        </button>
      </p>
      {failure !== null && <Failure>{failure}</Failure>}
      {note?.of === id && <NoteDialog text={note.text} onClose={() => setNote(null)} />}
    </>
  );
}

function NoteDialog({ text, onClose }: { text: string; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="dialog wide" aria-labelledby="note-title" onClose={onClose}>
      <h2 id="note-title">Note of this conversation</h2>
      <p class="hint">Made from the record, and kept nowhere. Close it, and open it again after the next answer.</p>
      <textarea rows={16} readOnly value={text} aria-labelledby="note-title" />
      <p class="dialog-actions">
        <CopyButton text={text} label="Copy" said="Copied: the note" />
        <GiveButton what={{ type: "note", text }} label="Add to the ticket" said="Added to the ticket" />
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}
