/** Follows the turns of a chat that the host hands over, and keeps what is suggested: in memory alone. */
import { type Signal, signal } from "@preact/signals";
import type { Api } from "@console/api.ts";
import { ApiError } from "@console/problems.ts";
import type { ChatTurn, RedFlag } from "@console/wire.ts";
import type { Suggestion, TurnsRead } from "./wire.ts";

type Asked = Pick<Api, "write">;

export class Suggesting {
  readonly suggestion: Signal<Suggestion | null> = signal(null);
  readonly redFlags: Signal<readonly RedFlag[]> = signal([]);
  /** The answer that began when the agent opened the suggestion. */
  readonly answerId: Signal<string | null> = signal(null);
  /** The chat that it is about. */
  turns: readonly ChatTurn[] = [];
  readonly #api: Asked;
  #newest = 0;
  #underway: Promise<void> = Promise.resolve();

  constructor(api: Asked) {
    this.#api = api;
  }

  /** Read the chat after a turn. What comes for an earlier state of the chat is dropped. Throws nothing. */
  async follow(turns: readonly ChatTurn[]): Promise<void> {
    const own = ++this.#newest;
    if (turns.at(-1)?.who !== "customer") return this.dismiss();
    await this.#underway; // one request at a time: of those that wait the newest goes on
    if (own === this.#newest) await (this.#underway = this.#read(turns, own));
  }

  async #read(turns: readonly ChatTurn[], own: number): Promise<void> {
    try {
      const read = await this.#api.write<TurnsRead>("/v1/turns", { turns: turns.slice(-MOST_TURNS) });
      if (own !== this.#newest) return;
      this.turns = turns;
      this.answerId.value = null;
      this.redFlags.value = read.red_flags;
      this.suggestion.value = read.suggestion ?? null;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (own === this.#newest) this.dismiss(); // unasked: no failure is shown
    }
  }

  /** An answer began when the agent opened a suggestion; one that another took the place of has no say any more. */
  async opened(suggestion: Suggestion, answerId: string): Promise<void> {
    if (this.suggestion.peek() === suggestion) this.answerId.value = answerId;
    await this.report("opened", suggestion, answerId);
  }

  /** Report what became of a suggestion. Throws nothing: a count is no reason to stop the agent. */
  async report(kind: "opened" | "inserted", suggestion: Suggestion, answerId: string): Promise<void> {
    const path = `/v1/turns/${encodeURIComponent(suggestion.suggestion_id)}/acts`;
    await this.#api.write(path, { answer_id: answerId, kind, step: suggestion.step }).catch((error: unknown) => {
      if (!(error instanceof ApiError)) throw error;
    });
  }

  /** Forget what is shown; what is on its way for a newer turn still comes. */
  dismiss(): void {
    this.turns = [];
    this.suggestion.value = null;
    this.redFlags.value = [];
    this.answerId.value = null;
  }
}

const MOST_TURNS = 40;
