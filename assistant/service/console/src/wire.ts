/**
 * The API's data as it crosses the wire, as far as the console reads it. Unknown fields are ignored; offsets count
 * Unicode code points. `check_wire.mjs` holds it against docs/openapi.json.
 */

export type FinishReason = "stop" | "length" | "content_filter" | "no_evidence" | "refused" | "sources_only";
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

/** What a shop's document says in fields: of an item, or of a review of one. */
export interface SourceFacts {
  /** A decimal number, as text. */
  readonly price: string | null;
  /** ISO 4217. */
  readonly currency: string | null;
  /** Stars, 1 to 5: of one review, or the mean of an item. */
  readonly rating: number | null;
  /** How many ratings the mean is of. */
  readonly ratings: number | null;
  readonly helpful_votes: number | null;
  /** Of a review: whether its author bought the item. */
  readonly verified: boolean | null;
}

export interface Source {
  readonly n: number;
  /** `approved`: an answer that reviewers approved. It has no stored document to open. */
  readonly kind?: "document" | "approved";
  readonly document_id: string;
  /** Opens the stored text for ten minutes, below the service's address. */
  readonly document_url?: string;
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
  /** What each page of the document says at its edge or across it: "SUPERSEDED". */
  readonly banner?: string;
  readonly facts?: SourceFacts | null;
}

/** [start, end) in the stored text of source `n`. */
export interface CitedUnit {
  readonly n: number;
  readonly start: number;
  readonly end: number;
}

export interface SentenceEnded {
  readonly index: number;
  /** [start, end) in the answer's text. */
  readonly start: number;
  readonly end: number;
  readonly citations: readonly number[];
  readonly support: "supported" | "unsupported";
  /** Of an unsupported sentence: the agent must check it, or it is not shown and its span is empty. */
  readonly detail?: "check" | "withheld" | null;
  /** Of a withheld sentence: what no source holds. */
  readonly values?: readonly string[];
  readonly reasons?: readonly string[];
  /** The units that it rests on; empty for quotes of older records. */
  readonly cited?: readonly CitedUnit[];
  /** Of a quoted section: one of the lines that matter most. */
  readonly is_key?: boolean;
  /** Set where the span is stored text of a document: plain text, never Markdown. `folded`: far from the marked lines. */
  readonly quote?: "shown" | "folded" | null;
  /** Of a row of a table. */
  readonly cells?: readonly Cell[];
}

/** What a model says of a shown sentence, compared with its lines. */
export interface SentenceCheck {
  readonly index: number;
  readonly verdict: "held" | "not_held" | "opposite";
  /** What is wrong, copied from the sentence; a record does not have it. */
  readonly words?: string;
  /** The line that decides. */
  readonly cited?: CitedUnit | null;
}

/** RFC 9457, with the product's own code. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly retryable: boolean;
  /** Of a text that was not sent: what the check found. */
  readonly findings?: readonly ReplyCheck[];
}

export interface Started {
  readonly answer_id: string;
  readonly conversation_id: string;
  readonly red_flags?: readonly RedFlag[];
  /** ISO 639-1 code of a language in which red flags are not checked. */
  readonly unchecked_language?: string | null;
  /** ISO 639-1 code of the language that a reply is written in. */
  readonly language?: string | null;
  /** Where a recording plays in place of a model: which model, and when. */
  readonly recorded_model?: string | null;
}

/** An emergency that the message may be about. */
export interface RedFlag {
  readonly name: string;
  readonly text: string;
  /** Whom to call. */
  readonly call: string;
}

/** An approved answer to a near question: the agent decides whether it fits. */
export interface OfferedAnswer {
  readonly question: string;
  /** Markdown. */
  readonly text: string;
  /** Number of the source that it is. */
  readonly n: number;
}

export interface Sources {
  readonly sources: readonly Source[];
  /** The best document's best section, to read while a model writes. */
  readonly section?: Also | null;
  readonly offered?: OfferedAnswer | null;
}

/** A cell of a row, [start, end) in the text that has the row: its column's name, and its value. */
export interface Cell {
  readonly name: readonly [number, number];
  readonly value: readonly [number, number];
  /** Whether the question names the column, in a row that matters most. */
  readonly is_key?: boolean;
}

/** A line of a text that is a row of a table, with `cells`, or none. */
export interface QuotedRow {
  readonly start: number;
  readonly end: number;
  readonly is_key?: boolean;
  readonly cells?: readonly Cell[];
}

/** A quote of another document that may be meant. */
export interface Also {
  readonly document_id: string;
  readonly title: string;
  readonly effective_date: string | null;
  /** Markdown. */
  readonly text: string;
  readonly citations: readonly number[];
  /** Rows of tables in the text. */
  readonly rows?: readonly QuotedRow[];
}

