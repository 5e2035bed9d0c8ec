import { useEffect, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import { count } from "../text.ts";
import type { DocumentPage, DocumentState, DocumentStatus } from "../wire.ts";
import { DocumentTable } from "./document_table.tsx";
import { Failure, useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";
import { WithdrawDialog } from "./withdraw_dialog.tsx";

const STATES: readonly DocumentState[] = [
  "live",
  "failed",
  "stale",
  "withheld",
  "received",
  "parsed",
  "embedded",
  "withdrawn",
];

interface Listing {
  readonly state: DocumentState | null;
  /** The `after` of each page from the first to this one. */
  readonly trail: readonly (string | null)[];
}

/** A page of the list of documents, read anew whenever another one is asked for. */
function useListing(api: Api) {
  const [listing, setListing] = useState<Listing>({ state: null, trail: [null] });
  const [page, setPage] = useState<DocumentPage | null>(null);
  const { failure, run } = useCall("The list could not be read");
  const after = listing.trail.at(-1) ?? null;
  const load = async () => {
    await run(async () => {
      const loaded = await api.documents(listing.state, after);
      setPage(loaded);
      announce(`${count(loaded.documents.length, "document")} shown`);
    });
  };
  useEffect(() => void load(), [listing.state, after]);
  return { listing, setListing, page, failure, load };
}

/** Which documents answer, which failed and why, how old they are: the page of a knowledge owner. */
export function Knowledge({ api }: { api: Api }) {
  const { listing, setListing, page, failure, load } = useListing(api);
  const [withdrawing, setWithdrawing] = useState<DocumentStatus | null>(null);
  const turnTo = (trail: Listing["trail"]) => {
    setListing({ ...listing, trail });
    document.getElementById("main")?.focus();
  };
  const closeDialog = (isWithdrawn: boolean) => {
    setWithdrawing(null);
    if (!isWithdrawn) return;
    document.getElementById("main")?.focus(); // the button that opened the dialog goes with the document
    void load();
  };
  return (
    <main id="main" tabIndex={-1} class="knowledge">
      <div class="knowledge-head">
        <h2 class="title">Knowledge</h2>
        <StateFilter
          counts={page?.counts ?? {}}
          state={listing.state}
          onChange={(state) => setListing({ state, trail: [null] })}
        />
        <button type="button" class="button" onClick={() => void load()}>
          <Icon name="retry" /> Refresh
        </button>
      </div>
      {failure !== null && <Failure>{failure}</Failure>}
      {page === null && failure === null && <p class="hint">Reading the list…</p>}
      {page !== null && <Documents page={page} state={listing.state} onWithdraw={setWithdrawing} />}
      <Pager trail={listing.trail} next={page?.next_after ?? null} onTurn={turnTo} />
      {withdrawing !== null && <WithdrawDialog api={api} document={withdrawing} onClose={closeDialog} />}
    </main>
  );
}

interface DocumentsProps {
  readonly page: DocumentPage;
  readonly state: DocumentState | null;
  readonly onWithdraw: (document: DocumentStatus) => void;
}

function Documents({ page, state, onWithdraw }: DocumentsProps) {
  if (page.documents.length > 0) return <DocumentTable documents={page.documents} onWithdraw={onWithdraw} />;
  return <p class="notice plain">{state === null ? "There is no document yet." : `No document is ${state}.`}</p>;
}

interface StateFilterProps {
  readonly counts: DocumentPage["counts"];
  readonly state: DocumentState | null;
  readonly onChange: (state: DocumentState | null) => void;
}

function StateFilter({ counts, state, onChange }: StateFilterProps) {
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  return (
    <p class="filter">
      <label for="state-filter">State</label>
      <select
        id="state-filter"
        value={state ?? ""}
        onChange={(event) => onChange((event.currentTarget.value || null) as DocumentState | null)}
      >
        <option value="">All ({total})</option>
        {STATES.map((name) => (
          <option key={name} value={name}>
            {name} ({counts[name] ?? 0})
          </option>
        ))}
      </select>
    </p>
  );
}

interface PagerProps {
  readonly trail: readonly (string | null)[];
  readonly next: string | null;
  readonly onTurn: (trail: readonly (string | null)[]) => void;
}

function Pager({ trail, next, onTurn }: PagerProps) {
  if (trail.length === 1 && next === null) return null;
  return (
    <nav class="pager" aria-label="Pages of the list">
      <button type="button" class="button" disabled={trail.length === 1} onClick={() => onTurn(trail.slice(0, -1))}>
        Back
      </button>
      <span>Page {trail.length}</span>
      <button
        type="button"
        class="button"
        disabled={next === null}
        onClick={() => next !== null && onTurn([...trail, next])}
      >
        Next
      </button>
    </nav>
  );
}
