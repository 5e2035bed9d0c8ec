/** One polite live region for the whole page: it speaks seldom, and never the text of an answer. */
import { signal } from "@preact/signals";

export const announcement = signal("");

export function announce(text: string): void {
  // The same words twice are read out only if the region has changed.
  announcement.value = announcement.value === text ? `${text}\u00a0` : text;
}
