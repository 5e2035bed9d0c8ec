/** Ways through the desk that take the focus along. */
import { NO_FILTERS, type Review, type View } from "./review.ts";

export function turnTo(review: Review, view: View): void {
  const isOfEmergencies = review.filters.peek().reason === "emergency";
  if (view === "emergencies") return void review.filter({ ...NO_FILTERS, state: "open", reason: "emergency" });
  if (view === "queue" && isOfEmergencies) return void review.filter({ reason: null });
  review.close();
  review.view.value = view;
  if (view === "queue") void review.load();
}

export function backToQueue(review: Review): void {
  const caseId = review.selectedId.peek();
  review.close();
  requestAnimationFrame(() => {
    const line = document.querySelector<HTMLElement>(`[data-case="${caseId}"]`);
    (line ?? document.getElementById("main"))?.focus();
  });
}

/** Show the cases of a gap. */
export async function showGap(review: Review, gap: string): Promise<void> {
  const reading = review.filter({ ...NO_FILTERS, gap });
  document.getElementById("main")?.focus(); // now: by the time that they are read the reviewer may be elsewhere
  await reading;
}
