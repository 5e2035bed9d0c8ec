/** The page that holds this panel: its port, the chat that it handed over, and the sign-in that it may help with. */
import { type Signal, signal } from "@preact/signals";
import { CALL_LIMIT_MS, type Config } from "@console/config.ts";
import { type Session, claimsOf, sessionOf } from "@console/oidc.ts";
import type { Chat, Handed, Host } from "@console/options.ts";
import type { ChatTurn } from "@console/wire.ts";
import type { ComponentChildren } from "preact";
import { type Capability, End, type FromHost, type FromPanel, VERSION, isFromHost, isHello } from "../package/protocol.ts";
import { MemoryStorage } from "./memory_storage.ts";

/** Messages that the panel does not take, before it closes the port. */
const MOST_REFUSED = 20;
const GIVE_LIMIT_MS = 10_000;
/** The service takes a body of 64 KiB. */
const MOST_BYTES = 48 * 1024;

interface Greeting {
  readonly origin: string;
  readonly port: MessagePort;
  readonly takes: ReadonlySet<Capability>;
}

/** Tell the parent that the panel listens, and wait for the one `hello`: of the parent, of a listed origin. */
export async function greeting(hosts: readonly string[]): Promise<Greeting> {
  return await new Promise((resolve) => {
    const listen = ({ source, origin, data, ports }: MessageEvent<unknown>) => {
      const [port] = ports;
      if (source !== parent || !hosts.includes(origin) || ports.length !== 1 || port === undefined || !isHello(data)) return;
      removeEventListener("message", listen);
      resolve({ origin, port, takes: new Set(data.can) });
    };
    addEventListener("message", listen);
    parent.postMessage({ v: VERSION, type: "ready" }, "*"); // it says nothing, and the parent's origin is not known yet
  });
}

export class PanelHost implements Host {
  readonly takes: ReadonlySet<Capability>;
  readonly chat: Signal<Chat | null> = signal(null);
  readonly storage = new MemoryStorage();
  readonly isSignedOut: Signal<boolean> = signal(false);
  /** Whether the panel has stopped listening to the page. */
  readonly isClosed: Signal<boolean> = signal(false);
  /** Of the agent who signed in first; its token is the last one's. */
  readonly session: Signal<Session | null> = signal(null);
  readonly signIn: () => ComponentChildren;

  readonly #config: Config;
  readonly #origin: string;
  readonly #end: End<FromPanel, FromHost>;
  readonly #given = new Map<number, (isTaken: boolean) => void>();
  #latest: Session | null = null;
  #refused = 0;
  #chats = 0;
  #isRedeeming = false;

  constructor(config: Config, { origin, port, takes }: Greeting, signIn: (host: PanelHost) => ComponentChildren) {
    this.#config = config;
    this.#origin = origin;
    this.takes = takes;
    this.signIn = () => signIn(this);
    this.#end = new End(port, isFromHost, (message) => this.#take(message), (id, why) => this.#refuse(id, why));
    this.isSignedOut.subscribe((isOut) => isOut && this.#end.send({ type: "sign_in" }));
    this.#end.send({ type: "sign_in" });
  }

  /** An agent has signed in. False: another one than before, who is not let in to that one's work. */
  enter(session: Session): boolean {
    if (this.#latest !== null && this.#latest.author !== session.author) return false;
    this.#latest = session;
    const token = () => this.#latest?.accessToken ?? session.accessToken;
    this.session.value ??= {
      ...session,
      get accessToken() {
        return token();
      },
    };
    this.isSignedOut.value = false;
    this.#end.send({ type: "signed_in" });
    return true;
  }

  async give(what: Handed, number: number | undefined): Promise<boolean> {
    const chat = this.chat.peek();
    if (chat?.number !== number || this.isClosed.peek()) return false;
    const id = this.#end.send(chat === null ? what : { ...what, ticket: chat.ticket });
    const limit = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), GIVE_LIMIT_MS));
    const isTaken = new Promise<boolean>((resolve) => this.#given.set(id, resolve));
    return await Promise.race([isTaken, limit]).finally(() => this.#given.delete(id));
  }

  askContext(): void {
    this.#end.send({ type: "context" });
  }

  #take(message: FromHost): void {
    switch (message.type) {
      case "conversation": {
        const { ticket, turns, context } = message;
        const before = this.chat.peek();
        const goesOn = before?.ticket === ticket && !isOfAnother(before.context, context);
        const number = goesOn ? before.number : (this.#chats += 1);
        this.chat.value = { number, ticket, turns: fitting(turns), context: context ?? (goesOn ? before.context : null) };
        return;
      }
      case "leave":
        this.chat.value = null;
        return;
      case "code":
        return void this.#redeem(message.id, message.code);
      case "result":
        return this.#given.get(message.of)?.(message.ok);
    }
  }

  #refuse(of: number, why: Extract<FromPanel, { type: "refused" }>["why"]): void {
    this.#refused += 1;
    this.#end.send({ type: "refused", of, why });
    if (this.#refused < MOST_REFUSED) return;
    this.#end.close();
    this.isClosed.value = true;
  }

  /** Exchange a one-time code for the agent's token; one at a time. */
  async #redeem(id: number, code: string): Promise<void> {
    if (this.#isRedeeming) return this.#refuse(id, "code");
    this.#isRedeeming = true;
    const number = this.chat.peek()?.number;
    const tokens = await exchanged(code, this.#origin);
    this.#isRedeeming = false;
    if (tokens === null) return this.#refuse(id, "code");
    const session = sessionOf(this.#config, { accessToken: tokens.access_token, idToken: null });
    if (!this.enter(session)) return this.#refuse(id, "agent");
    const chat = this.chat.peek();
    if (chat?.number === number && chat?.context === null) this.chat.value = { ...chat, context: tokens.context };
  }
}

function isOfAnother(kept: string | null, given: string | undefined): boolean {
  return kept !== null && given !== undefined && claimsOf(kept)["customer"] !== claimsOf(given)["customer"];
}

/** The newest turns that fit a request to the service; half of a surrogate pair, which it refuses, is replaced. */
function fitting(given: readonly ChatTurn[]): readonly ChatTurn[] {
  const turns = given.map((turn) => ({ ...turn, text: turn.text.toWellFormed() }));
  let left = MOST_BYTES;
  const bytes = (turn: ChatTurn) => new TextEncoder().encode(JSON.stringify(turn)).length;
  return turns.slice(turns.findLastIndex((turn) => (left -= bytes(turn)) < 0) + 1);
}

/** What a code carries; null where the service does not take it. */
async function exchanged(code: string, origin: string): Promise<PanelSession | null> {
  const response = await fetch("/v1/panel/sessions", {
    method: "POST",
    body: JSON.stringify({ code, origin }),
    headers: { "content-type": "application/json" },
    credentials: "omit",
    signal: AbortSignal.timeout(CALL_LIMIT_MS),
  }).catch(() => null);
  return response?.ok ? ((await response.json().catch(() => null)) as PanelSession | null) : null;
}

interface PanelSession {
  readonly access_token: string;
  readonly context: string;
}
