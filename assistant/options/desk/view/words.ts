/** The desk's codes in a reviewer's words. */
import type { IconName } from "@console/views/icons.tsx";
import type { CaseReason, CaseState, ItemKind, ItemState, ResolutionKind } from "./wire.ts";

type Tone = "plain" | "good" | "warn" | "bad";

export const REASONS: Readonly<Record<CaseReason, string>> = {
  bad_verdict: "Marked bad",
  fact_edited: "A fact was edited",
  unsupported_sent: "Unsupported text sent",
  unanswered: "Not answered",
  emergency: "Emergency",
  different_values: "Documents differ",
  answer_suspended: "Approved answer suspended",
  review_due: "Review date passed",
};

export const STATES: Readonly<Record<CaseState, string>> = {
  open: "Open",
  proposed: "Waits for approval",
  asked_owner: "Owner asked",
  resolved: "Resolved",
  dismissed: "Dismissed",
};

export const STATE_LOOKS: Readonly<Record<CaseState, readonly [IconName, Tone]>> = {
  open: ["alert", "warn"],
  proposed: ["clock", "warn"],
  asked_owner: ["clock", "plain"],
  resolved: ["check", "good"],
  dismissed: ["close", "plain"],
};

export const RESOLUTIONS: Readonly<Record<ResolutionKind, { readonly name: string; readonly hint: string }>> = {
  approved_answer: { name: "Approved answer", hint: "Quoted as it stands for questions that mean the same." },
  glossary_entry: { name: "Glossary entry", hint: "What callers say, and what the documents call it." },
  correction: { name: "Ask the owner for a correction", hint: "The document is wrong or out of date." },
  dismissed: { name: "Dismiss", hint: "Nothing is to be done." },
};

export const ITEM_KINDS: Readonly<Record<ItemKind, string>> = {
  approved_answer: "Approved answers",
  glossary_entry: "Glossary",
};

export const ITEM_STATES: Readonly<Record<ItemState, readonly [string, IconName, Tone]>> = {
  proposed: ["Proposed", "clock", "warn"],
  live: ["Live", "check", "good"],
  suspended: ["Suspended", "alert", "warn"],
  withdrawn: ["Withdrawn", "stop", "plain"],
};

const VERDICT_REASONS: Readonly<Record<string, string>> = {
  wrong: "wrong",
  outdated: "out of date",
  incomplete: "something is missing",
  not_asked: "not what was asked",
  wrong_source: "wrong source",
  unclear: "hard to understand",
  unsafe: "unsafe for the patient",
};

const FACTS: Readonly<Record<string, string>> = {
  number: "a number",
  code: "a code",
  dose: "a dose",
  date: "a date",
  negation: "a negation",
};

/** Why a case is on the desk: "Marked bad: wrong, out of date". */
export function reasonWords(of: {
  readonly reason: CaseReason;
  readonly verdict_reasons: readonly string[];
  readonly changed_facts: readonly string[];
}): string {
  const verdicts = of.verdict_reasons.map((code) => VERDICT_REASONS[code] ?? code);
  const facts = of.changed_facts.map((code) => FACTS[code] ?? code);
  const all: Partial<Record<CaseReason, readonly string[]>> = { bad_verdict: verdicts, fact_edited: facts };
  const details = all[of.reason] ?? [];
  return details.length === 0 ? REASONS[of.reason] : `${REASONS[of.reason]}: ${details.join(", ")}`;
}
