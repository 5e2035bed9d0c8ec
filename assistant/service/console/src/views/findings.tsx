/** What the service says of an answer as a whole: how it was made, how sure it is, what else may be meant. */
import { useMemo } from "preact/hooks";
import { quotesIn, readMarkdown } from "../markdown.ts";
import { withTables } from "../tables.ts";
import { count, inForce } from "../text.ts";
import { type Turn, isApproved, isRunning, isWritten, withheldCount } from "../turn.ts";
import type { Also } from "../wire.ts";
import { linkTargets } from "./answer_text.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Icon } from "./icons.tsx";
import { Markdown } from "./markdown_view.tsx";

const FALLBACKS: Readonly<Record<string, string>> = {
  withheld: "each of its sentences states a value that no source holds",
  repetition: "the model repeated itself",
  debris: "the model wrote unreadable text",
  too_long: "the model did not come to an end",
  length: "the model did not come to an end",
  content_filter: "a filter of the model’s service stopped it",
  empty_answer: "the model wrote nothing",
  no_room_for_passages: "the question left no room for the sources",
  generation_late: "the model was too slow",
  endpoint_paused: "the model is paused",
};

/** How the text was made, and for a fallback why it is not the model's. */
export function Mode({ turn }: { turn: Turn }) {
  const { mode, fallback } = turn.findings;
  const isByReviewers = isApproved(turn);
  const withheld = withheldCount(turn);
  const isLiveOnly = turn.elements.length > 0 && turn.sentences.length === 0;
  return (
    <>
      {mode === "quoted" && isLiveOnly && (
        <span class="badge plain">
          <Icon name="clock" /> Live values; no document is quoted
        </span>
      )}
      {mode === "quoted" && isByReviewers && (
        <span class="badge good">
          <Icon name="check" /> Approved by your reviewers
        </span>
      )}
      {mode === "quoted" && !isByReviewers && !isLiveOnly && (
        <span class="badge plain">
          <Icon name="book" /> Quoted from the documents
        </span>
      )}
      {isWritten(turn) && <Written turn={turn} />}
      {withheld > 0 && (
        <span class="badge warn">
          <Icon name="alert" /> {count(withheld, "sentence")} withheld
        </span>
      )}
      {fallback !== null && (
        <span class="hint fallback">
          Quotes take the place of the model’s text: {FALLBACKS[fallback] ?? fallback.replaceAll("_", " ")}.
        </span>
      )}
    </>
  );
}

/** That a model wrote the text, and what was checked by what. */
function Written({ turn }: { turn: Turn }) {
  const { checks } = useWorkspace();
  const { checkedBy } = turn;
  const shown = turn.sentences.filter(({ detail }) => detail !== "withheld");
  const checked = shown.filter(({ check }) => check !== undefined);
  const doubted = checked.filter(({ check }) => check?.verdict !== "held").length;
  const each = checked.length === shown.length ? "each sentence" : `${checked.length} of ${shown.length} sentences`;
  const words =
    checkedBy === "follows" || (checks && isRunning(turn))
      ? "being checked"
      : checkedBy === null
        ? "not checked"
        : `${each} checked by ${checkedBy.by} against the documents`;
  return (
    <span class={doubted === 0 ? "badge plain" : "badge warn"}>
      <Icon name="edit" /> Written by the model · {words}
      {doubted > 0 && `: ${doubted} to look at`}
    </span>
  );
}

export function Escalation({ words }: { words: string | null }) {
  if (words === null || words === "") return null;
  return (
    <p class="escalation">
      <strong>Whom to ask:</strong> {words}
    </p>
  );
}

/** What a live system needs to know before it can answer. */
export function Clarify({ question }: { question: string }) {
  return (
    <section class="clarify" aria-labelledby="clarify-title">
      <h3 id="clarify-title">Needed for live values</h3>
      <p>{question}</p>
    </section>
  );
}

export function AlsoPossible({ turn }: { turn: Turn }) {
  const { also } = turn.findings;
  if (also.length === 0) return null;
  return (
    <details class="folded also">
      <summary id="also-line" aria-keyshortcuts="Alt+Shift+O">
        Also possible: {also.map(({ title }) => title).join(", ")}
      </summary>
      <ul class="also-list">
        {also.map((quote) => (
          <li key={quote.document_id} class="also-card">
            <h3>{quote.title}</h3>
            <Quote quote={quote} turn={turn} />
          </li>
        ))}
      </ul>
    </details>
  );
}

/** A quote of a document, its date, and the way to its stored text. */
export function Quote({ quote, turn }: { quote: Also; turn: Turn }) {
  const workspace = useWorkspace();
  const blocks = useMemo(
    () => {
      const blocks = readMarkdown(quote.text, { links: linkTargets(turn.sources), quotes: quotesIn(quote.text) });
      return withTables(blocks, quote.text, quote.rows ?? []);
    },
    [quote.text, turn.sources],
  );
  const n = quote.citations.find((n) => turn.sources.some((source) => source.n === n));
  return (
    <div class="quote">
      {quote.effective_date !== null && <p class="hint">{inForce(quote.effective_date, new Date())}</p>}
      <div class="markdown">
        <Markdown blocks={blocks} headingLevel={0} />
      </div>
      {n !== undefined && (
        <button
          type="button"
          class="link"
          onClick={(event) => workspace.show(turn.key, n, event.currentTarget)}
        >
          Open the document<span class="visually-hidden"> {quote.title}</span>
        </button>
      )}
    </div>
  );
}
