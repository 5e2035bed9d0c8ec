import { useMemo } from "preact/hooks";
import { readMarkdown } from "../markdown.ts";
import { count, factsLine, inForce, safeHref } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { Source } from "../wire.ts";
import { useWorkspace } from "./workspace_state.ts";
import { Markdown } from "./markdown_view.tsx";

/** The sources of the selected turn by document; hidden, not gone, so that what opened one can get the focus back. */
export function Sources({ turn, isHidden }: { turn: Turn | null; isHidden: boolean }) {
  const sources = turn?.sources ?? [];
  const cited = new Set(turn?.sentences.flatMap((sentence) => sentence.citations));
  const title = turn?.finishReason === "no_evidence" ? "Nearest, but no answer" : "Sources";
  const documents = byDocument(sources);
  return (
    <aside class="sources" hidden={isHidden} aria-labelledby="sources-title" tabIndex={0}>
      <h2 id="sources-title">
        {title}{" "}
        {sources.length > 0 && (
          <span class="hint">
            {count(sources.length, "passage")} of {count(documents.length, "document")}
          </span>
        )}
      </h2>
      {turn === null || sources.length === 0 ? (
        <p class="hint">{turn === null ? "The passages behind an answer appear here." : "None yet."}</p>
      ) : (
        <ol class="source-list">
          {documents.map((passages) => (
            <DocumentCard key={passages[0].document_id} passages={passages} turnKey={turn.key} cited={cited} />
          ))}
        </ol>
      )}
    </aside>
  );
}

type Passages = readonly [Source, ...Source[]];

/** Passages by document, in order of each document's first one. */
export function byDocument(sources: readonly Source[]): Passages[] {
  const documents = new Map<string, [Source, ...Source[]]>();
  for (const source of sources) {
    const others = documents.get(source.document_id);
    if (others === undefined) documents.set(source.document_id, [source]);
    else others.push(source);
  }
  return [...documents.values()];
}

interface DocumentCardProps {
  readonly passages: Passages;
  readonly turnKey: string;
  readonly cited: ReadonlySet<number>;
}

function DocumentCard({ passages, turnKey, cited }: DocumentCardProps) {
  const [{ title, url, source, effective_date = null, banner = "", facts = null }] = passages;
  const known = facts === null ? "" : factsLine(facts);
  return (
    <li class="document">
      <h3>{title}</h3>
      {banner !== "" && <p class="document-banner">{banner}</p>}
      <p class="source-meta">
        {effective_date !== null && <span class="in-force">{inForce(effective_date, new Date())}</span>}
        {source !== "" && <span>{source}</span>}
        {known !== "" && <span class="facts">{known}</span>}
        <OriginalLink url={url} title={title} />
      </p>
      <ol class="passage-list">
        {passages.map((passage) => (
          <PassageCard key={passage.n} source={passage} turnKey={turnKey} isCited={cited.has(passage.n)} />
        ))}
      </ol>
    </li>
  );
}

interface PassageCardProps {
  readonly source: Source;
  readonly turnKey: string;
  readonly isCited: boolean;
}

function PassageCard({ source, turnKey, isCited }: PassageCardProps) {
  const workspace = useWorkspace();
  const isPointedAt = workspace.preview.value?.n === source.n;
  const heading = headingOf(source);
  const name = source.kind === "approved" ? "approved answer" : "passage";
  return (
    <li class={isPointedAt ? "source is-pointed-at" : "source"} data-source={source.n}>
      <p class="source-head">
        <span class="number">{source.n}</span>
        <button
          type="button"
          class="link"
          aria-label={`Open ${name} ${source.n}: ${heading === "" ? source.title : heading}`}
          onClick={(event) => workspace.show(turnKey, source.n, event.currentTarget)}
        >
          {heading === "" ? `Open ${name} ${source.n}` : heading}
        </button>
        {isCited && <span class="badge good">Cited</span>}
      </p>
      {source.snippet !== "" && <Snippet text={source.snippet} />}
    </li>
  );
}

/** The headings of a passage below the document's title, which is most often the outermost of them. */
export function headingOf({ heading = "", title }: Source): string {
  const headings = heading.split(" > ").filter((part) => part !== "");
  const below = headings[0] === title ? headings.slice(1) : headings;
  return below.join(" › ");
}

/** A passage as it is stored: its lists and steps are drawn as such, no mark in it is hidden. */
export function Snippet({ text }: { text: string }) {
  const blocks = useMemo(() => readMarkdown(text, { hasInline: false }), [text]);
  return (
    <div class="snippet markdown">
      <Markdown blocks={blocks} headingLevel={0} />
    </div>
  );
}

/** A link to the original at its publisher; nothing for an address that is not a web page's. */
export function OriginalLink({ url, title }: { url: string | null; title: string }) {
  const href = safeHref(url);
  if (href === null) return null;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      Original<span class="visually-hidden"> of {title}, in a new tab</span>
      <span aria-hidden="true"> ↗</span>
    </a>
  );
}
