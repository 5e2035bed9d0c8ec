import { useEffect, useLayoutEffect } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { saveFile } from "@console/saving.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { listenForKeys } from "@console/views/shortcuts.tsx";
import { CaseView } from "./case_view.tsx";
import { ReviewContext, useReview } from "./context.ts";
import { Gaps } from "./gaps.tsx";
import { Items } from "./items.tsx";
import { backToQueue, turnTo } from "./moves.ts";
import { Queue } from "./queue.tsx";
import type { Review, View } from "./review.ts";

export const KEYS = [
  ["j, k or ↓, ↑", "next or previous case, while the focus is in the queue"],
  ["Home, End", "first or last case of the queue"],
  ["Enter", "open the case"],
  ["Alt + Shift + L", "go to the queue"],
  ["Alt + Shift + F", "go to the filters"],
  ["Alt + Shift + A", "go to the case"],
  ["Alt + Shift + R", "resolve, approve or reopen the case"],
  ["Alt + Shift + G", "show the gaps"],
  ["Ctrl + Enter", "save the resolution you are writing"],
  ["Escape", "leave the case for the queue, close a dialog"],
] as const;

const VIEWS: Readonly<Record<View, string>> = { queue: "Queue", emergencies: "Emergencies", gaps: "Gaps", items: "Decided" };

/** The page of reviewers and knowledge owners: what agents found wrong, and what becomes of it. */
export function ReviewPage({ review }: { review: Review }) {
  const view = review.view.value;
  useKeys(review);
  useEffect(() => {
    if (review.cases.peek() === null) void review.load();
  }, [review]);
  return (
    <ReviewContext.Provider value={review}>
      <main id="main" tabIndex={-1} class={`review ${review.selectedId.value === null ? "" : "has-case"}`}>
        <ReviewHead />
        {review.problem.value !== null && (
          <Failure>
            {review.problem.value.title}. {review.problem.value.detail}
          </Failure>
        )}
        {(view === "queue" || view === "emergencies") && (
          <div class="review-columns">
            <Queue />
            <CaseView />
          </div>
        )}
        {view === "gaps" && <Gaps />}
        {view === "items" && <Items />}
      </main>
    </ReviewContext.Provider>
  );
}

function ReviewHead() {
  const review = useReview();
  return (
    <div class="review-head">
      <h2 class="title">Review desk</h2>
      <nav aria-label="Parts of the desk">
        <ul class="views">
          {(Object.keys(VIEWS) as View[]).map((view) => (
            <li key={view}>
              <button
                type="button"
                class="view"
                aria-current={view === review.view.value ? "page" : undefined}
                onClick={() => turnTo(review, view)}
              >
                {VIEWS[view]}
              </button>
            </li>
          ))}
        </ul>
      </nav>
      <Export />
    </div>
  );
}

/** Saves everything on the desk as a file. */
function Export() {
  const { api } = useReview();
  const { isBusy, failure, run } = useCall("Not exported");
  const save = async () => {
    const isSaved = await run(async () => {
      saveFile(await api.exported(), `review-desk-${new Date().toISOString().slice(0, 10)}.ndjson`);
    });
    if (isSaved) announce("Exported");
  };
  return (
    <>
      <button type="button" class="button" disabled={isBusy} onClick={() => void save()}>
        <Icon name="out" /> {isBusy ? "Exporting…" : "Export"}
      </button>
      {failure !== null && <Failure>{failure}</Failure>}
    </>
  );
}

/** Alt + Shift + a letter, by place on the keyboard. Keys of the list alone are in `queue.tsx`. */
function useKeys(review: Review): void {
  useLayoutEffect(() => {
    const focus = (selector: string) => document.querySelector<HTMLElement>(selector)?.focus();
    const toQueue = () => {
      if (review.view.peek() !== "queue") turnTo(review, "queue");
      requestAnimationFrame(() => focus(".case-link[tabindex='0']"));
    };
    const actions: Record<string, () => void> = {
      KeyL: toQueue,
      KeyA: () => focus("#case-title"),
      KeyR: () => focus(".resolve input, .approval textarea, .reopen textarea"),
      KeyF: () => focus("#filter-state"),
      KeyG: () => turnTo(review, "gaps"),
    };
    return listenForKeys(actions, (event) => closeCase(review, event));
  }, [review]);
}

/** Leave the case for its line in the queue. */
function closeCase(review: Review, event: KeyboardEvent): void {
  if (event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
  if (review.selectedId.peek() === null) return;
  backToQueue(review);
}
