/**
 * What a reload must not lose, kept by this tab alone (sessionStorage) until it is closed: which conversation
 * is open, and words that nobody has sent yet. Never a token, never an answer.
 */

import type { LiveText, Sent } from "./wire.ts";
import { readStored, writeStored } from "./stored_values.ts";

const KEY = "care-console.tab";

/** What the agent's text is an edit of. */
export interface KeptDraft {
  /** What a model wrote, and the id of that. */
  readonly text: string;
  readonly replyId: string | null;
  /** What the agent put in: lines, or an approved answer. */
  readonly began?: Began;
}

/** Whether a model began it and did not come to its end. */
export function isUnfinished({ text, replyId }: KeptDraft): boolean {
  return replyId !== null && text === "";
}

export type Began = Pick<Sent, "reply_id" | "began_with" | "lines">;

export interface TabState {
  /** Who wrote it, as `issuer tenant subject`: somebody else who signs in to the tab does not get to see it. */
  readonly author: string;
  readonly conversationId: string | null;
  /** The question in the box. */
  readonly question: string;
  /** The question that is being answered: lost by a reload unless its answer is on record. */
  readonly pending: string | null;
  /** Its answer, once that has an id: a page that is loaded again comes back to it. */
  readonly runningId?: string | null;
  /** Answer id → the edited reply that was not sent yet. */
  readonly replies: Readonly<Record<string, string>>;
  /** Answer id → what its reply is an edit of. */
  readonly drafts?: Readonly<Record<string, KeptDraft>>;
  /** Answer id → live values in its reply: after a reload nothing else knows which words of it they are. */
  readonly liveTexts?: Readonly<Record<string, readonly LiveText[]>>;
}

export function readTab(storage: Storage): TabState | null {
  const state = readStored(storage, KEY);
  return isTabState(state) ? state : null;
}

export function writeTab(storage: Storage, state: TabState): void {
  writeStored(storage, KEY, state);
}

export function clearTab(storage: Storage): void {
  storage.removeItem(KEY);
}

function isTabState(state: unknown): state is TabState {
  if (typeof state !== "object" || state === null) return false;
  return (
    "author" in state &&
    typeof state.author === "string" &&
    "conversationId" in state &&
    (state.conversationId === null || typeof state.conversationId === "string") &&
    "question" in state &&
    typeof state.question === "string" &&
    "pending" in state &&
    (state.pending === null || typeof state.pending === "string") &&
    (!("runningId" in state) || state.runningId === null || typeof state.runningId === "string") &&
    "replies" in state &&
    typeof state.replies === "object" &&
    state.replies !== null &&
    Object.values(state.replies).every((reply) => typeof reply === "string") &&
    (!("drafts" in state) || isDrafts(state.drafts)) &&
    (!("liveTexts" in state) || isTextsOfAnswers(state.liveTexts))
  );
}

function isDrafts(drafts: unknown): boolean {
  return typeof drafts === "object" && drafts !== null && Object.values(drafts).every(isDraft);
}

function isDraft(one: unknown): boolean {
  return (
    typeof one === "object" &&
    one !== null &&
    "text" in one &&
    typeof one.text === "string" &&
    "replyId" in one &&
    (one.replyId === null || typeof one.replyId === "string") &&
    (!("began" in one) || typeof one.began === "object")
  );
}

function isTextsOfAnswers(texts: unknown): boolean {
  return (
    typeof texts === "object" &&
    texts !== null &&
    Object.values(texts).every((of: unknown) => Array.isArray(of) && of.every(isLiveText))
  );
}

function isLiveText(one: unknown): boolean {
  return (
    typeof one === "object" &&
    one !== null &&
    "element_id" in one &&
    typeof one.element_id === "string" &&
    "value" in one &&
    typeof one.value === "string" &&
    "mac" in one &&
    typeof one.mac === "string"
  );
}
