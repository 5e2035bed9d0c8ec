/** The events of one answer, and the limit on how long they may stay away. */
import { ApiError, brokenStream, isProblem } from "./problems.ts";
import { readEvents, type ServerEvent } from "./sse.ts";
import type { AnswerEvent } from "./wire.ts";

/** The service writes at least a comment every 10 s. */
const SILENCE_LIMIT_MS = 30_000;
const KNOWN_EVENTS = new Set(["started", "sources", "token", "sentence", "done", "error"]);

/** Aborts its signal when nothing was heard for the limit. */
export class Silence {
  readonly #controller = new AbortController();
  #timer = this.#start();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  heard(): void {
    clearTimeout(this.#timer);
    this.#timer = this.#start();
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #start(): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.#controller.abort(), SILENCE_LIMIT_MS);
  }
}

/** Hand over the events of an answer. Throws ApiError when the stream ends before the answer does. */
export async function followAnswer(
  body: ReadableStream<Uint8Array>,
  { silence, onEvents }: { silence: Silence; onEvents: (events: AnswerEvent[]) => void },
): Promise<void> {
  let hasEnded = false;
  await readEvents(body, (events) => {
    silence.heard();
    const known = events.flatMap(toAnswerEvent);
    hasEnded ||= known.some(({ event }) => event === "done" || event === "error");
    if (known.length > 0) onEvents(known);
  });
  if (!hasEnded) throw new ApiError(brokenStream());
}

/** Unknown events are left out: the API may grow. */
function toAnswerEvent({ event, data }: ServerEvent): AnswerEvent[] {
  if (!KNOWN_EVENTS.has(event)) return [];
  const parsed: unknown = JSON.parse(data);
  if (event === "error" && !isProblem(parsed)) return [{ event, data: brokenStream() }];
  return [{ event, data: parsed } as AnswerEvent];
}
