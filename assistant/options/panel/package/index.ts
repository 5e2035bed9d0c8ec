/** Holds the assistant's panel in a page, and speaks its protocol (panel.md). */
import { End, type FromHost, type FromPanel, type Turn, VERSION, isFromPanel, isReady } from "./protocol.ts";

export type { Turn } from "./protocol.ts";

export interface Conversation {
  /** Names the conversation in the page, 1 to 128 characters: another one begins anew. */
  readonly ticket: string;
  /** Oldest first; empty where the page has no transcript. */
  readonly turns: readonly Turn[];
  /** What the care application signed for this conversation. */
  readonly context?: string;
}

type Taken = void | Promise<void>;

/** What the page does. What it leaves out the panel does not offer; if one throws, the agent reads that the page did not take it. */
export interface Handlers {
  /** Put the text where the agent writes. Never send it. */
  readonly insert?: (text: string) => Taken;
  /** Open the address beside, for instance in a new tab. */
  readonly source?: (source: { readonly title: string; readonly url: string }) => Taken;
  /** Keep the text as an internal note. */
  readonly note?: (text: string) => Taken;
  /** Fetch a one-time code from the page's own server; null: the agent signs in by the pop-up. */
  readonly code?: () => Promise<string | null>;
  /** Fetch a new context of a ticket: an answer has used the one before. Null: the next has no live data. */
  readonly context?: (ticket: string) => Promise<string | null>;
  readonly signedIn?: () => void;
  /** The panel did not take a message. */
  readonly refused?: (why: string) => void;
}

/** Open a source in a new tab. */
export function openBeside({ url }: { readonly url: string }): void {
  if (/^https?:/.test(url)) open(url, "_blank", "noopener");
}

export class Panel {
  readonly frame: HTMLIFrameElement;
  readonly #origin: string;
  readonly #handlers: Handlers;
  readonly #listen = (event: MessageEvent<unknown>) => this.#greet(event);
  #end: End<FromHost, FromPanel> | null = null;
  #conversation: Conversation | null = null;

  /** `address`: of the service, as `https://assistant.example`. The frame is added to `place`. */
  constructor(place: HTMLElement, address: string, handlers: Handlers = {}) {
    this.#origin = new URL(address).origin;
    this.#handlers = handlers;
    this.frame = document.createElement("iframe");
    this.frame.title = "Assistant";
    this.frame.allow = "clipboard-write";
    this.frame.src = `${this.#origin}/panel`;
    addEventListener("message", this.#listen);
    place.append(this.frame);
  }

  /** Hand over the conversation that the agent is in, or what is new of it. */
  hand(conversation: Conversation): void {
    this.#conversation = conversation;
    const { ticket, turns, context } = conversation;
    this.#end?.send({ type: "conversation", ticket, turns, ...(context === undefined ? {} : { context }) });
  }

  /** The agent has left the conversation. */
  leave(): void {
    this.#conversation = null;
    this.#end?.send({ type: "leave" });
  }

  close(): void {
    removeEventListener("message", this.#listen);
    this.#end?.close();
    this.frame.remove();
  }

  /** The panel's page was loaded, perhaps again: give it a port of its own, and the conversation. */
  #greet({ source, origin, data }: MessageEvent<unknown>): void {
    if (source === null || source !== this.frame.contentWindow || origin !== this.#origin || !isReady(data)) return;
    this.#end?.close();
    const { port1, port2 } = new MessageChannel();
    this.#end = new End(port1, isFromPanel, (message) => void this.#take(message));
    const can = (["insert", "source", "note"] as const).filter((name) => this.#handlers[name] !== undefined);
    this.frame.contentWindow?.postMessage({ v: VERSION, type: "hello", can }, this.#origin, [port2]);
    if (this.#conversation !== null) this.hand(this.#conversation);
  }

  async #take(message: FromPanel): Promise<void> {
    const { insert, source, note, code, context, signedIn, refused } = this.#handlers;
    switch (message.type) {
      case "insert":
        return await this.#answer(message, () => insert?.(message.text));
      case "note":
        return await this.#answer(message, () => note?.(message.text));
      case "source":
        return await this.#answer(message, () => {
          if (new URL(message.url).origin !== this.#origin) throw new Error("a source that is not the assistant's");
          return source?.({ title: message.title, url: message.url });
        });
      case "sign_in": {
        const asked = this.#conversation?.ticket;
        const fetched = (await code?.()) ?? null;
        if (this.#conversation?.ticket !== asked) return await this.#take(message); // the code may be of that chat's customer
        if (fetched !== null) this.#end?.send({ type: "code", code: fetched });
        return;
      }
      case "context": {
        const asked = this.#conversation;
        const fetched = asked === null ? null : ((await context?.(asked.ticket)) ?? null);
        if (fetched !== null && this.#conversation?.ticket === asked?.ticket && this.#conversation !== null) {
          this.hand({ ...this.#conversation, context: fetched });
        }
        return;
      }
      case "signed_in":
        return signedIn?.();
      case "refused":
        return refused?.(message.why);
    }
  }

  /** Do what the panel asks, for the conversation in which the agent is. */
  async #answer({ id: of, ticket }: { id: number; ticket?: string }, act: () => Taken | undefined): Promise<void> {
    const end = this.#end;
    let ok = this.#conversation?.ticket === ticket;
    try {
      if (ok) await act();
    } catch (error) {
      ok = false;
      console.error(error); // the page's own code: its developers look here
    }
    end?.send({ type: "result", of, ok });
  }
}
