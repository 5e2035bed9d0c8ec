/** One question and what became of it: a value that each event of the stream turns into the next value. */
import type { Signal } from "@preact/signals";
import { type Elements, keptElement, withElement } from "./elements.ts";
import { isBreak, recordedProblem } from "./problems.ts";
import type {
  Also,
  AnswerEvent,
  ChatTurn,
  Checked,
  Done,
  Findings as WireFindings,
  FinishReason,
  Loading,
  OfferedAnswer,
  Problem,
  RedFlag,
  SentenceCheck,
  SentenceEnded,
  Source,
  SourceAsked,
  Sources as WireSources,
  Started,
  StoredAnswer,
  StoredSent,
  StoredVerdict,
} from "./wire.ts";

/** `interrupted`: the writing ended before the answer did, or the page could not come back to it. */
export type Phase = "sending" | "searching" | "writing" | "finished" | "failed" | "stopped" | "interrupted";

/** What the service says of the answer as a whole. */
export interface Findings {
  readonly mode: "quoted" | "written" | null;
  readonly certainty: "answered" | "possibly" | null;
  readonly also: readonly Also[];
  readonly clarify: string | null;
  readonly unanswered: readonly string[];
  /** False for thanks or a greeting. */
  readonly asks: boolean;
  readonly escalation: string | null;
  readonly fallback: string | null;
  /** Steps that were left out. */
  readonly degraded: readonly string[];
  readonly loading: readonly Loading[];
}

/** A sentence with a model's verdict, where one was given. */
export interface TurnSentence extends SentenceEnded {
  readonly check?: SentenceCheck;
}

export interface Turn {
  /** Name of the turn in this page; the answer's own id comes with `started`. */
  readonly key: string;
  readonly answerId: string | null;
  readonly question: string;
  /** The chat that was asked about; empty where only a question was sent, and for a turn from the records. */
  readonly chat: readonly ChatTurn[];
  readonly phase: Phase;
  readonly text: string;
  readonly sentences: readonly TurnSentence[];
  /** The model that checked the sentences, `follows` while it does; null: none did. */
  readonly checkedBy: Readonly<{ by: string }> | "follows" | null;
  readonly sources: readonly Source[];
  /** Emergencies; those of a stored answer have names alone. */
  readonly redFlags: readonly RedFlag[];
  /** The message's language, where it is not checked for emergencies: until the agent or a model has read it. */
  readonly uncheckedLanguage: string | null;
  /** The agent has read the message for an emergency. */
  readonly isRead: boolean;
  /** The model whose recording plays in place of a live one. */
  readonly recordedModel: string | null;
  readonly offered: OfferedAnswer | null;
  /** A section of the best document, to read while the model writes. */
  readonly section: Also | null;
  /** The section that is read until the sources come. */
  readonly preview: Also | null;
  /** In the order in which they came, each in its present state. */
  readonly elements: Elements;
  /** The tenant's sources and their part; empty where there is only one. */
  readonly asked: readonly SourceAsked[];
  readonly finishReason: FinishReason | null;
  /** For `sources_only` and `no_evidence`: what failed, what was missing. */
  readonly reason: string | null;
  readonly findings: Findings;
  readonly problem: Problem | null;
  readonly elapsedMs: number | null;
  /** Whether the answer is known to be on record: only then can it be marked, and its reply sent. */
  readonly isRecorded: boolean;
  readonly verdicts: readonly StoredVerdict[];
  readonly sends: readonly SentReply[];
}

export interface SentReply extends StoredSent {
  /** Whether this page saw it taken by the chat. Of one that was read from the records that is not known. */
  readonly isDelivered?: boolean;
}

/** What became of a reply: it was delivered, or is on record. */
export function sentWords(isDelivered: boolean | undefined): string {
  return isDelivered ? "Sent" : "Recorded as sent";
}

export function newTurn(key: string, question: string, chat: readonly ChatTurn[] = []): Turn {
  return {
    key,
    answerId: null,
    question,
    chat,
    phase: "sending",
    text: "",
    sentences: [],
    checkedBy: null,
    sources: [],
    redFlags: [],
    uncheckedLanguage: null,
    isRead: false,
    recordedModel: null,
    offered: null,
    section: null,
    preview: null,
    elements: [],
    asked: [],
    finishReason: null,
    reason: null,
    findings: findingsOf({}),
    problem: null,
    elapsedMs: null,
    isRecorded: false,
    verdicts: [],
    sends: [],
  };
}

