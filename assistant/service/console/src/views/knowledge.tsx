import { useEffect, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import { ApiError } from "../problems.ts";
import { count } from "../text.ts";
import type { DocumentPage, DocumentState, DocumentStatus } from "../wire.ts";
import { DocumentTable } from "./document_table.tsx";
import { Icon } from "./icons.tsx";
import { WithdrawDialog } from "./withdraw_dialog.tsx";

const STATES: readonly DocumentState[] = [
  "live",
  "failed",
  "stale",
  "received",
  "parsed",
  "embedded",
  "withdrawn",
];

/** Which documents answer, which failed and why, how old they are: the page of a knowledge owner. */
export function Knowledge({ api }: { api: Api }) {
  const [state, setState] = useState<DocumentState | null>(null);
  /** The `after` of each page from the first to this one. */
  const [trail, setTrail] = useState<readonly (string | null)[]>([null]);
  const [page, setPage] = useState<DocumentPage | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const [withdrawing, setWithdrawing] = useState<DocumentStatus | null>(null);
  const after = trail.at(-1) ?? null;
  const load = async () => {
    setFailure(null);
    try {
      const loaded = await api.documents(state, after);
      setPage(loaded);
      announce(`${count(loaded.documents.length, "document")} shown`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(error.problem.detail);
    }
  };
  useEffect(() => void load(), [state, after]);
  const filter = (next: DocumentState | null) => {
    setState(next);
    setTrail([null]);
  };
  return (
    <main id="main" tabIndex={-1} class="knowledge">
      <div class="knowledge-head">
        <h2 class="title">Knowledge</h2>
        <StateFilter counts={page?.counts ?? {}} state={state} onChange={filter} />
        <button type="button" class="button" onClick={() => void load()}>
          <Icon name="retry" /> Refresh
        </button>
      </div>
      {failure !== null && (
        <p class="notice bad" role="alert">
          <Icon name="alert" /> {failure}
        </p>
      )}
      {page === null && failure === null && <p class="hint">Reading the list…</p>}
      {page !== null && page.documents.length === 0 && (
        <p class="notice plain">{state === null ? "There is no document yet." : `No document is ${state}.`}</p>
      )}
      {page !== null && page.documents.length > 0 && (
        <DocumentTable documents={page.documents} onWithdraw={setWithdrawing} />
      )}
      <Pager
        trail={trail}
        next={page?.next_after ?? null}
        onTurn={(next) => {
          setTrail(next);
          document.getElementById("main")?.focus();
        }}
      />
      {withdrawing !== null && (
        <WithdrawDialog
          api={api}
          document={withdrawing}
          onClose={(isWithdrawn) => {
            setWithdrawing(null);
            if (isWithdrawn) void load();
          }}
        />
      )}
    </main>
  );
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
