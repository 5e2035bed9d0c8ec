import { useEffect, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import { ApiError } from "../problems.ts";
import { count } from "../text.ts";
import { type Uploads, placed } from "../uploads.ts";
import type { DocumentFilters, DocumentPage, DocumentState, DocumentStatus, WritableSources } from "../wire.ts";
import { type DocumentActs, DocumentTable, FOLLOW_MS, MOVING, RELEASE_NEEDED } from "./document_table.tsx";
import { DetailsDialog } from "./document_details.tsx";
import { Failure, useCall } from "./failure.tsx";
import { ReleaseDialog } from "./release_dialog.tsx";
import { loadingWords } from "./before_answer.tsx";
import { Icon } from "./icons.tsx";
import { UploadPanel } from "./upload_panel.tsx";
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

const TYPED_MS = 250;
const NONE: WritableSources = { sources: [], kinds: [] };

interface Listing extends DocumentFilters {
  /** The `after` of each page from the first to this one. */
  readonly trail: readonly (string | null)[];
}

/** A page of the list of documents, read anew whenever another one is asked for. Calls overlap; an older one never
 * takes the place of a newer one, and a page is shown under the choice that it was read for alone. */
function useListing(api: Api) {
  const [listing, setListing] = useState<Listing>({ state: null, find: "", trail: [null] });
  const [read, setRead] = useState<{ readonly of: Listing; readonly page: DocumentPage } | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const page = read?.of === listing ? read.page : null;
  const calls = useRef({ begun: 0, shown: 0 });
  const after = listing.trail.at(-1) ?? null;
  const load = async ({ isSilent = false } = {}) => {
    const call = (calls.current.begun += 1);
    try {
      const loaded = await api.documents({ state: listing.state, find: listing.find }, after);
      if (call < calls.current.shown) return;
      calls.current.shown = call;
      setRead({ of: listing, page: loaded });
      setFailure(null);
      if (!isSilent) announce(`${count(loaded.documents.length, "document")} shown`);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (call === calls.current.begun) setFailure(`The list could not be read: ${error.problem.detail}`);
    }
  };
  useEffect(() => {
    setFailure(null);
    const timer = setTimeout(() => void load(), listing.find === "" ? 0 : TYPED_MS);
    return () => clearTimeout(timer);
  }, [listing]);
  useEffect(() => {
    const isMoving = page !== null && (page.loading.length > 0 || MOVING.some((state) => (page.counts[state] ?? 0) > 0));
    if (!isMoving) return;
    const timer = setTimeout(() => void load({ isSilent: true }), FOLLOW_MS);
    return () => clearTimeout(timer);
  }, [page, listing]);
  return { listing, setListing, page, counts: read?.page.counts ?? {}, failure, load };
}

/** Which documents answer, which failed and why, how old they are: the page of a knowledge owner. */
export function Knowledge({ api, agent, uploads }: { api: Api; agent: string; uploads: Uploads }) {
  const { listing, setListing, page, counts, failure, load } = useListing(api);
  const [withdrawing, setWithdrawing] = useState<DocumentStatus | null>(null);
  const [detailed, setDetailed] = useState<DocumentStatus | null>(null);
  const { writable, unread } = useUploads(api, uploads, load);
  const [releasing, setReleasing] = useState<readonly DocumentStatus[]>([]);
  const release = useCall("Not read");
  const releaseAll = (source: string) =>
    release.run(async () => setReleasing(await waitingIn(api, (one) => one.knowledge_source === source && isForOther(one, agent))));
  const acts: DocumentActs = {
    agent,
    onWithdraw: setWithdrawing,
    onDetails: setDetailed,
    onReplace: (document, picked) => {
      const folder = document.origin?.match(/^.*(?=\/)/)?.[0] ?? "";
      uploads.add(placed(picked, folder), document.knowledge_source, { replaces: document.document_id });
    },
    onRelease: (document) => setReleasing([document]),
  };
  const turnTo = (trail: Listing["trail"]) => {
    setListing({ ...listing, trail });
    document.getElementById("main")?.focus();
  };
  const closeDialog = (isWithdrawn: boolean) => {
    setWithdrawing(null);
    if (!isWithdrawn) return;
    document.getElementById("main")?.focus(); // the button that opened the dialog goes with the document
    setDetailed(withdrawing);
    void load();
  };
  return (
    <main id="main" tabIndex={-1} class="knowledge">
      <div class="knowledge-head">
        <h2 class="title">Knowledge</h2>
        <p class="filter">
          <label for="find">Find</label>
          <input
            id="find"
            type="search"
            placeholder="Title or id"
            maxLength={200}
            onInput={(event) => setListing({ ...listing, find: event.currentTarget.value, trail: [null] })}
          />
        </p>
        <StateFilter
          counts={counts}
          state={listing.state}
          onChange={(state) => setListing({ ...listing, state, trail: [null] })}
        />
        <button type="button" class="button" onClick={() => void load()}>
          <Icon name="retry" /> Refresh
        </button>
      </div>
      {failure !== null && <Failure>{failure}</Failure>}
      {page === null && failure === null && <p class="hint">Reading the list…</p>}
      {release.failure !== null && <Failure>{release.failure}</Failure>}
      {unread !== null && <Failure>{unread}</Failure>}
      <UploadPanel api={api} uploads={uploads} writable={writable} />
      {page?.loading?.map((one) => (
        <p key={one.source} class="notice warn loading">
          <Icon name="clock" />
          <span>{loadingWords(one)} Until all are there, no answer from it is certain.</span>
        </p>
      ))}
      {page !== null && <ReleaseAll page={page} agent={agent} onRelease={releaseAll} />}
      {page !== null && <Documents page={page} filters={listing} acts={acts} />}
      <Pager trail={listing.trail} next={page?.next_after ?? null} onTurn={turnTo} />
      {detailed !== null && (
        <DetailsDialog
          api={api}
          documentId={detailed.document_id}
          onClose={(isChanged) => {
            setDetailed(null);
            if (isChanged) void load();
          }}
        />
      )}
      {releasing.length > 0 && (
        <ReleaseDialog
          api={api}
          documents={releasing}
          onClose={() => {
            setReleasing([]);
            document.getElementById("main")?.focus(); // the button that opened the dialog may be gone
            void load();
          }}
        />
      )}
      {withdrawing !== null && <WithdrawDialog api={api} document={withdrawing} onClose={closeDialog} />}
    </main>
  );
}

/** Whether a document waits for this person's release. */
function isForOther({ failure_code, brought_by }: DocumentStatus, agent: string): boolean {
  return failure_code === RELEASE_NEEDED && brought_by !== agent;
}

/** The withheld documents that are wanted, of every page. */
async function waitingIn(api: Api, isWanted: (document: DocumentStatus) => boolean): Promise<readonly DocumentStatus[]> {
  const found: DocumentStatus[] = [];
  let after: string | null = null;
  do {
    const page: DocumentPage = await api.documents({ state: "withheld", find: "" }, after);
    found.push(...page.documents.filter(isWanted));
    after = page.next_after;
  } while (after !== null);
  return found;
}

/** The sources that the owner may add to; the list follows what was read of the uploads. */
function useUploads(api: Api, uploads: Uploads, load: (how?: { isSilent?: boolean }) => Promise<void>) {
  const [writable, setWritable] = useState(NONE);
  useEffect(() => {
    uploads.onRead = () => void load({ isSilent: true });
    return () => (uploads.onRead = () => {});
  });
  const { failure, run } = useCall("The sources could not be read");
  useEffect(() => void run(async () => setWritable(await api.writableSources())), [api]);
  return { writable, unread: failure };
}

interface ReleaseAllProps {
  readonly page: DocumentPage;
  readonly agent: string;
  readonly onRelease: (source: string) => unknown;
}

/** For the second person: one button to read all that waits in a source, the pages behind this one included. */
function ReleaseAll({ page, agent, onRelease }: ReleaseAllProps) {
  const waiting = page.documents.filter((one) => isForOther(one, agent));
  return (
    <>
      {[...new Set(waiting.map((one) => one.knowledge_source))].map((source) => (
        <p key={source} class="notice warn">
          <span>Documents of {source} that other people added wait for your release. </span>
          <button type="button" class="button" onClick={() => onRelease(source)}>
            Read and release all of {source}
          </button>
        </p>
      ))}
    </>
  );
}

interface DocumentsProps {
  readonly page: DocumentPage;
  readonly filters: DocumentFilters;
  readonly acts: DocumentActs;
}

function Documents({ page, filters: { state, find }, acts }: DocumentsProps) {
  if (page.documents.length > 0) return <DocumentTable documents={page.documents} acts={acts} />;
  const here = page.next_after === null ? "" : " in this part of the list. Next searches on";
  const none = state === null ? "There is no document yet." : `No document is ${state}.`;
  return <p class="notice plain">{find === "" ? none : `Nothing found for “${find}”${here}.`}</p>;
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
