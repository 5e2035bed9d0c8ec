/**
 * The API's data as it crosses the wire, as far as the console reads it. Unknown fields are ignored; offsets count
 * Unicode code points. `check_wire.mjs` holds it against docs/openapi.json.
 */

export type FinishReason = "stop" | "length" | "no_evidence" | "refused" | "sources_only";
export type Outcome = "done" | "failed" | "cancelled" | "disconnected";
export type VerdictLabel = "good" | "bad";
export type DocumentState =
  | "received"
  | "parsed"
  | "embedded"
  | "live"
  | "failed"
  | "stale"
  | "withheld"
  | "withdrawn";

export interface Source {
  readonly n: number;
  readonly document_id: string;
  readonly title: string;
  /** The original at its publisher: untrusted text until `safeHref` has looked at it. */
  readonly url: string | null;
  readonly source: string;
  readonly snippet: string;
  readonly span: readonly [number, number];
  /** Of the content that the span was cut from. */
  readonly content_hash: string;
  /** Headings above the passage, outermost first, joined by " > ". */
  readonly heading?: string;
  readonly effective_date?: string | null;
}

export interface Sentence {
  readonly index: number;
  /** [start, end) in the answer's text. */
  readonly start: number;
  readonly end: number;
  readonly citations: readonly number[];
  readonly support: "supported" | "unsupported";
  readonly reasons?: readonly string[];
}

/** RFC 9457, with the product's own code. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly retryable: boolean;
}

export interface Started {
  readonly answer_id: string;
  readonly conversation_id: string;
}

/** A quote of another document that may be meant. */
export interface Also {
  readonly document_id: string;
  readonly title: string;
  readonly effective_date: string | null;
  /** Markdown. */
  readonly text: string;
  readonly citations: readonly number[];
}

/** A spelling of the question that was read differently. */
export interface Correction {
  readonly said: string;
  readonly read_as: string;
}

/** What the service says of an answer as a whole, at its end and in its record; absent is null. */
export interface Findings {
  readonly mode?: "quoted" | "written" | null;
  readonly certainty?: "answered" | "possibly" | null;
  readonly also?: readonly Also[];
  /** One short question back, where a condition decides between two documents. */
  readonly clarify?: string | null;
  /** What speaks to the patient, plain text. */
  readonly reply_draft?: string | null;
  /** Whom to ask. */
  readonly escalation?: string | null;
  readonly corrections?: readonly Correction[];
  /** Why quotes took the place of written text: a stable word or an error's code. */
  readonly fallback?: string | null;
  /** For `no_evidence`: a sentence for the agent; for `sources_only`: an error's code. */
  readonly reason?: string | null;
}

export interface Done extends Findings {
  readonly finish_reason: FinishReason;
  readonly citations: readonly number[];
  /** False while the record could not be written: until it follows, the answer cannot be marked. */
  readonly recorded?: boolean;
}

export type AnswerEvent =
  | { readonly event: "started"; readonly data: Started }
  | { readonly event: "sources"; readonly data: { readonly sources: readonly Source[] } }
  | { readonly event: "token"; readonly data: { readonly text: string } }
  | { readonly event: "sentence"; readonly data: Sentence }
  | { readonly event: "done"; readonly data: Done }
  | { readonly event: "error"; readonly data: Problem };

/** What is asked. `resume_window_s`: how long the service goes on writing after its reader has left. */
export interface AnswerRequest {
  readonly question: string;
  readonly resume_window_s: number;
  readonly conversation_id?: string;
}

export interface Verdict {
  readonly verdict_id: string;
  readonly label: VerdictLabel;
  readonly reasons: readonly string[];
  readonly better_text: string | null;
  readonly wrong_citations: readonly number[];
}

export interface Sent {
  readonly send_id: string;
  readonly text: string;
}

/** What an agent did with an answer, beside marks and replies. */
export interface Act {
  readonly act_id: string;
  readonly kind: "opened_source" | "possibly_taken" | "possibly_passed_over";
  /** Number of the opened source. */
  readonly n?: number;
}

export interface StoredVerdict {
  readonly at: string;
  readonly verdict: Verdict;
}

export interface StoredSent {
  readonly at: string;
  readonly sent: Sent;
}

/** What the console reads of an answer's record. */
export interface AnswerRecord extends Findings {
  readonly answer_id: string;
  readonly question: string;
  readonly outcome: Outcome;
  readonly finish_reason: FinishReason | null;
  readonly error_code: string | null;
  readonly text: string;
  readonly sentences: readonly Sentence[];
  readonly gate: { readonly missing_terms: readonly string[] } | null;
  readonly asked_at: string;
  readonly finished_at: string;
}

/** Verdicts and sends are oldest first: the last one counts. */
export interface StoredAnswer {
  readonly record: AnswerRecord;
  readonly sources: readonly Source[];
  readonly verdicts: readonly StoredVerdict[];
  readonly sent: readonly StoredSent[];
}

export interface Conversation {
  readonly conversation_id: string;
  readonly answers: readonly StoredAnswer[];
}

/** A stretch of the stored text, without its headings; offsets in code points. */
export interface DocumentSection {
  readonly headings: readonly string[];
  readonly start: number;
  readonly end: number;
}

export interface DocumentText {
  readonly document_id: string;
  readonly title: string;
  readonly url: string | null;
  readonly source: string;
  readonly owner: string | null;
  readonly effective_date: string | null;
  readonly question: string | null;
  readonly text: string;
  readonly sections: readonly DocumentSection[];
  /** The cited passage, when the stored text is still the one it was cut from. */
  readonly span: readonly [number, number] | null;
  /** False when the link cites a content that has been replaced since. */
  readonly is_cited_version: boolean;
}

export interface DocumentStatus {
  readonly document_id: string;
  readonly title: string;
  readonly state: DocumentState;
  /** The [[sources]] entry that it belongs to; `source` is what the document says of itself. */
  readonly knowledge_source: string;
  /** The file that it came from, in its source. */
  readonly origin: string | null;
  readonly labels: readonly string[] | null;
  readonly source: string;
  readonly type: string;
  readonly url: string | null;
  readonly owner: string | null;
  readonly effective_date: string | null;
  readonly received_at: string;
  readonly updated_at: string;
  readonly passage_count: number;
  readonly failure_code: string | null;
  readonly failure_reason: string | null;
}

export interface DocumentPage {
  readonly documents: readonly DocumentStatus[];
  /** Given as `after` for the next page; null on the last one. */
  readonly next_after: string | null;
  readonly counts: Readonly<Partial<Record<DocumentState, number>>>;
}
