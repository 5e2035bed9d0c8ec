import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Api } from "../api.ts";
import { ApiError } from "../problems.ts";
import { scrollTo } from "../scrolling.ts";
import { aroundSpan, calendarDate } from "../text.ts";
import type { DocumentText, Problem } from "../wire.ts";
import { type OpenSource, useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";
import { OriginalLink } from "./sources.tsx";

type Loaded = { readonly document: DocumentText } | { readonly problem: Problem } | null;

/** The stored text of a source beside the answer, at the passage that was cited. */
export function SourcePanel({ open }: { open: OpenSource }) {
  const desk = useDesk();
  const title = useRef<HTMLHeadingElement>(null);
  const [loaded, setLoaded] = useState<Loaded>(null);
  const source = desk.conversation.selected.value?.sources.find(({ n }) => n === open.n);
  const load = async () => {
    setLoaded(null);
    if (source !== undefined) setLoaded(await readSource(desk.api, source.document_url));
  };
  // before the panel is seen: a focus that comes a frame later would take it from what was pressed meanwhile
  useLayoutEffect(() => title.current?.focus(), []);
  useEffect(() => {
    void load();
  }, []);
  return (
    <aside class="panel" aria-labelledby="panel-title">
      <div class="panel-head">
        <h2 id="panel-title" ref={title} tabIndex={-1}>
          <span class="visually-hidden">Stored text: </span>
          <span class="number">{open.n}</span> {source?.title ?? "Source"}
        </h2>
        <button type="button" class="button quiet" onClick={() => desk.close()}>
          <Icon name="close" /> Close
        </button>
      </div>
      {loaded === null && <p class="hint">Opening the stored text…</p>}
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
      {loaded !== null && "document" in loaded && <StoredText document={loaded.document} />}
    </aside>
  );
}

async function readSource(api: Api, path: string): Promise<Loaded> {
  try {
    return { document: await api.documentText(path) };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { problem: error.problem };
  }
}

function StoredText({ document: stored }: { document: DocumentText }) {
  const passage = useRef<HTMLElement>(null);
  const parts = stored.span === null ? null : aroundSpan(stored.text, stored.span);
  const scroller = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (scroller.current !== null && passage.current !== null) scrollTo(scroller.current, passage.current);
  }, []);
  return (
    <>
      <p class="source-meta">
        {stored.source !== "" && <span>{stored.source}</span>}
        {stored.owner !== null && <span>Owner: {stored.owner}</span>}
        {stored.effective_date !== null && <span>Effective {calendarDate(stored.effective_date)}</span>}
        <OriginalLink url={stored.url} title={stored.title} />
      </p>
      {parts === null && (
        <p class="notice warn">
          <Icon name="alert" />
          {stored.is_cited_version
            ? "The link names no passage: this is the whole text."
            : "The document has changed since this answer was written, so the passage is not marked."}
        </p>
      )}
      <div ref={scroller} class="stored-text" role="region" aria-label="Stored text" tabIndex={0}>
        {stored.question !== null && <p class="stored-question">{stored.question}</p>}
        {parts === null ? (
          stored.text
        ) : (
          <>
            {parts.before}
            <mark ref={passage} class="passage">
              <span class="visually-hidden">Cited passage: </span>
              {parts.marked}
            </mark>
            {parts.after}
          </>
        )}
      </div>
    </>
  );
}
