import { useMemo, useState } from "preact/hooks";
import type { Api } from "@console/api.ts";
import { calendarDate, moment, safeHref } from "@console/text.ts";
import { Change } from "@console/views/difference.tsx";
import { Failure, useCall } from "@console/views/failure.tsx";
import { wordDiff } from "@console/word_diff.ts";
import type { Recall, RecallDecision, RecallDetail, RecallLine, RecallState } from "./wire.ts";

interface Props {
  readonly api: Api;
  readonly recall: Recall;
  readonly states: Readonly<Record<RecallState, string>>;
  readonly onChanged: (now: Recall) => void;
  readonly onConflict: () => void;
}

/** A sent reply with its lines then and now, and what can be done with it. */
export function Reply({ api, recall, states, onChanged, onConflict }: Props) {
  const { item_id, item, title, lines, is_gone, conversation_url } = recall;
  const { reply, state, owner } = item;
  const [read, setDetail] = useState<RecallDetail | null>(null);
  const detail = read?.recall.item.revision === item.revision ? read : null;
  const { failure, run } = useCall("Not read");
  const href = safeHref(conversation_url);
  const path = `/v1/recalls/${encodeURIComponent(item_id)}`;
  const toggle = () =>
    detail === null ? run(async () => setDetail(await api.read<RecallDetail>(path))) : setDetail(null);
  return (
    <li class="recall-reply">
      <h4>
        {title || reply.document_id} <span class={`badge ${state === "open" ? "warn" : "good"}`}>{states[state]}</span>
      </h4>
      <p>
        <strong>To {whom(reply)}</strong>{" "}
        {href !== null && (
          <a href={href} target="_blank" rel="noreferrer">
            Open the conversation<span class="visually-hidden"> with {whom(reply)}</span>
          </a>
        )}
      </p>
      <p class="hint">
        Sent by {reply.agent}, {moment(reply.sent_at, new Date())}.{" "}
        {owner === null ? "Nobody has taken it." : `Taken by ${owner}.`} Due {calendarDate(item.due_on)}.
      </p>
      {lines.map((line, index) => (
        <Line key={index} line={line} isGone={is_gone} />
      ))}
      <Decide key={item.revision} {...{ path, api, recall, onChanged, onConflict }} />
      <button type="button" class="link" aria-expanded={detail !== null} onClick={() => void toggle()}>
        What was sent<span class="visually-hidden"> to {whom(reply)}</span>
      </button>
      {failure !== null && <Failure>{failure}</Failure>}
      {detail !== null && (
        <>
          <p class="kept-text">{detail.sent}</p>
          <ol class="recall-history">
            {detail.history.map(({ revision, at, by, note, state: then }) => (
              <li key={revision}>
                {moment(at, new Date())}, {by}: {states[then]}. {note}
              </li>
            ))}
          </ol>
        </>
      )}
    </li>
  );
}

/** "customer PT-204417, chat ef47ba": a long id as a desk shows it, by its first digits. */
function whom({ customer, chat }: Recall["item"]["reply"]): string {
  if (customer === null) return "a customer who is not on record";
  const digits = chat !== null && chat.length > 12 ? chat.slice(0, 6) : chat;
  return `customer ${customer}${digits === null ? "" : `, chat ${digits}`}`;
}

/** A line then and now, side by side, with the words that differ. */
function Line({ line, isGone }: { line: RecallLine; isGone: boolean }) {
  const pieces = useMemo(() => wordDiff(line.old ?? "", line.new ?? ""), [line]);
  const side = (other: "added" | "removed") =>
    pieces.filter(({ kind }) => kind !== other).map((piece, index) => <Change key={index} piece={piece} />);
  const without = isGone ? "Withdrawn: no line stands in its place." : "No line stands in its place.";
  return (
    <dl class="recall-line difference">
      <div>
        <dt>Then</dt>
        <dd>{line.old === null ? "The words are withdrawn, not stored any more, or not open to you." : side("added")}</dd>
      </div>
      <div>
        <dt>Now</dt>
        <dd>{line.new === null ? without : side("removed")}</dd>
      </div>
    </dl>
  );
}

function Decide({ api, path, recall, onChanged, onConflict }: Omit<Props, "states"> & { readonly path: string }) {
  const { revision, state } = recall.item;
  const [note, setNote] = useState("");
  const [missing, setMissing] = useState(false);
  const { isBusy, failure, run } = useCall((problem) => {
    if (problem.status === 409) onConflict();
    return `Not saved: ${problem.detail}`;
  });
  const decide = (what: RecallDecision["do"]) => {
    const needsNote = (what === "not_needed" || what === "reopen") && note.trim() === "";
    setMissing(needsNote);
    if (needsNote) return document.getElementById(noteId)?.focus();
    const decision: RecallDecision = { revision, do: what, note };
    return void run(async () => onChanged((await api.write<RecallDetail>(path, decision)).recall));
  };
  const noteId = `note-${recall.item_id}`;
  const button = (what: RecallDecision["do"], words: string) => (
    <button type="button" class="button small" disabled={isBusy} onClick={() => decide(what)}>
      {words}
    </button>
  );
  return (
    <div class="recall-decide">
      <label for={noteId}>Note{missing && ": say why"}</label>
      <input
        id={noteId}
        value={note}
        maxLength={2000}
        aria-invalid={missing}
        onInput={(event) => setNote(event.currentTarget.value)}
      />
      {state === "open" ? (
        <>
          {button("take", "Take")}
          {button("told", "Patient has the new words")}
          {button("not_needed", "Not needed")}
        </>
      ) : (
        button("reopen", "Open again")
      )}
      {failure !== null && <Failure>{failure}</Failure>}
    </div>
  );
}
