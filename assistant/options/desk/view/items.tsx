import { useEffect, useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { moment } from "@console/text.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { focusSoon, useReview } from "./context.ts";
import { ItemBody } from "./item_body.tsx";
import { refusalWords } from "./review.ts";
import type { DeskItem, DeskItemHistory, ItemKind, StateChange } from "./wire.ts";
import { ITEM_KINDS, ITEM_STATES } from "./words.ts";

/** What was decided on the desk and serves, or did: by kind, each with its history. */
export function Items() {
  const [kind, setKind] = useState<ItemKind>("approved_answer");
  return (
    <section class="items" aria-labelledby="items-title">
      <p class="filter">
        <label for="item-kind" id="items-title">
          What was decided
        </label>
        <select
          id="item-kind"
          value={kind}
          onChange={(event) => setKind(event.currentTarget.value as ItemKind)}
        >
          {Object.entries(ITEM_KINDS).map(([value, words]) => (
            <option key={value} value={value}>
              {words}
            </option>
          ))}
        </select>
      </p>
      <ItemsOfKind key={kind} kind={kind} />
    </section>
  );
}

/** One kind's list. Each kind has a component of its own: an answer that comes late is not shown under another kind. */
function ItemsOfKind({ kind }: { kind: ItemKind }) {
  const { api } = useReview();
  const [items, setItems] = useState<readonly DeskItem[] | null>(null);
  const [openId, setOpenId] = useState<string | null>(null);
  const { failure, run } = useCall("The list could not be read");
  useEffect(() => void run(async () => setItems((await api.items(kind)).items)), []);
  const replace = ({ revisions }: DeskItemHistory) => {
    const now = revisions.at(-1);
    setItems((before) => before?.map((item) => (item.item_id === now?.item_id ? now : item)) ?? null);
  };
  return (
    <>
      {failure !== null && <Failure>{failure}</Failure>}
      {items === null && failure === null && <p class="hint">Reading the list…</p>}
      {items !== null && items.length === 0 && <p class="notice plain">None yet.</p>}
      <ul class="item-list">
        {items?.map((item) => (
          <li key={item.item_id} class="item">
            <ItemHead
              item={item}
              isOpen={item.item_id === openId}
              onToggle={() => setOpenId(item.item_id === openId ? null : item.item_id)}
            />
            {item.item_id === openId && <OpenItem item={item} onChanged={replace} />}
          </li>
        ))}
      </ul>
    </>
  );
}

function titleOf({ approved_answer, glossary_entry, item_id }: DeskItem): string {
  if (approved_answer !== null) return approved_answer.questions[0] ?? item_id;
  return glossary_entry === null ? item_id : `${glossary_entry.said} → ${glossary_entry.means}`;
}

function proposerOf({ approved_answer, glossary_entry }: DeskItem): string | undefined {
  return (approved_answer ?? glossary_entry)?.proposed_by;
}

function ItemHead({ item, isOpen, onToggle }: { item: DeskItem; isOpen: boolean; onToggle: () => void }) {
  return (
    <h3 class="item-head">
      <button type="button" class="link" id={`item-${item.item_id}`} aria-expanded={isOpen} onClick={onToggle}>
        {titleOf(item)}
      </button>
      <StateBadge item={item} />
    </h3>
  );
}

function StateBadge({ item }: { item: DeskItem }) {
  const [words, icon, tone] = ITEM_STATES[item.state];
  return (
    <span class={`badge ${tone}`}>
      <Icon name={icon} /> {words}
    </span>
  );
}

function OpenItem({ item, onChanged }: { item: DeskItem; onChanged: (now: DeskItemHistory) => void }) {
  const { api } = useReview();
  const [history, setHistory] = useState<DeskItemHistory | null>(null);
  const { failure, run } = useCall("It could not be read");
  const load = () => run(async () => setHistory(await api.item(item.kind, item.item_id)));
  useEffect(() => void load(), [item.item_id]);
  const newest = history?.revisions.at(-1);
  if (history === null || newest === undefined) {
    return failure === null ? <p class="hint">Reading…</p> : <Failure>{failure}</Failure>;
  }
  const changed = (now: DeskItemHistory) => {
    setHistory(now);
    onChanged(now);
    focusSoon(`item-${item.item_id}`);
  };
  return (
    <div class="item-open">
      {failure !== null && <Failure>{failure}</Failure>}
      <ItemBody item={newest} />
      <ItemChanges item={newest} history={history} onChanged={changed} onConflict={() => void load()} />
    </div>
  );
}

interface ChangesProps {
  readonly item: DeskItem;
  readonly history: DeskItemHistory;
  readonly onChanged: (now: DeskItemHistory) => void;
  readonly onConflict: () => void;
}

/** Take it out of service, put it back, or restore an earlier revision: each adds a revision, with a note. */
function ItemChanges({ item, history: { revisions }, onChanged, onConflict }: ChangesProps) {
  const { api, reviewer } = useReview();
  const [note, setNote] = useState("");
  const { isBusy, failure, setFailure, run } = useCall(refusalWords);
  const id = `note-${item.item_id}`;
  const change = async (call: () => Promise<DeskItemHistory>, done: string) => {
    if (note.trim() === "") {
      setFailure("Say why: the note goes into the history.");
      document.getElementById(id)?.focus();
      return;
    }
    let now: DeskItemHistory | null = null;
    if (await run(async () => void (now = await call()))) {
      setNote("");
      announce(done);
      if (now !== null) onChanged(now);
    } else {
      onConflict();
    }
  };
  const seen = { revision: item.revision, note: note.trim() };
  const setState = (state: StateChange["state"], done: string) =>
    change(() => api.setItemState(item.kind, item.item_id, { ...seen, state }), done);
  const restore = (to_revision: number) =>
    change(() => api.restoreItem(item.kind, item.item_id, { ...seen, to_revision }), `Revision ${to_revision} restored`);
  const { state } = item;
  const isOwnProposal = state === "proposed" && proposerOf(item) === reviewer;
  return (
    <>
      {isOwnProposal && <p class="hint warn">You proposed this, so a second person must approve it.</p>}
      <label for={id}>Note on a change</label>
      <textarea id={id} rows={2} value={note} onInput={(event) => setNote(event.currentTarget.value)} />
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        {state !== "withdrawn" && (
          <button type="button" class="button danger" disabled={isBusy} onClick={() => void setState("withdrawn", "Withdrawn")}>
            Withdraw
          </button>
        )}
        {(state === "suspended" || state === "withdrawn") && (
          <button type="button" class="button" disabled={isBusy} onClick={() => void setState("live", "Put back")}>
            Put back into service
          </button>
        )}
        {state === "proposed" && !isOwnProposal && (
          <button type="button" class="button" disabled={isBusy} onClick={() => void setState("live", "Approved")}>
            Approve
          </button>
        )}
      </p>
      <h4>Revisions</h4>
      <ol class="revisions">
        {[...revisions].reverse().map((revision) => (
          <li key={revision.revision}>
            <span>
              {revision.revision}. <StateBadge item={revision} /> {moment(revision.at, new Date())}, {revision.by}
              {revision.note !== "" && <span class="note">{revision.note}</span>}
            </span>
            {revision.revision !== item.revision && (
              <button
                type="button"
                class="button small"
                disabled={isBusy}
                onClick={() => void restore(revision.revision)}
              >
                Restore<span class="visually-hidden"> revision {revision.revision}</span>
              </button>
            )}
          </li>
        ))}
      </ol>
    </>
  );
}
