import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Api } from "../api.ts";
import type { Runs } from "../markdown.ts";
import { ApiError } from "../problems.ts";
import { scrollTo } from "../scrolling.ts";
import { groupBySpan } from "../spans.ts";
import { blocksOf, quotesIn, whereabouts } from "../stored_text.ts";
import { inForce, utf16Span } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { DocumentText, Problem, Source } from "../wire.ts";
import { type OpenSource, useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";
import { Markdown, drawRuns } from "./markdown_view.tsx";
import { OriginalLink, Snippet } from "./sources.tsx";

type Loaded = { readonly document: DocumentText } | { readonly problem: Problem } | null;

/** The stored text of a source beside the answer, at the passage that was cited. */
export function SourcePanel({ open }: { open: OpenSource }) {
  const desk = useDesk();
  const title = useRef<HTMLHeadingElement>(null);
  const [loaded, setLoaded] = useState<Loaded>(null);
  const turn = desk.conversation.selected.value;
  const source = turn?.sources.find(({ n }) => n === open.n);
  const isApproved = source?.kind === "approved";
  const load = async () => {
    if (isApproved) return;
    setLoaded(null);
    if (source !== undefined) setLoaded(await readSource(desk.api, source));
  };
  // before the panel is seen: a focus that comes a frame later would take it from what was pressed meanwhile
  useLayoutEffect(() => {
    if (open.opener !== null) title.current?.focus();
  }, [open.opener]);
  useEffect(() => {
    void load();
  }, []);
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <div class="panel-head">
        <h2 id="panel-title" ref={title} tabIndex={-1}>
          <span class="visually-hidden">{isApproved ? "Approved answer" : "Stored text"}: </span>
          <span class="number">{open.n}</span> {source?.title ?? "Source"}
        </h2>
        <button type="button" class="button quiet" onClick={() => desk.close()}>
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
      {loaded !== null && "document" in loaded && (
        <StoredText document={loaded.document} turn={turn} n={open.n} />
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

async function readSource(api: Api, source: Source): Promise<Loaded> {
  try {
    return { document: await api.documentText(source) };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { problem: error.problem };
  }
}

/** Quotes of the answer are marked where they stand; without one, the whole passage is. */
function StoredText({ document: stored, turn, n }: { document: DocumentText; turn: Turn | null; n: number }) {
  const scroller = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const passages = [...(scroller.current?.querySelectorAll<HTMLElement>(".passage") ?? [])];
    const [first, last] = [passages[0], passages.at(-1)];
    if (scroller.current !== null && first && last) scrollTo(scroller.current, first, last);
  }, []);
  const place = whereabouts(stored);
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
        <StoredBlocks stored={stored} turn={turn} n={n} />
      </div>
    </>
  );
}

function StoredBlocks({ stored, turn, n }: { stored: DocumentText; turn: Turn | null; n: number }) {
  const blocks = useMemo(() => blocksOf(stored), [stored]);
  const groups = useMemo(() => {
    const whole = stored.span === null ? [] : [utf16Span(stored.text, stored.span)];
    const quotes = quotesIn(stored, turn, n);
    return groupBySpan(blocks, quotes.length > 0 ? quotes : whole);
  }, [blocks, turn?.sentences, n]); // not the turn: each word of an answer that is written changes it
  let isFirst = true;
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) => {
      if (group.span === null) return <span key={index}>{drawRuns(group.runs)}</span>;
      const label = isFirst && <span class="visually-hidden">Cited passage: </span>;
      isFirst = false;
      return (
        <mark key={index} class="passage">
          {label}
          {drawRuns(group.runs)}
        </mark>
      );
    });
  return <Markdown blocks={blocks} headingLevel={3} drawLeaf={drawLeaf} />;
}
