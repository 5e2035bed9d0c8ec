/** The one answer that is underway: what comes of it goes into its turn. */
import { type Signal, batch, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import type { Reader } from "./coming_back.ts";
import { ApiError, lostAnswer } from "./problems.ts";
import {
  type Turn,
  type Turns,
  afterEvent,
  afterNoCheck,
  afterProblem,
  afterStop,
  changeTurn,
  findTurn,
  isRunning,
} from "./turn.ts";
import type { AnswerEvent, Problem, Started } from "./wire.ts";

/** How long a cancelled answer's connection stays open for the service to hear of it. */
const CANCEL_LIMIT_MS = 2_000;

export interface Underway {
  readonly key: string;
  readonly startedAt: number;
  readonly controller: AbortController;
  /** False for an answer that another page began: it takes longer than this page knows. */
  readonly isWhole: boolean;
}

interface Parts {
  readonly api: Api;
  readonly turns: Turns;
  readonly onStarted: (key: string, started: Started) => void;
}

export class Answering {
  readonly underway: Signal<Underway | null> = signal(null);
  readonly isLost: Signal<boolean> = signal(false);
  readonly #api: Api;
  readonly #turns: Turns;
  readonly #onStarted: Parts["onStarted"];

  constructor({ api, turns, onStarted }: Parts) {
    this.#api = api;
    this.#turns = turns;
    this.#onStarted = onStarted;
  }

  /** Add the turn and read its answer to its end; a check of it is read on. Returns why that was impossible, if it was. */
  async answer(turn: Turn, read: (reader: Reader) => Promise<void>): Promise<Problem | null> {
    const underway = {
      key: turn.key,
      startedAt: performance.now(),
      controller: new AbortController(),
      isWhole: turn.answerId === null,
    };
    batch(() => {
      this.#turns.value = [...this.#turns.value, turn];
      this.underway.value = underway;
      this.isLost.value = false;
    });
    return await new Promise((resolve, reject) => {
      void this.#read(underway, () => read(this.#readerOf(underway, () => resolve(null)))).then(resolve, reject);
    });
  }

  async #read(underway: Underway, read: () => Promise<void>): Promise<Problem | null> {
    const { key } = underway;
    try {
      await read();
      return null;
    } catch (error) {
      if (error instanceof ApiError) {
        this.#end(key, error.problem);
        return error.problem;
      }
      if (underway.controller.signal.aborted) return null;
      throw error;
    } finally {
      changeTurn(this.#turns, key, afterNoCheck);
      this.#close(underway);
    }
  }

  /** End the answer; what has arrived stays. */
  stop(): void {
    const underway = this.underway.value;
    if (underway === null) return;
    const answerId = findTurn(this.#turns, underway.key)?.answerId ?? null;
    batch(() => {
      changeTurn(this.#turns, underway.key, afterStop);
      this.#close(underway);
    });
    void this.#cancel(answerId).finally(() => underway.controller.abort());
  }

  #readerOf(underway: Underway, onEnded: () => void): Reader {
    const { key, controller } = underway;
    return {
      signal: controller.signal,
      onEvents: (events: AnswerEvent[]) => {
        const isUnderway = this.underway.value?.key === key; // a check may come after the answer's end
        for (const { event, data } of events) if (event === "started" && isUnderway) this.#onStarted(key, data);
        changeTurn(this.#turns, key, (turn) => events.reduce(afterEvent, turn));
        const turn = findTurn(this.#turns, key);
        if (!isUnderway || turn === null || isRunning(turn)) return;
        this.#close(underway);
        onEnded();
      },
      onLost: (isLost: boolean) => {
        if (this.underway.value?.key === key) this.isLost.value = isLost;
      },
    };
  }

  #end(key: string, problem: Problem): void {
    const isLost = problem.code === "not_found" && (findTurn(this.#turns, key)?.text ?? "") !== "";
    changeTurn(this.#turns, key, (turn) => afterProblem(turn, isLost ? lostAnswer() : problem));
  }

  #close({ key, startedAt, isWhole }: Underway): void {
    if (this.underway.value?.key !== key) return;
    batch(() => {
      this.underway.value = null;
      this.isLost.value = false;
      const elapsedMs = performance.now() - startedAt;
      if (isWhole) changeTurn(this.#turns, key, (turn) => ({ ...turn, elapsedMs }));
    });
  }

  /** Tell the service to cancel, so that the record says so; it sees the connection close in any case. */
  async #cancel(answerId: string | null): Promise<void> {
    if (answerId === null) return;
    const limit = new Promise((resolve) => setTimeout(resolve, CANCEL_LIMIT_MS));
    await Promise.race([this.#api.cancel(answerId).catch(() => undefined), limit]);
  }
}
