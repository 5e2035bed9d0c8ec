/**
 * Version 1 of the messages between a panel and the page that holds it (panel.md): their types, and the checks that
 * both sides make of what comes.
 */
export const VERSION = 1;
export const CAPABILITIES = ["insert", "source", "note"] as const;
export type Capability = (typeof CAPABILITIES)[number];

const MOST_TURNS = 200;
const MOST_TURN_CHARACTERS = 4_000;
const MOST_CHARACTERS = 100_000;

type Check<T> = (value: unknown) => value is T;
type Of<C> = C extends Check<infer T> ? T : never;
type Shape<R extends Record<string, Check<unknown>>> = { readonly [K in keyof R]: Of<R[K]> };

const text =
  (least: number, most: number): Check<string> =>
  (value): value is string =>
    typeof value === "string" && value.length >= least && value.length <= most;

const oneOf =
  <const T extends string | number>(...values: readonly T[]): Check<T> =>
  (value): value is T =>
    values.includes(value as T);

const flag: Check<boolean> = (value) => typeof value === "boolean";
const identifier: Check<number> = (value): value is number => Number.isSafeInteger(value) && (value as number) >= 1;

function list<T>(item: Check<T>, most: number): Check<readonly T[]> {
  return (value): value is readonly T[] =>
    Array.isArray(value) && value.length <= most && Object.keys(value).length === value.length && value.every(item);
}

/** A plain object with these fields and no other; those after `optional` may be absent. */
function fields<R extends Record<string, Check<unknown>>, O extends Record<string, Check<unknown>> = {}>(
  required: R,
  optional?: O,
): Check<Shape<R> & Partial<Shape<O>>> {
  return (value): value is Shape<R> & Partial<Shape<O>> => {
    if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return false;
    const known = { ...optional, ...required } as Record<string, Check<unknown>>;
    const names = Object.keys(value);
    return (
      names.every((name) => Object.hasOwn(known, name) && known[name]?.((value as Record<string, unknown>)[name])) &&
      Object.keys(required).every((name) => Object.hasOwn(value, name))
    );
  };
}

const turn = fields(
  { who: oneOf("customer", "agent", "system"), text: text(1, MOST_TURN_CHARACTERS) },
  { at: text(1, 40) },
);
export type Turn = Of<typeof turn>;

const turns: Check<readonly Turn[]> = (value): value is readonly Turn[] =>
  list(turn, MOST_TURNS)(value) && value.reduce((sum, one) => sum + one.text.length, 0) <= MOST_CHARACTERS;

const head = { v: oneOf(VERSION), id: identifier };
const result = { of: identifier, ok: flag };
const ticket = text(1, 128);

/** What the panel takes from the page, by type. */
const fromHost = {
  conversation: fields({ ...head, type: oneOf("conversation"), ticket, turns }, { context: text(1, 8_192) }),
  leave: fields({ ...head, type: oneOf("leave") }),
  code: fields({ ...head, type: oneOf("code"), code: text(1, 24_576) }),
  result: fields({ ...head, type: oneOf("result"), ...result }),
};
export type FromHost = { [K in keyof typeof fromHost]: Of<(typeof fromHost)[K]> }[keyof typeof fromHost];

/** What the page takes from the panel, by type. */
const fromPanel = {
  sign_in: fields({ ...head, type: oneOf("sign_in") }),
  signed_in: fields({ ...head, type: oneOf("signed_in") }),
  context: fields({ ...head, type: oneOf("context") }),
  insert: fields({ ...head, type: oneOf("insert"), text: text(1, 20_000) }, { ticket }),
  source: fields({ ...head, type: oneOf("source"), title: text(0, 1_000), url: text(1, 8_192) }, { ticket }),
  note: fields({ ...head, type: oneOf("note"), text: text(1, 100_000) }, { ticket }),
  refused: fields({ ...head, type: oneOf("refused"), of: identifier, why: oneOf("schema", "replay", "code", "agent") }),
};
export type FromPanel = { [K in keyof typeof fromPanel]: Of<(typeof fromPanel)[K]> }[keyof typeof fromPanel];

export const isReady = fields({ v: oneOf(VERSION), type: oneOf("ready") });
export const isHello = fields({ v: oneOf(VERSION), type: oneOf("hello"), can: list(oneOf(...CAPABILITIES), CAPABILITIES.length) });
export const isFromHost: Check<FromHost> = (value): value is FromHost => isOneOf(fromHost, value);
export const isFromPanel: Check<FromPanel> = (value): value is FromPanel => isOneOf(fromPanel, value);

function isOneOf(kinds: Record<string, Check<unknown>>, value: unknown): boolean {
  const type: unknown = typeof value === "object" && value !== null && "type" in value ? value.type : undefined;
  return typeof type === "string" && Object.hasOwn(kinds, type) && (kinds[type]?.(value) ?? false);
}

type Body<M> = M extends unknown ? Omit<M, "v" | "id"> : never;

/** One side's end of the port: it numbers what it sends, and hands on what passes `isKnown` and comes in order. */
export class End<Sent extends FromHost | FromPanel, Received extends FromHost | FromPanel> {
  #sent = 0;
  #received = 0;
  readonly #port: MessagePort;

  constructor(
    port: MessagePort,
    isKnown: Check<Received>,
    onMessage: (message: Received) => void,
    onRefused: (id: number, why: "schema" | "replay") => void = () => undefined,
  ) {
    this.#port = port;
    port.onmessage = ({ data, ports }: MessageEvent<unknown>) => {
      if (ports.length > 0 || !isKnown(data)) onRefused(idOf(data), "schema");
      else if (data.id <= this.#received) onRefused(data.id, "replay");
      else {
        this.#received = data.id;
        onMessage(data);
      }
    };
  }

  /** Send a message, and return its id. */
  send(body: Body<Sent>): number {
    this.#sent += 1;
    this.#port.postMessage({ v: VERSION, id: this.#sent, ...body });
    return this.#sent;
  }

  close(): void {
    this.#port.close();
  }
}

/** The id of a message that may be anything, for the answer to it. */
function idOf(data: unknown): number {
  const id: unknown = typeof data === "object" && data !== null && "id" in data ? data.id : undefined;
  return identifier(id) ? id : 1;
}
