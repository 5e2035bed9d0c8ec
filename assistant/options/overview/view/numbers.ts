/** Which numbers stand together, and their names for a manager. */
import type { Series } from "./bars.ts";
import type { Counts } from "./wire.ts";

export type Name = keyof Counts;

export const NAMES: Readonly<Record<Name, string>> = {
  questions: "Questions",
  written: "Written",
  quoted: "Quoted",
  approved: "Approved answer",
  not_found: "Not found",
  failed: "Failed",
  stopped: "Stopped",
  thanks: "Thanks",
  gaps: "Gaps",
  teachable: "Teach it",
  sent_as_is: "Sent as it is",
  sent_edited: "Edited",
  sent_own: "Own words",
  sent_not_compared: "Sent, not compared",
  not_sent: "Not sent",
  marked_good: "Good",
  marked_bad: "Bad",
  replied_10_s: "10 s",
  replied_30_s: "30 s",
  replied_60_s: "1 min",
  replied_120_s: "2 min",
  replied_300_s: "5 min",
  replied_900_s: "15 min",
  replied_later: "later",
};

export const HOW = ["approved", "written", "quoted", "not_found", "failed", "stopped"] as const;
export const USED = ["sent_as_is", "sent_edited", "sent_own", "sent_not_compared", "not_sent"] as const;
export const MARKS = ["marked_good", "marked_bad"] as const;
export const REPLIED = [
  "replied_10_s",
  "replied_30_s",
  "replied_60_s",
  "replied_120_s",
  "replied_300_s",
  "replied_900_s",
  "replied_later",
] as const;
export const OF_A_ROW = ["questions", ...HOW, "gaps", "teachable", ...USED, ...MARKS] as const;

/** A series of each name over the rows. */
export function seriesOf(names: readonly Name[], rows: readonly Counts[]): Series[] {
  const colour = (name: Name, at: number) => `--plot-${name === "marked_bad" ? HOW.indexOf("failed") + 1 : at + 1}`;
  return names.map((name, at) => ({ name: NAMES[name], colour: colour(name, at), values: rows.map((row) => row[name]) }));
}

/** "62 %" of a whole; nothing of none. */
export function share(part: number, whole: number): string {
  return whole === 0 ? "–" : `${Math.round((100 * part) / whole)} %`;
}

/** In which time half of the replies were sent, as far as the counts tell. */
export function half(total: Counts): string {
  const all = REPLIED.reduce((sum, name) => sum + total[name], 0);
  let sum = 0;
  for (const name of REPLIED) {
    sum += total[name];
    if (all > 0 && 2 * sum >= all) return name === "replied_later" ? "over 15 min" : `≤ ${NAMES[name]}`;
  }
  return "–";
}

/** The day that is so many days before today, as the service counts them. */
export function dayBefore(days: number, now = new Date()): string {
  return new Date(now.getTime() - 86_400_000 * days).toISOString().slice(0, 10);
}
