/** The chats of the helpdesk, as its server sends them. */
import { EventParser } from "@console/sse.ts";

export interface Message {
  readonly message_id: string;
  readonly who: "patient" | "agent";
  readonly text: string;
  readonly at: string;
}

export interface Chat {
  readonly chat_id: string;
  readonly customer: string;
  readonly story: string | null;
  readonly opened_at: string;
  readonly closed_at: string | null;
  readonly messages: readonly Message[];
}

const CALL_LIMIT_MS = 15_000;
const AGAIN_AFTER_MS = 1_000;

export class Talk {
  readonly #token: string | null;

  /** `token`: the agent's, where agents sign in. */
  constructor(token: string | null = null) {
    this.#token = token;
  }

  /** Throws an Error with what the server says. */
  async post<T>(path: string, body: object = {}): Promise<T> {
    const response = await fetch(`/helpdesk/${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json", ...this.#headers() },
      signal: AbortSignal.timeout(CALL_LIMIT_MS),
    });
    const content = response.status === 204 ? null : await response.json().catch(() => null);
    if (!response.ok) throw new Error(content?.detail ?? `The helpdesk answered ${response.status}.`);
    return content as T;
  }

  /** Read the chats below a path until the page goes or the signal ends it; a stream that breaks off is opened again. */
  async follow(
    path: string,
    onChat: (chat: Chat) => void,
    onLost: (isLost: boolean) => void,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<void> {
    while (!signal.aborted) {
      const response = await fetch(`/helpdesk/${path}`, { headers: this.#headers(), signal }).catch(() => null);
      if (signal.aborted) return;
      onLost(!response?.ok);
      if (response?.ok && response.body !== null) await read(response.body, onChat).catch(() => signal.aborted || onLost(true));
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER_MS));
    }
  }

  #headers(): Record<string, string> {
    return this.#token === null ? {} : { authorization: `Bearer ${this.#token}` };
  }
}

async function read(body: ReadableStream<Uint8Array>, onChat: (chat: Chat) => void): Promise<void> {
  const [parser, decoder, reader] = [new EventParser(), new TextDecoder(), body.getReader()];
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    for (const { data } of parser.push(decoder.decode(part.value, { stream: true }))) onChat(JSON.parse(data) as Chat);
  }
}

/** The id under which a text is kept once, however often it is sent. */
export function newId(): string {
  return crypto.randomUUID().replaceAll("-", "");
}
