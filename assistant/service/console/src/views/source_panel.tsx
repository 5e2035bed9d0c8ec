import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Api, DocumentPlace } from "../api.ts";
import type { Runs } from "../markdown.ts";
import { ApiError } from "../problems.ts";
import { scrollTo } from "../scrolling.ts";
import { type Span, groupBySpan } from "../spans.ts";
import { blocksOf, fullestOf, quotesIn, whereabouts } from "../stored_text.ts";
import { inForce, utf16Span } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { DocumentOriginal, DocumentText, Problem, Source } from "../wire.ts";
import { type OpenSource, useWorkspace } from "./workspace_state.ts";
import { GiveButton } from "./give_button.tsx";
import { Icon } from "./icons.tsx";
import { Markdown, OpenDocument, drawRuns } from "./markdown_view.tsx";
import { OriginalLink, Snippet } from "./sources.tsx";

/** How long a browser may take to load what opens in a new tab. */
const ORIGINAL_KEPT_MS = 60_000;

type Loaded = { readonly document: DocumentText } | { readonly problem: Problem };

/** The stored text of a source beside the answer, at the passage that was cited. */
export function SourcePanel({ open }: { open: OpenSource }) {
  const workspace = useWorkspace();
  const title = useRef<HTMLHeadingElement>(null);
  const [read, setRead] = useState<{ readonly linked: DocumentPlace | null; readonly loaded: Loaded } | null>(null);
  const turn = workspace.conversation.selected.value;
  const source = turn?.sources.find(({ n }) => n === open.n);
  const isApproved = source?.kind === "approved";
  const [linked, setLinked] = useState<DocumentPlace | null>(null);
  const place = linked ?? source;
  const newest = useRef(linked);
  newest.current = linked;
  const loaded = read?.linked === linked ? read.loaded : null;
  const load = async () => {
    if (isApproved) return;
    setRead(null);
    if (place === undefined) return;
    const loaded = await readSource(workspace.api, place);
    if (newest.current === linked) setRead({ linked, loaded }); // else another link was followed meanwhile
  };
  // before the panel is seen: a focus that comes a frame later would take it from what was pressed meanwhile
  useLayoutEffect(() => {
    if (open.opener !== null) title.current?.focus();
  }, [open.opener]);
  useEffect(() => {
    void load();
  }, [linked]);
  const follow = (to: DocumentPlace | null) => {
    setLinked(to);
    title.current?.focus();
  };
  const opened = loaded !== null && "document" in loaded ? loaded.document : null;
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <div class="panel-head">
        <h2 id="panel-title" ref={title} tabIndex={-1}>
          <span class="visually-hidden">{isApproved ? "Approved answer" : "Stored text"}: </span>
          {linked === null ? (
            <>
              <span class="number">{open.n}</span> {source?.title ?? "Source"}
            </>
          ) : (
            (opened?.title ?? "Linked document")
          )}
        </h2>
        {linked !== null && (
          <button type="button" class="button quiet" onClick={() => follow(null)}>
            Back to source {open.n}
          </button>
        )}
        {linked === null && source?.document_url !== undefined && (
          <GiveButton
            what={{ type: "source", title: source.title, url: new URL(source.document_url, location.href).href }}
            label="Open beside"
            said="Opened"
          />
        )}
        <button type="button" class="button quiet" onClick={() => workspace.close()}>
          <Icon name="close" /> Close
        </button>
      </div>
      {isApproved && <Approved source={source} />}
      {loaded === null && !isApproved && <p class="hint">Opening the stored text…</p>}
      {loaded !== null && "problem" in loaded && (
        <div class="notice bad" role="alert">
          <Icon name="alert" />
          <p>
            <strong>{loaded.problem.title}.</strong> {loaded.problem.detail}
          </p>
          <button type="button" class="button" onClick={() => void load()}>
            <Icon name="retry" /> Try again
          </button>
        </div>
      )}
      {opened !== null && place !== undefined && (
        <OpenDocument.Provider value={(document_id) => follow({ document_id, content_hash: "" })}>
          {opened.original !== null && <OpenOriginal place={place} original={opened.original} />}
          <StoredText document={opened} turn={turn} open={open} />
        </OpenDocument.Provider>
      )}
    </aside>
  );
}

/** An approved answer is quoted as it stands: there is no stored text behind it. */
function Approved({ source: { snippet } }: { source: Source }) {
  return (
    <>
      <p>Your reviewers wrote and approved this answer. It is quoted as it stands; what it rests on is among the sources.</p>
      {snippet !== "" && <Snippet text={snippet} />}
    </>
  );
}

