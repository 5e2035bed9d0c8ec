import { useEffect } from "preact/hooks";
import { count } from "@console/text.ts";
import { useReview } from "./context.ts";
import { showGap } from "./moves.ts";
import type { Gap } from "./wire.ts";

/** Subjects on which the knowledge base is silent, the most asked first. */
export function Gaps() {
  const review = useReview();
  const gaps = review.gaps.value;
  useEffect(() => void review.loadGaps(), [review]);
  if (gaps === null) return review.problem.value === null ? <p class="hint">Reading the gaps…</p> : null;
  if (gaps.length === 0) return <p class="notice plain">No gap is open. Questions without an answer are in the queue, under “Not answered”.</p>;
  return (
    <>
      <p class="hint">
        {count(gaps.reduce((sum, gap) => sum + gap.count, 0), "question")} without a document, in {count(gaps.length, "gap")}
      </p>
      <ol class="gap-list" aria-label="Gaps">
        {gaps.map((gap) => (
          <GapCard key={gap.gap} gap={gap} />
        ))}
      </ol>
    </>
  );
}

function GapCard({ gap: { gap, count: n, title, examples, case_ids } }: { gap: Gap }) {
  const review = useReview();
  // a gap without a name of its own is titled by one of its questions
  const about = examples.includes(title) ? `like “${title}”` : `on ${title}`;
  return (
    <li class="gap">
      <h3>
        {count(n, "question")} {about}, no document
      </h3>
      <ul class="gap-examples">
        {examples.map((example) => (
          <li key={example}>{example}</li>
        ))}
      </ul>
      {case_ids.length > 0 && (
        <button type="button" class="button small" onClick={() => void showGap(review, gap)}>
          Show {count(case_ids.length, "case")}
          <span class="visually-hidden"> on {title}</span>
        </button>
      )}
    </li>
  );
}
