/** Server-sent events from a fetch body (https://html.spec.whatwg.org/multipage/server-sent-events.html). */

export interface ServerEvent {
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/** Characters that one event may hold before the stream counts as broken. */
export const EVENT_LIMIT = 1_048_576;

/** Takes text as it comes, cut anywhere, and gives back the events that are complete. */
export class EventParser {
  #rest = "";
  #held = 0;
  #event = "";
  #id = "";
  #data: string[] = [];
  #started = false;

  push(text: string): ServerEvent[] {
    this.#rest += text;
    if (!this.#started && this.#rest !== "") {
      this.#started = true;
      if (this.#rest.startsWith("\uFEFF")) this.#rest = this.#rest.slice(1);
    }
    const events: ServerEvent[] = [];
    for (let line = this.#nextLine(); line !== null; line = this.#nextLine()) {
      const event = this.#takeLine(line);
      if (event !== null) events.push(event);
    }
    if (this.#rest.length + this.#held > EVENT_LIMIT) throw new RangeError("The event is too long.");
    return events;
  }

  #nextLine(): string | null {
    const end = this.#rest.search(/[\r\n]/);
    if (end < 0) return null;
    const isReturn = this.#rest[end] === "\r";
    if (isReturn && end + 1 === this.#rest.length) return null; // a line feed may follow
    const line = this.#rest.slice(0, end);
    const isPair = isReturn && this.#rest[end + 1] === "\n";
    this.#rest = this.#rest.slice(end + (isPair ? 2 : 1));
    return line;
  }

  #takeLine(line: string): ServerEvent | null {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment: the server is alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    if (field === "id" && !value.includes("\0")) this.#id = value;
    if (field === "data") {
      this.#data.push(value);
      this.#held += value.length;
    }
    return null;
  }

  #dispatch(): ServerEvent | null {
    const event = { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    this.#held = 0;
    return isEmpty ? null : event;
  }
}

/**
 * Reads a body and hands over the events that each piece completes, as it arrives: for a comment, none.
 * Throws what reading throws (an abort, a broken connection), and RangeError for an endless event.
 */
export async function readEvents(
  body: ReadableStream<Uint8Array>,
  onEvents: (events: ServerEvent[]) => void,
): Promise<void> {
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onEvents(parser.push(decoder.decode(value, { stream: true })));
    }
  } finally {
    await reader.cancel().catch(() => undefined); // already closed or aborted: nothing is left to free
  }
}
