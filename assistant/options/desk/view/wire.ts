/** The review desk's data as it crosses the wire, as far as its page reads it. */
import type { Source, VerdictLabel } from "@console/wire.ts";

export type CaseReason = "bad_verdict" | "fact_edited" | "unsupported_sent" | "unanswered" | "emergency" | "different_values" | "answer_suspended" | "review_due";
export type CaseState = "open" | "asked_owner" | "proposed" | "resolved" | "dismissed";
export type ResolutionKind = "approved_answer" | "glossary_entry" | "correction" | "dismissed";
/** Of desk items that serving reads: a resolution of this kind makes one. */
export type ItemKind = "approved_answer" | "glossary_entry";
export type ItemState = "proposed" | "live" | "suspended" | "withdrawn";

export interface CaseDocument {
  readonly document_id: string;
  readonly title: string;
}

/** A line of the review desk's queue. */
export interface CaseRow {
  readonly case_id: string;
  readonly revision: number;
  readonly reason: CaseReason;
  readonly state: CaseState;
  readonly opened_at: string;
  /** Null where the answer's record is gone. */
  readonly question: string | null;
  readonly documents: readonly CaseDocument[];
  readonly gap: string | null;
  /** Further cases of the same question, which the line stands for. */
  readonly joined: number;
  readonly verdict_reasons: readonly string[];
  readonly changed_facts: readonly string[];
  readonly resolved_by: string | null;
}

export interface DeskCasePage {
  readonly cases: readonly CaseRow[];
  readonly next_after: string | null;
}

export interface Resolution {
  /** The last one is of a release that added questions to documents. */
  readonly kind: ResolutionKind | "document_question";
  readonly item_id: string | null;
  readonly note: string;
}

export interface Case {
  readonly answer_id: string;
  readonly reason: CaseReason;
  readonly opened_at: string;
  readonly state: CaseState;
  readonly documents: readonly string[];
  readonly reader_labels: readonly string[];
  readonly verdict_reasons: readonly string[];
  readonly changed_facts: readonly string[];
  readonly gap: string | null;
  readonly resolution: Resolution | null;
  readonly resolved_by: string | null;
  readonly approved_by: string | null;
}

export interface DeskCase {
  readonly case_id: string;
  readonly revision: number;
  readonly case: Case;
  /** Empty, like `shown`, where nothing of the answer is kept. */
  readonly asked: string;
  /** Markdown. */
  readonly shown: string;
  readonly sent: readonly CaseSent[];
  readonly better_text: string | null;
  readonly verdicts: readonly CaseVerdict[];
  readonly sources: readonly Source[];
  /** Oldest first. */
  readonly history: readonly CaseRevision[];
}

/** What was sent; the desk does not name the agent. */
export interface CaseSent {
  readonly at: string;
  readonly text: string;
}

export interface CaseVerdict {
  readonly at: string;
  readonly label: VerdictLabel;
  readonly wrong_citations: readonly number[];
}

/** One revision of a case: who made it, when and why. */
export interface CaseRevision {
  readonly revision: number;
  readonly at: string;
  readonly by: string;
  readonly note: string;
  readonly state: CaseState;
}

export interface CaseResolution {
  readonly revision: number;
  readonly kind: ResolutionKind;
  readonly note?: string;
  readonly approved_answer?: {
    readonly questions: readonly string[];
    readonly text: string;
    readonly expires_on: string;
    readonly labels?: readonly string[];
    readonly document_ids: readonly string[];
  };
  readonly glossary_entry?: { readonly said: string; readonly means: string };
}

export interface ApprovedAnswer {
  readonly proposed_by: string;
  readonly questions: readonly string[];
  /** Markdown. */
  readonly text: string;
  readonly owner: string;
  /** An ISO date. */
  readonly expires_on: string;
  readonly labels: readonly string[];
  readonly sources: readonly { readonly document_id: string }[];
  readonly suspended_because: string;
}

export interface GlossaryEntry {
  readonly proposed_by: string;
  readonly said: string;
  readonly means: string;
}

/** One revision of an item. Of its two bodies the kind's own one is there. */
export interface DeskItem {
  readonly kind: ItemKind;
  readonly item_id: string;
  readonly revision: number;
  readonly at: string;
  readonly by: string;
  readonly note: string;
  readonly state: ItemState;
  readonly approved_answer: ApprovedAnswer | null;
  readonly glossary_entry: GlossaryEntry | null;
}

/** Unanswered questions on one subject. */
export interface Gap {
  readonly gap: string;
  readonly count: number;
  readonly title: string;
  readonly examples: readonly string[];
  readonly case_ids: readonly string[];
}

export interface CaseFilters {
  readonly state: CaseState | null;
  readonly reason: CaseReason | null;
  readonly gap: string | null;
  readonly document_id: string | null;
}

/** Like each change it names the revision that its sender has seen; a newer one is a conflict. */
export interface CaseReopening {
  readonly revision: number;
  readonly note: string;
}

export interface CaseApproval {
  readonly revision: number;
  readonly approve: boolean;
  readonly note?: string;
}

export interface StateChange {
  readonly revision: number;
  readonly note: string;
  readonly state: "live" | "withdrawn";
}

export interface Restoring {
  readonly revision: number;
  readonly note: string;
  readonly to_revision: number;
}

export interface DeskGaps {
  readonly gaps: readonly Gap[];
}

export interface DeskItems {
  readonly items: readonly DeskItem[];
}

/** All revisions of an item, oldest first. */
export interface DeskItemHistory {
  readonly revisions: readonly DeskItem[];
}

// Recall

export type RecallState = "open" | "told" | "not_needed";

export interface RecallItem {
  readonly reply: {
    readonly answer_id: string;
    readonly conversation_id: string;
    readonly agent: string;
    readonly customer: string | null;
    readonly chat: string | null;
    readonly sent_at: string;
    readonly document_id: string;
  };
  readonly revision: number;
  readonly at: string;
  readonly by: string;
  readonly note: string;
  readonly state: RecallState;
  readonly owner: string | null;
  readonly due_on: string;
}

export interface RecallLine {
  /** Null: withdrawn, not stored any more, or not open to this reader. */
  readonly old: string | null;
  readonly new: string | null;
}

export interface Recall {
  readonly item_id: string;
  readonly item: RecallItem;
  readonly title: string;
  readonly is_gone: boolean;
  readonly lines: readonly RecallLine[];
  readonly conversation_url: string | null;
}

export interface RecallPage {
  readonly recalls: readonly Recall[];
  readonly next_after: string | null;
}

export interface RecallDetail {
  readonly recall: Recall;
  readonly sent: string;
  readonly history: readonly RecallItem[];
}

export interface RecallChange {
  readonly change_id: string;
  readonly document_id: string;
  readonly title: string;
  readonly kind: "changed" | "withdrawn" | "restored";
  readonly noted_at: string;
  readonly replies: number;
  readonly affected: number;
}

export interface RecallChangePage {
  readonly changes: readonly RecallChange[];
  readonly next_after: string | null;
}

export interface RecallDecision {
  readonly revision: number;
  readonly do: "take" | "told" | "not_needed" | "reopen";
  readonly note: string;
}
