/** One answer, read to its end over as many connections as that takes. */
import { Silence, readAnswer } from "./answer_stream.ts";
import { isOffline, pause, untilNetworkChanges } from "./network.ts";
import { ApiError, lostAnswer, unreachable } from "./problems.ts";
import type { AnswerEvent } from "./wire.ts";

/** For so long the service goes on writing after a reader has left. */
export const RESUME_WINDOW_S = 15;
/** After that the answer is on record, or its writing has ended: who comes back later learns nothing new. */
const PATIENCE_MS = (RESUME_WINDOW_S + 5) * 1000;
/** The record stays: a machine without any network may take its time. */
const OFFLINE_PATIENCE_MS = 300_000;
/** A connection that stood for so long was one, though nothing came: the model may think for a while. */
const STOOD_MS = 10_000;
/** Refusals that another attempt at the same answer meets as well, though the question may be asked again. */
const FINAL = new Set(["interrupted", "endpoint_paused"]);
const PAUSES_MS = [300, 1_000, 2_000, 4_000];

/** An answer, and how far it has been read. */
export interface Place {
  readonly answerId: string;
  /** Empty: from its beginning. */
  readonly lastEventId: string;
}

export interface Reader {
  /** Aborting it ends the reading, with the signal's own reason. */
  readonly signal: AbortSignal;
  readonly onEvents: (events: AnswerEvent[]) => void;
  /** The connection is lost and will be tried again, or stands again. */
  readonly onLost: (isLost: boolean) => void;
}

/** Opens a connection: the question itself as long as nothing has come (null), else what follows a place. */
export type Open = (place: Place | null, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;

interface Options {
  readonly reader: Reader;
  /** Where a page that was loaded again goes on. */
  readonly place?: Place | null;
  readonly surroundings?: Surroundings;
}

/** Time and network as the browser knows them; tests bring others. */
export interface Surroundings {
  readonly pause: typeof pause;
  readonly untilNetworkChanges: typeof untilNetworkChanges;
  readonly isOffline: () => boolean;
  readonly now: () => number;
}

const BROWSER: Surroundings = { pause, untilNetworkChanges, isOffline, now: () => performance.now() };

export class ComingBack {
  readonly #open: Open;
  readonly #reader: Reader;
  readonly #surroundings: Surroundings;
  #place: Place | null;
  /** Attempts since the last event came, and when the connection was lost. */
  #attempts = 0;
  #lostAt: number | null = null;

  constructor(open: Open, { reader, place = null, surroundings = BROWSER }: Options) {
    this.#open = open;
    this.#place = place;
    this.#reader = reader;
    this.#surroundings = surroundings;
  }

  /** Return when the answer has ended. Throws ApiError: it was refused, or coming back is impossible. */
  async readToEnd(): Promise<void> {
    for (;;) {
      const refusal = await this.#readOnce();
      if (refusal === "ended") return;
      this.#lostAt ??= this.#surroundings.now();
      const patience = this.#surroundings.isOffline() ? OFFLINE_PATIENCE_MS : PATIENCE_MS;
      const wait = Math.max(this.#nextPause(), refusal?.retryAfterMs ?? 0);
      if (this.#surroundings.now() + wait - this.#lostAt > patience) {
        throw new ApiError(this.#place === null ? unreachable() : lostAnswer());
      }
      this.#reader.onLost(true);
      await this.#surroundings.pause(wait, this.#reader.signal);
    }
  }

  /** Read one connection to its end. Null: it broke; an error: a refusal that asks to try again. */
  async #readOnce(): Promise<"ended" | ApiError | null> {
    const { signal } = this.#reader;
    const silence = new Silence();
    try {
      return await this.#surroundings.untilNetworkChanges(async (changed) => {
        const body = await this.#open(this.#place, AbortSignal.any([signal, silence.signal, changed]));
        this.#reader.onLost(false);
        const openedAt = this.#surroundings.now();
        const onEvents = (events: AnswerEvent[], lastEventId: string) => this.#take(events, lastEventId);
        try {
          return (await readAnswer(body, { silence, onEvents })) ? "ended" : null;
        } finally {
          if (this.#surroundings.now() - openedAt >= STOOD_MS) this.#beginAnew();
        }
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!(error instanceof ApiError)) return null; // the body broke, or what came is no event
      if (error.problem.status !== 0 && !this.#mayTryAgain(error)) throw error;
      return error;
    } finally {
      silence.end();
    }
  }

  /** A first refusal is the agent's to decide about; on the way back it may be that of a service that starts. */
  #mayTryAgain({ problem }: ApiError): boolean {
    const isOnTheWayBack = this.#place !== null || this.#lostAt !== null;
    return isOnTheWayBack && problem.retryable && !FINAL.has(problem.code);
  }

  #take(events: AnswerEvent[], lastEventId: string): void {
    this.#beginAnew();
    const answerId = lastEventId.slice(0, lastEventId.lastIndexOf(":"));
    if (answerId !== "") this.#place = { answerId, lastEventId };
    this.#reader.onEvents(events);
  }

  #beginAnew(): void {
    this.#attempts = 0;
    this.#lostAt = null;
  }

  /** Growing, and not the same for everybody: a service that starts again should not meet all at once. */
  #nextPause(): number {
    const longest = PAUSES_MS[Math.min(this.#attempts, PAUSES_MS.length - 1)] ?? 0;
    this.#attempts += 1;
    return longest * (0.75 + Math.random() / 4);
  }
}