export type ElementKind = "card" | "status" | "table" | "link";
export type ElementState = "pending" | "ready" | "failed" | "not_allowed";

/** One value of an element: text of another system, never Markdown. */
export interface ElementValue {
  readonly name: string;
  readonly label: string;
  readonly text: string;
  readonly tone?: "neutral" | "good" | "warning" | "bad";
  /** Numbers of the sources that it is quoted from. */
  readonly citations?: readonly number[];
}

export interface ElementRow {
  readonly title: string;
  /** By the names of the columns; one may be missing. */
  readonly values: readonly ElementValue[];
  readonly citations?: readonly number[];
}

export interface ElementData {
  readonly values?: readonly ElementValue[];
  readonly columns?: readonly ElementValue[];
  readonly rows?: readonly ElementRow[];
  /** Of a link: untrusted text until `safeHref` has looked at it. */
  readonly url?: string | null;
}

/** [start, end) in the answer's text of the words that an element stands in for; the same twice: none. */
export interface ElementDisplay {
  readonly place: "inline" | "block";
  readonly start: number;
  readonly end: number;
}

/** A place in an answer that fills with live data. A later one with the same id takes its place. */
export interface Element {
  readonly id: string;
  readonly name: string;
  readonly kind: ElementKind;
  readonly state: ElementState;
  readonly title: string;
  /** The system, as agents call it. */
  readonly source: string;
  /** When the system answered: an instant, or the day of the documents. */
  readonly as_of: string | null;
  /** What it was asked about: "order 4471-2208". */
  readonly about: string;
  readonly data: ElementData | null;
  readonly problem: string | null;
  readonly detail: string;
  readonly retryable: boolean;
  readonly display: ElementDisplay;
  /** What a ready element of a system says, whole and value by value. */
  readonly texts?: readonly LiveText[];
}

/** What a record keeps of an element: all but its values. */
export interface ElementUse {
  readonly id: string;
  readonly name: string;
  readonly kind: ElementKind;
  readonly state: ElementState;
  readonly title: string;
  readonly source: string;
  readonly as_of: string | null;
  readonly problem: string | null;
  readonly display: ElementDisplay;
}

/** A source of documents and its part in an answer; `off` and `refused` are of live systems in older records. */
export interface SourceAsked {
  readonly name: string;
  readonly state: "answered" | "empty" | "late" | "failed" | "off" | "refused" | "not_asked";
}

/** What the service says of an answer as a whole, at its end and in its record; absent is null. */
export interface Findings {
  readonly mode?: "quoted" | "written" | null;
  readonly certainty?: "answered" | "possibly" | null;
  readonly also?: readonly Also[];
  /** What a live system needs to know, asked of the agent. */
  readonly clarify?: string | null;
  /** Questions of the message that nothing answers beside the one that is. */
  readonly unanswered?: readonly string[];
  /** False for thanks or a greeting: there is nothing to answer. A record has it in its reading. */
  readonly asks?: boolean;
  readonly reading?: { readonly asks?: boolean } | null;
  /** Whom to ask. */
  readonly escalation?: string | null;
  /** Why quotes took the place of written text: a stable word or an error's code. */
  readonly fallback?: string | null;
  /** For `no_evidence`: a sentence for the agent; for `sources_only`: an error's code. */
  readonly reason?: string | null;
  readonly asked?: readonly SourceAsked[];
  /** Steps that were left out because they failed or were late. */
  readonly degraded?: readonly string[];
  /** Absent where the knowledge base is complete. */
  readonly loading?: readonly Loading[];
}

/** Documents that cannot answer: their source loads for the first time, or the index lost them. */
export interface Loading {
  readonly reason: "first_load" | "lost";
  /** Empty where the index lost documents. */
  readonly source: string;
  readonly live: number;
  readonly expected: number;
}

/** What is wrong with a reply. `reckoned`, `missing`: of older records. */
export interface ReplyCheck {
  readonly kind: "not_held" | "reckoned" | "contradicts" | "missing";
  /** The sentence, in code points. */
  readonly start: number;
  readonly end: number;
  readonly values: readonly string[];
  /** The line that decides, where a model read the text. */
  readonly line?: string | null;
  /** Names it when the text is sent in spite of it. */
  readonly id?: string;
}

export interface ReplyChecks {
  readonly checks: readonly ReplyCheck[];
  /** `reply_check`: the model should have read the text, and did not. */
  readonly degraded?: readonly string[];
}

export type ReplyStyle = "shorter" | "warmer" | "plain_words";