/** The findings of an older service or record are empty. */
function findingsOf(wire: WireFindings): Findings {
  return {
    mode: wire.mode ?? null,
    certainty: wire.certainty ?? null,
    also: wire.also ?? [],
    clarify: wire.clarify ?? null,
    unanswered: wire.unanswered ?? [],
    asks: wire.asks ?? wire.reading?.asks ?? true,
    escalation: wire.escalation ?? null,
    fallback: wire.fallback ?? null,
    degraded: wire.degraded ?? [],
    loading: wire.loading ?? [],
  };
}

const PHASES = { done: "finished", failed: "failed", cancelled: "stopped", disconnected: "interrupted" } as const;

/** A turn as the service has kept it. */
export function storedTurn({ record, sources, verdicts, sent, checked }: StoredAnswer): Turn {
  const missing = record.reading?.asks === false ? "" : (record.gate?.missing_terms.join(", ") ?? "");
  const phase = record.error_code === "interrupted" ? "interrupted" : PHASES[record.outcome];
  const turn: Turn = {
    ...newTurn(record.answer_id, record.question),
    answerId: record.answer_id,
    phase,
    text: record.text,
    sentences: record.sentences,
    sources,
    redFlags: (record.red_flags ?? []).map((name) => ({ name, text: "", call: "" })),
    uncheckedLanguage: record.unchecked_language ?? null,
    elements: (record.elements ?? []).map(keptElement),
    asked: record.asked ?? [],
    finishReason: record.finish_reason,
    reason: record.finish_reason === "no_evidence" ? (record.reason ?? missing) : record.error_code,
    findings: findingsOf(record),
    problem: phase === "failed" ? recordedProblem(record.error_code) : null,
    elapsedMs: Date.parse(record.finished_at) - Date.parse(record.asked_at),
    isRecorded: true,
    verdicts,
    sends: sent,
  };
  return checked == null ? turn : afterChecked(turn, { by: checked.model_id, sentences: checked.sentences });
}

/** What a turn without an answer is called. Where only a live system was asked, documents have nothing to do with it. */
export function silentTitle(turn: Turn): string {
  if (!turn.findings.asks) return "Nothing to answer";
  if (turn.findings.loading.length > 0) return "Not found in the documents that are loaded";
  if (turn.elements.length === 0) return "Not in the knowledge base";
  return turn.findings.clarify === null ? "No live value was shown" : "One more thing is needed";
}

export function isRunning(turn: Turn): boolean {
  return turn.phase === "sending" || turn.phase === "searching" || turn.phase === "writing";
}

/** What a turn is after an event. Once it has ended, a model's check of its sentences may still come. */
export function afterEvent(turn: Turn, event: AnswerEvent): Turn {
  if (event.event === "checked" && turn.checkedBy === "follows") return afterChecked(turn, event.data);
  if (!isRunning(turn)) return turn;
  switch (event.event) {
    case "started":
      return afterStarted(turn, event.data);
    case "preview":
      return { ...turn, preview: event.data.section };
    case "red_flags":
      return { ...turn, redFlags: withFlags(turn, event.data.red_flags), uncheckedLanguage: null };
    case "sources":
      return afterSources(turn, event.data);
    case "token":
      return { ...turn, text: turn.text + event.data.text, phase: "writing" };
    case "sentence":
      return { ...turn, sentences: [...turn.sentences, event.data] };
    case "element":
      return { ...turn, elements: withElement(turn.elements, event.data) };
    case "checks":
    case "checked":
      return turn;
    case "done":
      return afterDone(turn, event.data);
    case "error":
      return afterProblem(turn, event.data);
  }
}

/** Where it comes a second time, the answer comes again from its record, which has no live values and no offers. */
function afterStarted(turn: Turn, started: Started): Turn {
  const { answer_id, red_flags = [], unchecked_language = null, recorded_model = null } = started;
  return {
    ...turn,
    answerId: answer_id,
    redFlags: withFlags(turn, red_flags),
    uncheckedLanguage: turn.isRead ? null : unchecked_language,
    recordedModel: recorded_model,
    text: "",
    sentences: [],
    phase: "searching",
  };
}

/** The emergencies of a turn and more of them: none is taken away. */
function withFlags({ redFlags }: Turn, more: readonly RedFlag[]): readonly RedFlag[] {
  return [...redFlags, ...more.filter(({ name }) => redFlags.every((flag) => flag.name !== name))];
}

