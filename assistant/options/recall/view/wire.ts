/** Recall's data as it crosses the wire, as far as its page reads it. */

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
