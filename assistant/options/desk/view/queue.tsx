import { useRef, useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { age, count } from "@console/text.ts";
import { Icon } from "@console/views/icons.tsx";
import { useReview } from "./context.ts";
import { FilterChoice } from "./filter_choice.tsx";
import { NO_FILTERS } from "./review.ts";
import type { CaseReason, CaseRow } from "./wire.ts";
import { REASONS, STATES, STATE_LOOKS, reasonWords } from "./words.ts";

/** The cases under the filters. */
export function Queue() {
  const review = useReview();
  const cases = review.cases.value;
  return (
    <section class="queue" aria-labelledby="queue-title">
      <h3 id="queue-title" class="visually-hidden">
        Queue
      </h3>
      <Filters />
      <p class="queue-count">
        <span class="hint" role="status">
          {cases !== null ? countWords(cases, review.hasMore.value) : review.problem.value === null && "Reading the queue…"}
        </span>
        <button type="button" class="button small" onClick={() => void review.load()}>
          <Icon name="retry" /> Refresh
        </button>
      </p>
      {cases !== null && cases.length > 0 && <CaseList cases={cases} />}
      {review.hasMore.value && (
        <button type="button" class="button wide" onClick={() => void review.loadMore()}>
          More cases
        </button>
      )}
    </section>
  );
}

const COUNTED: Readonly<Record<CaseReason, string>> = {
  bad_verdict: "marked bad",
  fact_edited: "with an edited fact",
  unsupported_sent: "with unsupported text",
  emergency: "with a red flag",
  unanswered: "not answered",
  different_values: "of documents that differ",
  review_due: "review date passed",
  answer_suspended: "of suspended answers",
};

/** "12 cases: 7 marked bad, 5 not answered". */
function countWords(cases: readonly CaseRow[], hasMore: boolean): string {
  if (cases.length === 0) return "No case here. Choose another state, or clear the filters.";
  const reasons = (Object.keys(COUNTED) as CaseReason[])
    .map((reason) => [COUNTED[reason], cases.filter((row) => row.reason === reason).length] as const)
    .filter(([, n]) => n > 0)
    .map(([words, n]) => `${n} ${words}`);
  return `${hasMore ? "First " : ""}${count(cases.length, "case")}: ${reasons.join(", ")}`;
}

function Filters() {
  const review = useReview();
  const { state, reason, gap, document_id } = review.filters.value;
  return (
    <div class="queue-filters">
      <span class="queue-filter">
        <FilterChoice
          id="filter-state"
          label="State"
          all="All states"
          words={STATES}
          value={state}
          onChoose={(chosen) => void review.filter({ state: chosen })}
        />
      </span>
      <span class="queue-filter">
        <FilterChoice
          id="filter-reason"
          label="Reason"
          all="All reasons"
          words={REASONS}
          value={reason}
          onChoose={(chosen) => void review.filter({ reason: chosen })}
        />
      </span>
      {gap !== null && (
        <ChosenFilter words={`Gap: ${review.gapTitle(gap)}`} onClear={() => void review.filter({ gap: null })} />
      )}
      {document_id !== null && (
        <ChosenFilter
          words={`Document: ${review.documentTitle(document_id)}`}
          onClear={() => void review.filter({ document_id: null })}
        />
      )}
      {(state ?? reason ?? gap ?? document_id) !== null && (
        <button type="button" class="link" onClick={() => void review.filter(NO_FILTERS)}>
          Clear filters
        </button>
      )}
    </div>
  );
}

function ChosenFilter({ words, onClear }: { words: string; onClear: () => void }) {
  return (
    <span class="badge plain chosen-filter">
      {words}
      <button type="button" class="link" onClick={onClear}>
        <Icon name="close" />
        <span class="visually-hidden">Clear the filter {words}</span>
      </button>
    </span>
  );
}

/** One stop of Tab: j and k, or the arrows, lead through it. Letters act only while the focus is in the list. */
function CaseList({ cases }: { cases: readonly CaseRow[] }) {
  const review = useReview();
  const list = useRef<HTMLOListElement>(null);
  const [stopId, setStopId] = useState(review.selectedId.peek());
  const stop = Math.max(0, cases.findIndex(({ case_id }) => case_id === stopId));
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const links = [...(list.current?.querySelectorAll<HTMLElement>(".case-link") ?? [])];
    const at = links.indexOf(document.activeElement as HTMLElement);
    const target = { j: at + 1, ArrowDown: at + 1, k: at - 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (target === undefined || at === -1) return;
    event.preventDefault();
    links[Math.min(Math.max(target, 0), links.length - 1)]?.focus();
  };
  const open = async (row: CaseRow) => {
    await review.open(row.case_id);
    if (review.detail.peek()?.case_id !== row.case_id) return; // left meanwhile, or not read
    document.getElementById("case-title")?.focus();
    announce(`Case opened: ${reasonWords(row)}`);
  };
  return (
    <ol ref={list} class="case-list" onKeyDown={onKeyDown}>
      {cases.map((row, index) => (
        <li key={row.case_id}>
          <CaseLine
            row={row}
            isStop={index === stop}
            onFocus={() => setStopId(row.case_id)}
            onOpen={() => void open(row)}
          />
        </li>
      ))}
    </ol>
  );
}

interface CaseLineProps {
  readonly row: CaseRow;
  readonly isStop: boolean;
  readonly onFocus: () => void;
  readonly onOpen: () => void;
}

function CaseLine({ row, isStop, onFocus, onOpen }: CaseLineProps) {
  const review = useReview();
  const isOpen = row.case_id === review.selectedId.value;
  const [icon, tone] = STATE_LOOKS[row.state];
  return (
    <button
      type="button"
      class="case-link"
      data-case={row.case_id}
      tabIndex={isStop ? 0 : -1}
      aria-current={isOpen ? "true" : undefined}
      onFocus={onFocus}
      onClick={onOpen}
    >
      <span class="case-question">{row.question ?? "The question is no longer kept."}</span>
      <span class="case-facts">
        {row.reason === "emergency" ? <span class="badge bad">{reasonWords(row)}</span> : <span>{reasonWords(row)}</span>}
        <span class={`turn-state ${tone}`}>
          <Icon name={icon} /> {STATES[row.state]}
        </span>
        <span class="hint">{age(row.opened_at, new Date())}</span>
        {row.joined > 0 && <span class="hint">and {row.joined} more of this question</span>}
        {review.drafts.value[row.case_id] !== undefined && <span class="badge warn">Not saved</span>}
      </span>
    </button>
  );
}