function afterSources(turn: Turn, { sources, section, offered }: WireSources): Turn {
  return {
    ...turn,
    sources,
    section: section ?? turn.section,
    preview: null,
    offered: offered ?? turn.offered,
    phase: "writing",
  };
}

function afterDone(turn: Turn, done: Done): Turn {
  const isRecorded = done.recorded ?? true;
  return {
    ...turn,
    phase: "finished",
    finishReason: done.finish_reason,
    reason: done.reason ?? null,
    findings: findingsOf(done),
    asked: done.asked ?? [],
    checkedBy: done.check_follows === true ? "follows" : null,
    isRecorded,
  };
}

/** A check without verdicts checked nothing. */
function afterChecked(turn: Turn, { by, sentences }: Checked): Turn {
  if (sentences.length === 0) return afterNoCheck(turn);
  const checks = new Map(sentences.map((check) => [check.index, check]));
  return { ...turn, checkedBy: { by }, sentences: turn.sentences.map((one) => withCheck(one, checks.get(one.index))) };
}

/** No check will come. */
export function afterNoCheck(turn: Turn): Turn {
  return turn.checkedBy === "follows" ? { ...turn, checkedBy: null } : turn;
}

/** A verdict marks a sentence, or takes the mark of one that named no source; what code found in values stays. */
function withCheck(sentence: SentenceEnded, check: SentenceCheck | undefined): TurnSentence {
  if (check === undefined || sentence.detail === "withheld") return sentence;
  if (check.verdict === "held") {
    const isFound = sentence.reasons?.join() === "no_citation";
    return isFound ? { ...sentence, check, support: "supported", detail: null, reasons: [] } : { ...sentence, check };
  }
  const cited = [...(sentence.cited ?? []), ...(check.cited == null ? [] : [check.cited])];
  return { ...sentence, check, cited, support: "unsupported", detail: "check" };
}

export function afterProblem(turn: Turn, problem: Problem): Turn {
  if (!isRunning(turn)) return turn;
  return { ...turn, phase: isBreak(problem) ? "interrupted" : "failed", problem };
}

export function afterStop(turn: Turn): Turn {
  return isRunning(turn) ? { ...turn, phase: "stopped" } : turn;
}

export type Turns = Signal<readonly Turn[]>;

export function findTurn(turns: Turns, key: string | null): Turn | null {
  return turns.value.find((turn) => turn.key === key) ?? null;
}

export function changeTurn(turns: Turns, key: string, change: (turn: Turn) => Turn): void {
  turns.value = turns.value.map((turn) => (turn.key === key ? change(turn) : turn));
}

/** Whether a model writes the text, also while it does. */
export function isWritten(turn: Turn): boolean {
  if (!isRunning(turn)) return turn.findings.mode === "written";
  return turn.sentences.some(({ quote }) => !quote) && !isApproved(turn);
}

/** Whether the answer quotes one that reviewers approved. */
export function isApproved({ sources, sentences }: Turn): boolean {
  const approved = new Set(sources.filter(({ kind }) => kind === "approved").map(({ n }) => n));
  return sentences.some(({ citations }) => citations.some((n) => approved.has(n)));
}

/**
 * Number of the source to open beside an answer as it comes: what its section, or its first quote, is taken from. Null
 * for one that a model writes without a section. An approved answer has no stored text.
 */
export function sourceToOpen({ section, findings, sentences, sources }: Turn): number | null {
  const quoted = findings.mode === "quoted" ? sentences.flatMap(({ citations }) => citations) : [];
  const documents = new Set(sources.filter(({ kind }) => kind !== "approved").map(({ n }) => n));
  return (section?.citations ?? quoted).find((n) => documents.has(n)) ?? null;
}

/** How many sentences that are shown have no support. */
export function unsupportedCount({ sentences }: Turn): number {
  return sentences.filter(({ support, detail }) => support === "unsupported" && detail !== "withheld").length;
}

export function withheldCount({ sentences }: Turn): number {
  return sentences.filter(({ detail }) => detail === "withheld").length;
}

/** Whether nothing at all in the answer has support. */
export function isUnsupported({ sentences }: Turn): boolean {
  return sentences.length > 0 && sentences.every(({ support }) => support === "unsupported");
}

/** Whether the answer can be marked and a reply made of it. */
export function canJudge(turn: Turn): boolean {
  return turn.answerId !== null && !isRunning(turn) && turn.phase !== "failed";
}
