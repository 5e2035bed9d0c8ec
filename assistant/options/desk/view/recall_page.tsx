import { useEffect, useState } from "preact/hooks";
import type { Api } from "@console/api.ts";
import { announce } from "@console/announcer.ts";
import { count, moment } from "@console/text.ts";
import { saveFile } from "@console/saving.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { FilterChoice } from "./filter_choice.tsx";
import { Reply } from "./recall_reply.tsx";
import type { Recall, RecallChange, RecallChangePage, RecallPage as Page, RecallState } from "./wire.ts";

const STATES: Readonly<Record<RecallState, string>> = { open: "Open", told: "Patient has the new words", not_needed: "Not needed" };
const KINDS = { changed: "Changed", withdrawn: "Withdrawn", restored: "Answers again" };

const EXPORTS = [
  ["replies", "csv", "Replies, CSV"],
  ["replies", "ndjson", "Replies, JSON lines"],
  ["changes", "csv", "Changes, CSV"],
  ["changes", "ndjson", "Changes, JSON lines"],
] as const;

interface Wanted {
  readonly state: RecallState | null;
  readonly document_id: string | null;
}

/** Changes of documents with their counts, and the replies that rest on words which do not stand any more. */
export function RecallPage({ api }: { api: Api }) {
  const [wanted, setWanted] = useState<Wanted>({ state: "open", document_id: null });
  return (
    <main id="main" tabIndex={-1} class="recall">
      <div class="recall-head">
        <h2 class="title">Recall</h2>
        <Exports api={api} />
      </div>
      <Changes api={api} onShow={(document_id) => setWanted({ state: null, document_id })} />
      <Replies api={api} wanted={wanted} onWanted={setWanted} />
    </main>
  );
}

/** A list that grows page by page. */
function usePages<Row>(read: (after: string | null) => Promise<readonly [readonly Row[], string | null]>) {
  const [rows, setRows] = useState<readonly Row[] | null>(null);
  const [after, setAfter] = useState<string | null>(null);
  const { isBusy, failure, run } = useCall("Not read");
  const load = (from: string | null) =>
    run(async () => {
      const [page, next] = await read(from);
      setRows((before) => (from === null ? page : [...(before ?? []), ...page]));
      setAfter(next);
    });
  useEffect(() => void load(null), []);
  const more = after !== null && (
    <button type="button" class="button" disabled={isBusy} onClick={() => void load(after)}>
      Show more
    </button>
  );
  return { rows, setRows, failure, more, reload: () => void load(null) };
}

function Changes({ api, onShow }: { api: Api; onShow: (documentId: string) => void }) {
  const { rows, failure, more } = usePages<RecallChange>(async (after) => {
    const { changes, next_after } = await api.page<RecallChangePage>("/v1/recalls/changes", {}, after);
    return [changes, next_after];
  });
  return (
    <section aria-labelledby="changes-title">
      <h3 id="changes-title">Changes</h3>
      {failure !== null && <Failure>{failure}</Failure>}
      {rows?.length === 0 && <p class="notice plain">No document changed since recall began.</p>}
      {rows !== null && rows.length > 0 && (
        <div class="recall-table" tabIndex={0} role="region" aria-label="Table of changes">
          <table>
            <thead>
              <tr>
                <th scope="col">Document</th>
                <th scope="col">What</th>
                <th scope="col">Noted</th>
                <th scope="col">Replies on it</th>
                <th scope="col">Replies whose words fell</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((change) => (
                <tr key={change.change_id}>
                  <th scope="row">{change.title || change.document_id}</th>
                  <td>{KINDS[change.kind]}</td>
                  <td>{moment(change.noted_at, new Date())}</td>
                  <td>{change.replies}</td>
                  <td>
                    {change.affected === 0 ? (
                      "Nobody received words that changed"
                    ) : (
                      <button type="button" class="link" onClick={() => onShow(change.document_id)}>
                        {count(change.affected, "reply", "replies")}
                        <span class="visually-hidden"> on {change.title || change.document_id}</span>
                      </button>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {more}
    </section>
  );
}

function Replies({ api, wanted, onWanted }: { api: Api; wanted: Wanted; onWanted: (wanted: Wanted) => void }) {
  return (
    <section aria-labelledby="replies-title">
      <h3 id="replies-title">Replies on words that do not stand any more</h3>
      <p class="recall-filters">
        <FilterChoice
          id="recall-state"
          label="State"
          all="All states"
          words={STATES}
          value={wanted.state}
          onChoose={(state) => onWanted({ ...wanted, state })}
        />
        {wanted.document_id !== null && (
          <button type="button" class="link" onClick={() => onWanted({ ...wanted, document_id: null })}>
            Show replies of all documents
          </button>
        )}
      </p>
      <ReplyList key={`${wanted.state} ${wanted.document_id}`} api={api} wanted={wanted} />
    </section>
  );
}

/** The replies under one choice. Each choice has a component of its own: what comes late is not shown under another. */
function ReplyList({ api, wanted }: { api: Api; wanted: Wanted }) {
  const { rows, setRows, failure, more, reload } = usePages<Recall>(async (after) => {
    const { recalls, next_after } = await api.page<Page>("/v1/recalls", wanted, after);
    return [recalls, next_after];
  });
  const replace = (now: Recall) => {
    setRows((before) => before?.map((row) => (row.item_id === now.item_id ? now : row)) ?? null);
    announce(`Saved: ${STATES[now.item.state]}`);
  };
  return (
    <>
      <p class="recall-filters">
        <button type="button" class="button small" onClick={reload}>
          <Icon name="retry" /> Refresh
        </button>
      </p>
      {rows === null && failure === null && <p class="hint">Reading the list…</p>}
      {failure !== null && <Failure>{failure}</Failure>}
      {rows?.length === 0 && <p class="notice plain">No reply here.</p>}
      <ul class="recall-list">
        {rows?.map((recall) => (
          <Reply key={recall.item_id} api={api} recall={recall} states={STATES} onChanged={replace} onConflict={reload} />
        ))}
      </ul>
      {more}
    </>
  );
}

/** Saves the replies, or the proof of each look, as a table. */
function Exports({ api }: { api: Api }) {
  const { isBusy, failure, run } = useCall("Not exported");
  const save = (what: string, form: string) =>
    run(async () => {
      saveFile(await api.file(`/v1/recalls/export?what=${what}&form=${form}`), `recall-${what}.${form}`);
      announce("Exported");
    });
  return (
    <div class="recall-exports" role="group" aria-label="Export">
      {EXPORTS.map(([what, form, words]) => (
        <button key={words} type="button" class="button small" disabled={isBusy} onClick={() => void save(what, form)}>
          <Icon name="out" /> {words}
        </button>
      ))}
      {failure !== null && <Failure>{failure}</Failure>}
    </div>
  );
}
