/**
 * What an agent does with an answer beside marks and replies, reported to improve answers. Nothing here keeps the
 * agent waiting or shows a failure: a report that cannot be delivered is dropped.
 */
import type { Api } from "./api.ts";
import { ApiError } from "./problems.ts";
import type { Turn } from "./turn.ts";
import { type Act, OFFERED_USED } from "./wire.ts";

/** Between attempts: the record of an answer may follow within some seconds. */
const PAUSES_MS = [1_000, 5_000, 20_000];
/** Reports on their way at once; more are dropped. */
const UNDERWAY_LIMIT = 20;
/** Longest id that the service takes. */
const ID_LIMIT = 64;

export class Acts {
  readonly #api: Api;
  readonly #wait: (milliseconds: number) => Promise<void>;
  /** Ids of acts that were reported by this page: none is reported twice. */
  readonly #reported = new Set<string>();
  #underway = 0;

  constructor(api: Api, { wait = delay }: { wait?: (milliseconds: number) => Promise<void> } = {}) {
    this.#api = api;
    this.#wait = wait;
  }

  /** The agent opened source `n`. */
  opened(turn: Turn, n: number): void {
    void this.#report(turn, { kind: "opened_source", n });
  }

  /** The agent put the offered answer into the reply. */
  usedOffered(turn: Turn): void {
    void this.#report(turn, { kind: OFFERED_USED });
  }

  async #report({ answerId }: Turn, what: Omit<Act, "act_id">): Promise<void> {
    if (answerId === null || this.#underway >= UNDERWAY_LIMIT) return;
    // the id follows from the act: the same act, from a page that was loaded again, is one record
    const act_id = [answerId, what.kind, ...(what.n === undefined ? [] : [what.n])].join("-").slice(-ID_LIMIT);
    if (this.#reported.has(act_id)) return;
    this.#reported.add(act_id);
    this.#underway += 1;
    try {
      await this.#deliver(answerId, { ...what, act_id });
    } finally {
      this.#underway -= 1;
    }
  }

  async #deliver(answerId: string, act: Act): Promise<void> {
    for (const pauseMs of [0, ...PAUSES_MS]) {
      if (pauseMs > 0) await this.#wait(pauseMs);
      try {
        return await this.#api.report(answerId, act);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (!error.problem.retryable && error.problem.code !== "not_found") return;
      }
    }
  }
}

async function delay(milliseconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}
