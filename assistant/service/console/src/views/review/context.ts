import { createContext } from "preact";
import { useContext, useState } from "preact/hooks";
import { ApiError } from "../../problems.ts";
import { type Review, refusalWords } from "../../review.ts";

export const ReviewContext = createContext<Review | null>(null);

export function useReview(): Review {
  const review = useContext(ReviewContext);
  if (review === null) throw new Error("This part belongs inside the review desk.");
  return review;
}

export interface Saving {
  readonly isBusy: boolean;
  /** Why the last change was refused, and what to do. */
  readonly failure: string | null;
  readonly setFailure: (words: string | null) => void;
  /** Run one change at a time; true when it was saved. */
  readonly save: (change: () => Promise<void>) => Promise<boolean>;
}

export function useSaving(): Saving {
  const [isBusy, setBusy] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const save = async (change: () => Promise<void>) => {
    if (isBusy) return false;
    setBusy(true);
    setFailure(null);
    try {
      await change();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(refusalWords(error.problem));
      return false;
    } finally {
      setBusy(false);
    }
  };
  return { isBusy, failure, setFailure, save };
}

/** Move the focus to an element once the page is drawn again. */
export function focusSoon(id: string): void {
  requestAnimationFrame(() => document.getElementById(id)?.focus());
}
