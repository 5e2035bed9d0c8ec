/** The events of one answer over one connection, and the limit on how long they may stay away. */
import { lostAnswer, isProblem } from "./problems.ts";
import { readEvents, type ServerEvent } from "./sse.ts";
import type { AnswerEvent } from "./wire.ts";

/** The service writes at least a comment every 10 s. */
const SILENCE_LIMIT_MS = 30_000;
const KNOWN_EVENTS = new Set(["started", "preview", "red_flags", "sources", "token", "sentence", "element", "checks", "done", "checked", "error"]);

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

interface Reading {
  readonly silence: Silence;
  /** Called with the events that came together, and with the id of the last of them. */
  readonly onEvents: (events: AnswerEvent[], lastEventId: string) => void;
}

/** Hand over the events of a connection; say whether all of them came. Throws what reading throws. */
export async function readAnswer(
  body: ReadableStream<Uint8Array>,
  { silence, onEvents }: Reading,
): Promise<boolean> {
  let hasEnded = false;
  await readEvents(body, (events) => {
    silence.heard();
    const known = events.flatMap(toAnswerEvent);
    hasEnded ||= known.some(isLast);
    const last = events.at(-1);
    if (last !== undefined) onEvents(known, last.id);
  });
  return hasEnded;
}

function isLast({ event, data }: AnswerEvent): boolean {
  return event === "checked" || event === "error" || (event === "done" && data.check_follows !== true);
}

/** Unknown events are left out: the API may grow. */
function toAnswerEvent({ event, data }: ServerEvent): AnswerEvent[] {
  if (!KNOWN_EVENTS.has(event)) return [];
  const parsed: unknown = JSON.parse(data);
  if (event === "error" && !isProblem(parsed)) return [{ event, data: lostAnswer() }];
  return [{ event, data: parsed } as AnswerEvent];
}
