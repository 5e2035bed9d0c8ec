import { useMemo } from "preact/hooks";
import { readMarkdown } from "@console/markdown.ts";
import { calendarDate, moment } from "@console/text.ts";
import { Icon } from "@console/views/icons.tsx";
import { Markdown } from "@console/views/markdown_view.tsx";
import { CaseSources } from "./case_sources.tsx";
import { useReview } from "./context.ts";
import { backToQueue } from "./moves.ts";
import { Outcome } from "./outcome.tsx";
import { ResolutionForm } from "./resolution_form.tsx";
import { SentTexts } from "./sent_texts.tsx";
import type { DeskCase } from "./wire.ts";
import { STATES, STATE_LOOKS, reasonWords } from "./words.ts";

/** The open case: what was asked, shown and sent, why it is here, and what becomes of it. */
export function CaseView() {
  const review = useReview();
  const detail = review.detail.value;
  if (review.selectedId.value === null) {
    return (
      <section class="case is-empty" aria-label="Case">
        <p class="hint">Open a case of the queue.</p>
      </section>
    );
  }
  return (
    <section class="case" aria-label="Case">
      <p class="case-back">
        <button type="button" class="button quiet" onClick={() => backToQueue(review)}>
          <Icon name="close" /> Back to the queue
        </button>
      </p>
      {detail === null ? review.problem.value === null && <p class="hint">Opening the case…</p> : <CaseParts key={detail.case_id} detail={detail} />}
    </section>
  );
}

function CaseParts({ detail }: { detail: DeskCase }) {
  const { state } = detail.case;
  return (
    <>
      <CaseHead detail={detail} />
      {state !== "open" && <Outcome detail={detail} />}
      <Shown detail={detail} />
      <SentTexts detail={detail} />
      {detail.better_text !== null && <BetterText text={detail.better_text} />}
      <CaseSources sources={detail.sources} />
      {(state === "open" || state === "asked_owner") && <ResolutionForm detail={detail} />}
      <History detail={detail} />
    </>
  );
}

function CaseHead({ detail }: { detail: DeskCase }) {
  const review = useReview();
  const { state, opened_at, reader_labels, gap } = detail.case;
  const [icon, tone] = STATE_LOOKS[state];
  const wrong = detail.verdicts.filter(({ label }) => label === "bad").at(-1)?.wrong_citations ?? [];
  return (
    <div class="case-head">
      <p class="case-facts">
        <span class={`badge ${tone}`}>
          <Icon name={icon} /> {STATES[state]}
        </span>
        <span>{reasonWords(detail.case)}</span>
        <span class="hint">on the desk since {calendarDate(opened_at)}</span>
        {reader_labels.length > 0 && <span class="hint">asked under {reader_labels.join(", ")}</span>}
      </p>
      <h3 id="case-title" class="title" tabIndex={-1}>
        <span class="visually-hidden">Asked: </span>
        {detail.asked === "" ? "The question is no longer kept." : detail.asked}
      </h3>
      {gap !== null && <p class="hint">Part of the gap: {review.gapTitle(gap)}</p>}
      {wrong.length > 0 && <p class="hint">Sources marked as not fitting: {wrong.join(", ")}</p>}
    </div>
  );
}

function Shown({ detail: { shown } }: { detail: DeskCase }) {
  const blocks = useMemo(() => readMarkdown(shown), [shown]);
  return (
    <section aria-labelledby="shown-title">
      <h4 id="shown-title">Shown to the agent</h4>
      {shown === "" ? (
        <p class="hint">No answer was shown, or it is no longer kept.</p>
      ) : (
        <div class="kept-text markdown">
          <Markdown blocks={blocks} headingLevel={5} />
        </div>
      )}
    </section>
  );
}

function BetterText({ text }: { text: string }) {
  return (
    <section aria-labelledby="better-title">
      <h4 id="better-title">Better, says the agent</h4>
      <p class="kept-text is-better">{text}</p>
    </section>
  );
}

function History({ detail: { history } }: { detail: DeskCase }) {
  return (
    <details class="history">
      <summary>
        History <span class="hint">({history.length})</span>
      </summary>
      <ol>
        {history.map(({ revision, at, by, note, state }) => (
          <li key={revision}>
            <span class="hint">{moment(at, new Date())}</span> <strong>{by}</strong>{" "}
            {STATES[state]}
            {note !== "" && <span class="note">{note}</span>}
          </li>
        ))}
      </ol>
    </details>
  );
}
