import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import { count } from "../text.ts";
import { wordDiff } from "../word_diff.ts";
import type { DocumentStatus, WaitingContent, WaitingDocument } from "../wire.ts";
import { Change } from "./difference.tsx";
import { readers } from "./document_table.tsx";
import { Failure, useCall } from "./failure.tsx";

/** Documents that the service takes in one release. */
const MOST_AT_ONCE = 500;

interface ReleaseDialogProps {
  readonly api: Api;
  /** All of one source. */
  readonly documents: readonly DocumentStatus[];
  readonly onClose: () => void;
}

/** What waits for a second person, beside what answered before. Only what was shown is released: one document alone
 * once it is read, several as the list has them. */
export function ReleaseDialog({ api, documents, onClose }: ReleaseDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isOne = documents.length === 1;
  const listed = documents.map((one) => [one.document_id, one.content_hash] as const);
  const [contents, setContents] = useState<ReadonlyMap<string, string>>(() => new Map(isOne ? [] : listed));
  const { isBusy, failure, run } = useCall("Not released");
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const release = async () => {
    const isDone = await run(async () => {
      const all = [...contents];
      for (let at = 0; at < all.length; at += MOST_AT_ONCE) {
        await api.release(documents[0]?.knowledge_source ?? "", Object.fromEntries(all.slice(at, at + MOST_AT_ONCE)));
      }
    });
    if (!isDone) return;
    announce("Released");
    dialog.current?.close();
  };
  return (
    <dialog ref={dialog} class="dialog wide" aria-labelledby="release-title" onClose={onClose}>
      <h2 id="release-title">{isOne ? "Release this document?" : `Release ${count(documents.length, "document")}?`}</h2>
      {documents.map((document) => (
        <WaitingText
          key={document.document_id}
          api={api}
          document={document}
          isOpen={isOne}
          onShown={(hash) => setContents((before) => new Map(before).set(document.document_id, hash))}
        />
      ))}
      {failure !== null && <Failure>{failure} Close, and read again what waits.</Failure>}
      <p class="dialog-actions">
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
        <button type="button" class="button" disabled={isBusy || contents.size === 0} onClick={release}>
          {isBusy ? "Releasing…" : "Release what is shown"}
        </button>
      </p>
    </dialog>
  );
}

interface WaitingTextProps {
  readonly api: Api;
  readonly document: DocumentStatus;
  readonly isOpen: boolean;
  readonly onShown: (contentHash: string) => void;
}

function WaitingText({ api, document, isOpen, onShown }: WaitingTextProps) {
  const [waiting, setWaiting] = useState<WaitingDocument | null>(null);
  const { failure, run } = useCall("Not read");
  const read = () =>
    run(async () => {
      const found = await api.waiting(document.document_id);
      setWaiting(found);
      onShown(found.content_hash);
    });
  useEffect(() => void (isOpen && read()), []);
  return (
    <details open={isOpen} onToggle={({ currentTarget }) => void (currentTarget.open && waiting === null && read())}>
      <summary>
        {document.title} <span class="hint">{document.document_id}, added by {document.brought_by}</span>
      </summary>
      {failure !== null && <Failure>{failure}</Failure>}
      {waiting !== null && <Compared waiting={waiting} />}
    </details>
  );
}

/** The content that waits; changes of the one that answered before are marked. */
export function Compared({ waiting: { document, answered } }: { waiting: WaitingDocument }) {
  return (
    <>
      <p class="hint">
        {answered === null ? "Nothing of it answered before." : "Compared with what answered before."} It becomes readable for{" "}
        {readers(document.labels)}
        {answered !== null && `, and was for ${readers(answered.labels)}`}.
      </p>
      <p class="kept-text difference">
        {answered === null
          ? textOf(document)
          : wordDiff(textOf(answered), textOf(document)).map((piece, index) => <Change key={index} piece={piece} />)}
      </p>
    </>
  );
}

/** Everything of a content that an agent can come to see. */
function textOf({ title, url, source, questions, content }: WaitingContent): string {
  return [title, url ?? "", source, ...questions, "", content].filter((line, at) => line !== "" || at > 2).join("\n");
}
