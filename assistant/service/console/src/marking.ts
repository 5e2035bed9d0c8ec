/** What an agent says of an answer: its mark, and the reply that was sent. Each is kept once, after the answer. */
import type { Api } from "./api.ts";
import { ApiError, notOnRecord } from "./problems.ts";
import type { Guarded } from "./replying.ts";
import type { Began } from "./tab_state.ts";
import type { Turn } from "./turn.ts";
import type { LiveSpan, Problem, StoredSent, StoredVerdict, VerdictLabel } from "./wire.ts";

export interface VerdictDraft {
  readonly label: VerdictLabel;
  readonly reasons: readonly string[];
  readonly betterText: string;
  readonly wrongCitations: readonly number[];
}

interface Sending {
  readonly live?: readonly LiveSpan[];
  readonly context?: string | undefined;
  readonly began?: Began;
  readonly guarded?: Guarded | undefined;
}

/** Between tries while the record of the answer may still be on its way. */
const PAUSES_MS = [500, 1_000, 2_000, 4_000, 8_000];
/** An agent looks at a busy button meanwhile. */
const LONGEST_PAUSE_MS = 5_000;

/** Waits until the record of an answer has come. Throws the last refusal, or what `call` throws otherwise. */
export async function onceRecorded<T>(
  call: () => Promise<T>,
  wait: (milliseconds: number) => Promise<void> = delay,
): Promise<T> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ApiError) || !mayFollow(error.problem)) throw error;
      await wait(Math.max(pauseMs, Math.min(error.retryAfterMs, LONGEST_PAUSE_MS)));
    }
  }
  return await call();
}

export class Marking {
  readonly #api: Api;
  readonly #attempts = new Map<string, { text: string; id: string }>();

  constructor(api: Api) {
    this.#api = api;
  }

  /** Put a reply on record as sent. Throws ApiError; trying again with the same text is the same record. */
  async send(
    turn: Turn,
    answerId: string,
    text: string,
    { live = [], context, began = {}, guarded }: Sending = {},
  ): Promise<StoredSent> {
    const attempt = `sent ${answerId}`;
    const send_id = this.#idOf(attempt, JSON.stringify([text, live]));
    const sent = { send_id, text, live, ...began, ...(context === undefined ? {} : { context }), ...guarded };
    const stored = await this.#onRecord(turn, () => this.#api.send(answerId, sent));
    this.#attempts.delete(attempt);
    return stored;
  }

  /** Put a verdict on record; earlier ones are kept, the last counts. Throws ApiError. */
  async judge(turn: Turn, answerId: string, draft: VerdictDraft): Promise<StoredVerdict> {
    const attempt = `verdict ${answerId}`;
    const verdict = {
      verdict_id: this.#idOf(attempt, JSON.stringify(draft)),
      label: draft.label,
      reasons: draft.reasons,
      better_text: draft.betterText.trim() === "" ? null : draft.betterText,
      wrong_citations: draft.wrongCitations,
    };
    const stored = await this.#onRecord(turn, () => this.#api.giveVerdict(answerId, verdict));
    this.#attempts.delete(attempt);
    return stored;
  }

  async #onRecord<T>(turn: Turn, call: () => Promise<T>): Promise<T> {
    if (turn.isRecorded) return await call();
    try {
      return await onceRecorded(call);
    } catch (error) {
      if (error instanceof ApiError && mayFollow(error.problem)) throw new ApiError(notOnRecord());
      throw error;
    }
  }

  /** One id an attempt: the same until the record is kept or its content changes. */
  #idOf(attempt: string, text: string): string {
    const before = this.#attempts.get(attempt);
    if (before?.text === text) return before.id;
    const id = crypto.randomUUID();
    this.#attempts.set(attempt, { text, id });
    return id;
  }
}

/** Whether the answer may come to be on record: there is none yet, or its store does not answer. */
function mayFollow({ code, status, retryable }: Problem): boolean {
  return code === "not_found" || (status === 503 && retryable);
}

async function delay(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}
