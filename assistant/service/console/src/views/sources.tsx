import { count, safeHref } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { Source } from "../wire.ts";
import { useDesk } from "./desk.ts";

/** The numbered sources of the selected turn; hidden, not gone, so that what opened one can get the focus back. */
export function Sources({ turn, isHidden }: { turn: Turn | null; isHidden: boolean }) {
  const sources = turn?.sources ?? [];
  const cited = new Set(turn?.sentences.flatMap((sentence) => sentence.citations));
  const title = turn?.finishReason === "no_evidence" ? "Nearest, but no answer" : "Sources";
  return (
    <aside class="sources" hidden={isHidden} aria-labelledby="sources-title" tabIndex={0}>
      <h2 id="sources-title">
        {title} {sources.length > 0 && <span class="hint">{count(sources.length, "passage")}</span>}
      </h2>
      {turn === null || sources.length === 0 ? (
        <p class="hint">{turn === null ? "The passages behind an answer appear here." : "None yet."}</p>
      ) : (
        <ol class="source-list">
          {sources.map((source) => (
            <SourceCard key={source.n} source={source} turnKey={turn.key} isCited={cited.has(source.n)} />
          ))}
        </ol>
      )}
    </aside>
  );
}

interface SourceCardProps {
  readonly source: Source;
  readonly turnKey: string;
  readonly isCited: boolean;
}

function SourceCard({ source, turnKey, isCited }: SourceCardProps) {
  const desk = useDesk();
  const isPointedAt = desk.preview.value?.n === source.n;
  return (
    <li class={isPointedAt ? "source is-pointed-at" : "source"} data-source={source.n}>
      <h3>
        <span class="number">{source.n}</span>
        <button
          type="button"
          class="link"
          onClick={(event) => desk.show(turnKey, source.n, event.currentTarget)}
        >
          {source.title}
        </button>
      </h3>
      {source.snippet !== "" && <p class="snippet">{source.snippet}</p>}
      <p class="source-meta">
        {isCited && <span class="badge good">Cited</span>}
        {source.source !== "" && <span>{source.source}</span>}
        <OriginalLink url={source.url} title={source.title} />
      </p>
    </li>
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
