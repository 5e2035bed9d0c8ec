import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Review } from "./review.ts";

export const ReviewContext = createContext<Review | null>(null);

export function useReview(): Review {
  const review = useContext(ReviewContext);
  if (review === null) throw new Error("This part belongs inside the review desk.");
  return review;
}

/** Move the focus to the open case's title, unless another one was opened since. */
export function focusCase(review: Review, caseId: string): void {
  if (review.selectedId.peek() === caseId) focusSoon("case-title");
}

/** Move the focus to an element once the page is drawn again. */
export function focusSoon(id: string): void {
  requestAnimationFrame(() => document.getElementById(id)?.focus());
}
