import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import { age, calendarDate, count, moment } from "../text.ts";
import type { DocumentDetails, KeptContent, WithdrawalReceipt } from "../wire.ts";
import { DialogClose } from "./dialog_close.tsx";
import { FOLLOW_MS, MOVING, readers } from "./document_table.tsx";
import { Failure, useCall } from "./failure.tsx";
import { Receipt } from "./receipt.tsx";

interface DetailsDialogProps {
  readonly api: Api;
  readonly documentId: string;
  readonly onClose: (isChanged: boolean) => void;
}

/** What is known of one document: who may read it, what cited it, and the contents that can be restored. */
export function DetailsDialog({ api, documentId, onClose }: DetailsDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const isChanged = useRef(false);
  const [details, setDetails] = useState<DocumentDetails | null>(null);
  const [receipt, setReceipt] = useState<WithdrawalReceipt | null>(null);
  const reading = useCall("Not read");
  const restoring = useCall("Not restored"); // not held up by the reading that follows a document on its way
  const failure = restoring.failure ?? reading.failure;
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const load = async () => {
    await reading.run(async () => {
      const loaded = await api.documentDetails(documentId);
      if (loaded.status.state === "withdrawn") setReceipt(await api.receipt(documentId));
      setDetails(loaded);
    });
  };
  useEffect(() => void load(), [documentId]);
  useEffect(() => {
    const isMoving = details !== null && MOVING.includes(details.status.state);
    if (!isMoving && receipt?.is_complete !== false) return;
    const timer = setTimeout(load, FOLLOW_MS);
    return () => clearTimeout(timer);
  }, [details]);
  const restore = async ({ content_hash }: KeptContent) => {
    const isRestored = await restoring.run(async () => {
      await api.restoreDocument(documentId, content_hash);
      isChanged.current = true;
      setDetails(await api.documentDetails(documentId));
    });
    if (isRestored) announce("The version is restored, and answers when it is live");
  };
  return (
    <dialog
      ref={dialog}
      class="dialog wide"
      aria-labelledby="details-title"
      onClose={() => onClose(isChanged.current)}
    >
      <h2 id="details-title">{details?.status.title ?? documentId}</h2>
      {failure !== null && <Failure>{failure}</Failure>}
      {details === null && failure === null && <p class="hint">Reading…</p>}
      {receipt !== null && <Receipt receipt={receipt} />}
      {details !== null && <Facts details={details} />}
      {details !== null && <Citing details={details} />}
      {details !== null && <h3>Versions</h3>}
      {details !== null && <Contents contents={details.contents} isBusy={restoring.isBusy} onRestore={restore} />}
      <DialogClose dialog={dialog} />
    </dialog>
  );
}

function Facts({ details: { status } }: { details: DocumentDetails }) {
  const now = new Date();
  const facts: readonly (readonly [string, string])[] = [
    ["State", status.state],
    ["Reason", status.failure_reason ?? ""],
    ["Who can read it", status.labels === null ? "" : readers(status.labels)],
    ["Owner", status.owner ?? ""],
    ["Review due", status.review_after == null ? "" : `${calendarDate(status.review_after)}, ${age(status.review_after, now)}`],
    ["Received", moment(status.received_at, now)],
    ["File", status.origin ?? ""],
    ["Added by", status.brought_by ?? ""],
  ];
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Citing({ details: { answers, has_more_answers } }: { details: DocumentDetails }) {
  const many = `${answers.length}${has_more_answers ? " or more" : ""}`;
  return (
    <details>
      <summary>Used in {answers.length === 1 ? "1 answer" : `${many} answers`} of the last 30 days</summary>
      <ul class="citing">
        {answers.map(({ answer_id, at }) => (
          <li key={answer_id}>
            {moment(at, new Date())} <span class="code">{answer_id}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}

interface ContentsProps {
  readonly contents: readonly KeptContent[];
  readonly isBusy: boolean;
  readonly onRestore: (kept: KeptContent) => void;
}

function Contents({ contents, isBusy, onRestore }: ContentsProps) {
  const kept = contents.filter(({ content_hash }, n) => contents.findIndex((one) => one.content_hash === content_hash) === n);
  if (kept.length === 0) return <p class="hint">No version is kept.</p>;
  return (
    <ul class="contents" aria-label="Versions">
      {kept.map((version) => (
        <li key={version.content_hash}>
          <span>
            {moment(version.stored_at, new Date())} · {version.title} · {count(version.characters, "character")}
            {version.labels.length > 0 && <span class="hint"> for {version.labels.join(", ")}</span>}
          </span>
          {version.is_newest ? (
            <span class="badge plain">newest</span>
          ) : (
            <button type="button" class="button small" disabled={isBusy} onClick={() => onRestore(version)}>
              Restore<span class="visually-hidden"> the version of {moment(version.stored_at, new Date())}</span>
            </button>
          )}
        </li>
      ))}
    </ul>
  );
}
