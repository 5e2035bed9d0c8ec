import { useEffect, useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { ApiError } from "@console/problems.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { focusCase, useReview } from "./context.ts";
import { ItemBody } from "./item_body.tsx";
import { refusalWords } from "./review.ts";
import type { DeskCase, DeskItem, ItemKind, Resolution } from "./wire.ts";
import { RESOLUTIONS } from "./words.ts";

const WORDS = { open: "Decided", proposed: "Proposed", asked_owner: "Asked", resolved: "Resolved", dismissed: "Dismissed" };

/** What was decided of a case, or waits for a second person. */
export function Outcome({ detail }: { detail: DeskCase }) {
  const { reviewer } = useReview();
  const { state, resolution, resolved_by, approved_by } = detail.case;
  const isOwn = resolved_by === reviewer;
  return (
    <section class="outcome" aria-labelledby="outcome-title">
      <h4 id="outcome-title">
        {state === "proposed" ? "Proposed: " : ""}
        {resolution === null ? "Decided" : resolution.kind === "document_question" ? "Question to a document" : RESOLUTIONS[resolution.kind].name}
      </h4>
      <p class="hint">
        {resolved_by !== null && `${WORDS[state]} by ${resolved_by}. `}
        {approved_by !== null && `Approved by ${approved_by}.`}
      </p>
      {resolution !== null && resolution.note !== "" && <p class="note">{resolution.note}</p>}
      {resolution !== null && <MadeItem resolution={resolution} />}
      {state === "proposed" && isOwn && (
        <p class="notice warn">
          <Icon name="clock" />
          <span>
            <strong>You proposed this, so you may not approve it.</strong> A second reviewer finds it in the queue under
            “Waits for approval”.
          </span>
        </p>
      )}
      {state === "proposed" && !isOwn && <ApprovalForm detail={detail} />}
      {(state === "resolved" || state === "dismissed" || (state === "proposed" && isOwn)) && <ReopenForm detail={detail} />}
    </section>
  );
}

/** The item that the resolution made, as it would be or is served. */
function MadeItem({ resolution: { kind, item_id } }: { resolution: Resolution }) {
  const { api } = useReview();
  const [item, setItem] = useState<DeskItem | string | null>(null);
  const made = itemKindOf(kind);
  useEffect(() => {
    if (item_id === null || made === null) return;
    api.item(made, item_id).then(
      ({ revisions }) => setItem(revisions.at(-1) ?? null),
      (error: unknown) => {
        if (!(error instanceof ApiError)) throw error;
        setItem(`It could not be read. ${error.problem.detail}`);
      },
    );
  }, [item_id]);
  if (item_id === null || made === null || item === null) return null;
  if (typeof item === "string") return <p class="hint">{item}</p>;
  return <ItemBody item={item} />;
}

function itemKindOf(kind: Resolution["kind"]): ItemKind | null {
  return kind === "approved_answer" || kind === "glossary_entry" ? kind : null;
}

/** A second person's word. */
function ApprovalForm({ detail }: { detail: DeskCase }) {
  const review = useReview();
  const [note, setNote] = useState("");
  const { isBusy, failure, setFailure, run } = useCall(refusalWords);
  const decide = async (isApproved: boolean) => {
    if (!isApproved && note.trim() === "") {
      setFailure("Say why you send it back: who proposed it reads your note.");
      document.getElementById("approval-note")?.focus();
    } else if (await run(() => review.approve(detail, { isApproved, note: note.trim() }))) {
      announce(isApproved ? "Approved" : "Sent back");
      focusCase(review, detail.case_id);
    }
  };
  return (
    <form class="approval" onSubmit={(event) => event.preventDefault()}>
      <label for="approval-note">Note (needed to send it back)</label>
      <textarea id="approval-note" rows={2} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        <button type="button" class="button primary" disabled={isBusy} onClick={() => void decide(true)}>
          <Icon name="check" /> Approve
        </button>
        <button type="button" class="button" disabled={isBusy} onClick={() => void decide(false)}>
          Send back
        </button>
      </p>
    </form>
  );
}

function ReopenForm({ detail }: { detail: DeskCase }) {
  const review = useReview();
  const [note, setNote] = useState("");
  const { isBusy, failure, setFailure, run } = useCall(refusalWords);
  const reopen = async () => {
    if (note.trim() === "") {
      setFailure("Say why you take it up again: the note goes into the history.");
      document.getElementById("reopen-note")?.focus();
    } else if (await run(() => review.reopen(detail, note.trim()))) {
      announce("Reopened");
      focusCase(review, detail.case_id);
    }
  };
  return (
    <details class="reopen">
      <summary>{detail.case.state === "proposed" ? "Take the proposal back" : "Reopen"}</summary>
      <label for="reopen-note">Why?</label>
      <textarea id="reopen-note" rows={2} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
      {failure !== null && <Failure>{failure}</Failure>}
      <button type="button" class="button" disabled={isBusy} onClick={() => void reopen()}>
        <Icon name="retry" /> {detail.case.state === "proposed" ? "Take back" : "Reopen the case"}
      </button>
    </details>
  );
}