async function readSource(api: Api, place: DocumentPlace): Promise<Loaded> {
  try {
    return { document: await api.documentText(place) };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { problem: error.problem };
  }
}

/** The file behind the text: a PDF opens at the cited page in a new tab, any other file is downloaded. */
function OpenOriginal({ place, original }: { place: DocumentPlace; original: DocumentOriginal }) {
  const { name, media_type, page } = original;
  const workspace = useWorkspace();
  const [problem, setProblem] = useState<Problem | null>(null);
  const isShown = media_type === "application/pdf";
  const open = async () => {
    setProblem(null);
    try {
      const file = await workspace.api.original(place);
      const address = URL.createObjectURL(new Blob([file], { type: media_type }));
      const link = document.createElement("a");
      if (isShown) Object.assign(link, { target: "_blank", href: page === null ? address : `${address}#page=${page}` });
      else Object.assign(link, { download: name, href: address });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), ORIGINAL_KEPT_MS);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(error.problem);
    }
  };
  return (
    <p class="source-meta">
      <button type="button" class="button quiet" onClick={() => void open()}>
        {isShown ? "Open" : "Download"} the original{page === null ? "" : ` at page ${page}`}
        <span class="visually-hidden"> ({name}{isShown && ", in a new tab"})</span>
      </button>
      {problem !== null && <span role="alert">{problem.detail}</span>}
    </p>
  );
}

interface StoredTextProps {
  readonly document: DocumentText;
  readonly turn: Turn | null;
  readonly open: OpenSource;
}

/** The units of the sentences that cite the source are marked; the text opens at the one that says most of the pressed sentence. */
function StoredText({ document: stored, turn, open: { n, sentences } }: StoredTextProps) {
  const scroller = useRef<HTMLDivElement>(null);
  // not the turn: each word of an answer that is written changes it
  const [quotes, opensAt] = useMemo(() => {
    const marks = quotesIn(stored, turn, n, sentences);
    return [marks, fullestOf(marks, stored, turn, sentences)] as const;
  }, [stored, turn?.sentences, n, sentences]);
  useLayoutEffect(() => {
    const passages = scroller.current?.querySelectorAll<HTMLElement>(`.passage[data-span="${opensAt}"]`) ?? [];
    const [first, last] = [passages[0], [...passages].at(-1)];
    if (scroller.current !== null && first && last) scrollTo(scroller.current, first, last);
  }, [sentences]);
  const place = whereabouts(stored, quotes[opensAt]);
  return (
    <>
      <p class="source-meta">
        {stored.effective_date !== null && (
          <span class="in-force">{inForce(stored.effective_date, new Date())}</span>
        )}
        {stored.source !== "" && <span>{stored.source}</span>}
        {stored.owner !== null && <span>Owner: {stored.owner}</span>}
        <OriginalLink url={stored.url} title={stored.title} />
      </p>
      {place !== null && <p class="whereabouts">{place}</p>}
      {stored.span === null && (
        <p class="notice warn">
          <Icon name="alert" />
          {stored.is_cited_version
            ? "The link names no passage: this is the whole text."
            : "The document has changed since this answer was written, so the passage is not marked."}
        </p>
      )}
      <div ref={scroller} class="stored-text markdown" role="region" aria-label="Stored text" tabIndex={0}>
        {stored.question !== null && <p class="stored-question">{stored.question}</p>}
        <StoredBlocks stored={stored} quotes={quotes} />
      </div>
    </>
  );
}

function StoredBlocks({ stored, quotes }: { stored: DocumentText; quotes: readonly Span[] }) {
  const blocks = useMemo(() => blocksOf(stored), [stored]);
  const groups = useMemo(() => {
    const whole = stored.span === null ? [] : [utf16Span(stored.text, stored.span)];
    return groupBySpan(blocks, quotes.length > 0 ? quotes : whole);
  }, [blocks, quotes]);
  let isFirst = true;
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) => {
      if (group.span === null) return <span key={index}>{drawRuns(group.runs)}</span>;
      const label = isFirst && <span class="visually-hidden">Cited passage: </span>;
      isFirst = false;
      return (
        <mark key={index} class="passage" data-span={group.span}>
          {label}
          {drawRuns(group.runs)}
        </mark>
      );
    });
  return <Markdown blocks={blocks} headingLevel={3} drawLeaf={drawLeaf} />;
}