/** A live value with the service's code, which comes with its element and goes back as it came. */
export interface LiveText {
  readonly element_id: string;
  readonly value: string;
  readonly mac: string;
}

/** The conversation of an answer, as it was sent with its question. */
export interface OfConversation {
  readonly question?: string;
  readonly turns?: readonly ChatTurn[];
}

export interface ReplyBody extends OfConversation {
  readonly style?: ReplyStyle;
  /** The reply so far. */
  readonly draft?: string;
  readonly live?: readonly LiveText[];
}

export interface CheckBody extends OfConversation {
  readonly text: string;
  readonly live?: readonly LiveText[];
  /** Whether the model that writes reads the text, too. */
  readonly by_model?: boolean;
}

/** What code finds in a written reply, while a model reads it. */
export interface Checks {
  readonly checks: readonly ReplyCheck[];
}

export interface Done extends Findings {
  /** Of a reply. */
  readonly checks?: readonly ReplyCheck[];
  readonly finish_reason: FinishReason;
  readonly citations: readonly number[];
  /** False while the record could not be written: until it follows, the answer cannot be marked. */
  readonly recorded?: boolean;
  /** A model is checking the sentences: `checked` follows. */
  readonly check_follows?: boolean;
}

/** Where the model gave no verdict in time, `sentences` is empty. */
export interface Checked {
  /** Id of the model. */
  readonly by: string;
  readonly sentences: readonly SentenceCheck[];
}

export type AnswerEvent =
  | { readonly event: "started"; readonly data: Started }
  | { readonly event: "preview"; readonly data: { readonly section: Also } }
  /** Emergencies beside those of `started`. */
  | { readonly event: "red_flags"; readonly data: { readonly red_flags: readonly RedFlag[] } }
  | { readonly event: "sources"; readonly data: Sources }
  | { readonly event: "token"; readonly data: { readonly text: string } }
  | { readonly event: "sentence"; readonly data: SentenceEnded }
  | { readonly event: "element"; readonly data: Element }
  | { readonly event: "checks"; readonly data: Checks }
  | { readonly event: "done"; readonly data: Done }
  | { readonly event: "checked"; readonly data: Checked }
  | { readonly event: "error"; readonly data: Problem };

/** What is asked. `resume_window_s`: how long the service goes on writing after its reader has left. */
export interface AnswerRequest {
  readonly question: string;
  /** The chat that it is about, oldest first. */
  readonly turns?: readonly ChatTurn[];
  readonly resume_window_s: number;
  readonly conversation_id?: string;
  /** Whose conversation it is, signed by the care application. */
  readonly context?: string;
}

export interface ChatTurn {
  readonly who: "customer" | "agent" | "system";
  readonly text: string;
  readonly at?: string;
}

export interface Verdict {
  readonly verdict_id: string;
  readonly label: VerdictLabel;
  readonly reasons: readonly string[];
  readonly better_text: string | null;
  readonly wrong_citations: readonly number[];
}

/** A place in a sent text that has a value of a live element, in code points. */
export interface LiveSpan {
  readonly element_id: string;
  readonly start: number;
  readonly end: number;
  /** Of the value; absent where a label stands for it. */
  readonly mac?: string;
}

export interface Sent {
  readonly send_id: string;
  readonly text: string;
  /** The written reply that it was edited from. */
  readonly reply_id?: string | null;
  /** What the agent began with, where that is no written reply. */
  readonly began_with?: "lines" | "approved" | "nothing" | null;
  /** `index` of each of the answer's sentences that the agent began with. */
  readonly lines?: readonly number[];
  /** Ids of findings that the agent looked at, and why the text is right. */
  readonly confirmed?: readonly string[];
  readonly reason?: string | null;
  /** Where the text has values of live elements; absent: nowhere. */
  readonly live?: readonly LiveSpan[];
}

/** A reply to record, and to deliver where the tenant names who takes replies. */
export interface SendRequest extends Sent, OfConversation {
  /** Live values that the answer shows: for the check alone. */
  readonly shown?: readonly LiveText[];
  /** The care application's token of the question: the system that takes replies knows the chat by it. */
  readonly context?: string;
}

/** The agent put the offered answer into the reply. */
export const OFFERED_USED = "offered_used";

