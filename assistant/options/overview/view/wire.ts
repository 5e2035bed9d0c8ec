/** What the console reads of `GET /v1/overview`. */
export interface Counts {
  readonly questions: number;
  readonly written: number;
  readonly quoted: number;
  readonly approved: number;
  readonly not_found: number;
  readonly failed: number;
  readonly stopped: number;
  readonly thanks: number;
  readonly gaps: number;
  readonly teachable: number;
  readonly sent_as_is: number;
  readonly sent_edited: number;
  readonly sent_own: number;
  readonly sent_not_compared: number;
  readonly not_sent: number;
  readonly marked_good: number;
  readonly marked_bad: number;
  readonly replied_10_s: number;
  readonly replied_30_s: number;
  readonly replied_60_s: number;
  readonly replied_120_s: number;
  readonly replied_300_s: number;
  readonly replied_900_s: number;
  readonly replied_later: number;
}

export interface Row extends Counts {
  readonly name: string;
}

export interface CountedDocument {
  readonly document_id: string;
  readonly title: string;
  readonly answers: number;
  readonly edited: number;
  readonly marked_bad: number;
  readonly teachable: number;
  readonly age_days: number;
  readonly damage: number;
  readonly review_after: string | null;
  readonly is_due: boolean;
}

export interface Overview {
  readonly first: string;
  readonly last: string;
  readonly counted_at: string | null;
  readonly smallest_group: number;
  readonly small_days: number;
  readonly uncounted_days: number;
  readonly total: Counts;
  readonly days: readonly (Counts & { readonly day: string })[];
  readonly sources: readonly Row[];
  readonly desks: readonly Row[];
  readonly groups: readonly Row[];
  readonly documents: readonly CountedDocument[];
  readonly others: number;
}

export type Table = "total" | "days" | "sources" | "desks" | "groups" | "documents";