/** What an agent did with an answer, beside marks and replies. */
export interface Act {
  readonly act_id: string;
  readonly kind: "opened_source" | typeof OFFERED_USED;
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
  readonly sentences: readonly SentenceEnded[];
  /** Absent in records of older releases. */
  readonly elements?: readonly ElementUse[];
  /** Names of the emergencies; their texts are not kept. */
  readonly red_flags?: readonly string[];
  readonly unchecked_language?: string | null;
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
  readonly checked?: { readonly model_id: string; readonly sentences: readonly SentenceCheck[] } | null;
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

/** A table of the stored text; cells as [start, end) in code points. */
export interface DocumentTable {
  readonly header: readonly string[];
  readonly rows: readonly (readonly (readonly [number, number])[])[];
}

/** Words of the stored text, in code points, that link to a document of its source or to a web page. */
export interface DocumentLink {
  readonly start: number;
  readonly end: number;
  readonly document_id: string | null;
  readonly url: string | null;
}

/** The file that a text was read from. */
export interface DocumentOriginal {
  readonly name: string;
  readonly media_type: string;
  readonly page: number | null;
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
  readonly tables: readonly DocumentTable[];
  readonly original: DocumentOriginal | null;
  readonly links: readonly DocumentLink[];
}

export interface DocumentStatus {
  readonly document_id: string;
  readonly title: string;
  readonly state: DocumentState;
  readonly content_hash: string;
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
  /** Until another person releases it. */
  readonly brought_by?: string | null;
  readonly review_after?: string | null;
  /** When it begins, ends or was replaced, and which document it may contradict. */
  readonly in_force_note?: string;
}

export interface WritableSource {
  readonly name: string;
  readonly access: "everyone" | "folder" | "declared";
  /** Paths that have labels. */
  readonly folders: readonly string[];
}

export interface WritableSources {
  readonly sources: readonly WritableSource[];
  /** Endings of the names of files that are read. */
  readonly kinds: readonly string[];
}

export interface DocumentFilters {
  readonly state: DocumentState | null;
  /** Words of the id or the title. */
  readonly find: string;
}

export interface UploadRefusal {
  readonly origin: string;
  readonly code: string;
  readonly reason: string;
}

export interface UploadResult {
  readonly added: number;
  readonly changed: number;
  readonly unchanged: number;
  readonly withdrawn: number;
  /** Documents that wait for a second person's release. */
  readonly waiting: number;
  readonly refused: number;
  readonly refusals: readonly UploadRefusal[];
  /** What of the file was not read, a sentence each. */
  readonly notes: readonly string[];
  /** Of each note. */
  readonly note_places?: readonly NotePlace[];
}

/** Where in the text of a document something of its file is missing; `start` null: the place has no text. */
export interface NotePlace {
  readonly document_id: string;
  readonly start?: number | null;
}

export interface UploadState {
  readonly upload_id: string;
  readonly result: UploadResult | null;
}

export interface UploadStates {
  readonly uploads: readonly UploadState[];
}

export interface KeptContent {
  readonly content_hash: string;
  readonly stored_at: string;
  readonly title: string;
  readonly labels: readonly string[];
  readonly characters: number;
  readonly is_newest: boolean;
}

export interface DocumentDetails {
  readonly status: DocumentStatus;
  readonly contents: readonly KeptContent[];
  readonly answers: readonly { readonly answer_id: string; readonly at: string }[];
  readonly has_more_answers: boolean;
}

export interface RestoreContentRequest {
  readonly content_hash: string;
}

export interface ReleaseRequest {
  readonly knowledge_source: string;
  /** Id = hash of the content that was shown. */
  readonly contents: Readonly<Record<string, string>>;
}

export interface WaitingContent {
  readonly title: string;
  readonly content: string;
  readonly labels: readonly string[];
  readonly url: string | null;
  readonly source: string;
  readonly questions: readonly string[];
}

export interface WaitingDocument {
  readonly content_hash: string;
  readonly brought_by: string | null;
  readonly document: WaitingContent;
  /** What answered before, as far as it is kept. */
  readonly answered: WaitingContent | null;
}

export interface ReceiptPlace {
  readonly place: string;
  readonly title: string;
  readonly state: "removed" | "pending" | "remains";
  /** Things there that still hold the text; null where the place is not counted. */
  readonly found: number | null;
  readonly what: string;
  readonly until: string | null;
  readonly rule: string;
}

/** What a withdrawal removed, place by place, and what remains until when. */
export interface WithdrawalReceipt {
  readonly document_id: string;
  readonly title: string;
  readonly withdrawn_at: string;
  readonly made_at: string;
  readonly is_complete: boolean;
  readonly places: readonly ReceiptPlace[];
}

export interface DocumentPage {
  readonly documents: readonly DocumentStatus[];
  /** Given as `after` for the next page; null on the last one. */
  readonly next_after: string | null;
  readonly counts: Readonly<Partial<Record<DocumentState, number>>>;
  /** Sources that load for the first time. */
  readonly loading: readonly Loading[];
}
