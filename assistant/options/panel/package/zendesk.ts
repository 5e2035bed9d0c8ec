/** The panel as an app of Zendesk's ticket sidebar, by the client of its apps framework (`ZAFClient.init()`). */
import { type Handlers, Panel, type Turn, openBeside } from "./index.ts";

/** What the panel uses of the framework's client. */
export interface ZendeskClient {
  get(paths: readonly string[]): Promise<Readonly<Record<string, unknown>>>;
  set(path: string, value: string): Promise<unknown>;
  invoke(action: string, ...values: readonly string[]): Promise<unknown>;
  on(event: string, handler: () => void): void;
}

interface Options extends Pick<Handlers, "code" | "refused"> {
  /** Fetch, from your own server, what the care application signs for a ticket. Null: no live data. */
  readonly context: (ticket: string) => Promise<string | null>;
}

/** Hold the panel in `place` of the app's page. */
export async function openInZendesk(
  client: ZendeskClient,
  place: HTMLElement,
  address: string,
  options: Options,
): Promise<Panel> {
  const panel = new Panel(place, address, {
    ...options,
    source: openBeside,
    insert: (text) => inTurn(() => write("publicReply", "ticket.editor.insert", markup(text))),
    note: (text) => inTurn(() => write("internalNote", "ticket.comment.appendText", text)),
  });
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = (act: () => Promise<void>) => {
    const done = last.then(act);
    last = done.catch(() => undefined);
    return done;
  };
  /** Ticket replies and notes share one editor: its kind is set, and read again, before anything is written. */
  const write = async (kind: "publicReply" | "internalNote", action: string, text: string) => {
    await client.set(KIND, kind);
    if ((await client.get([KIND]))[KIND] !== kind) throw new Error(`Zendesk did not make the comment a ${kind}`);
    await client.invoke(action, text);
  };
  let handed: string | null = null;
  let newest = 0;
  const hand = async () => {
    const own = (newest += 1);
    const { "ticket.id": id, "ticket.conversation": conversation } = await client.get(["ticket.id", "ticket.conversation"]);
    const ticket = String(id);
    const context = handed === ticket ? null : await options.context(ticket).catch(() => null);
    if (own !== newest) return; // a later call has, or will have, the newer state
    handed = ticket;
    panel.hand({ ticket, turns: turnsOf(conversation), ...(context === null ? {} : { context }) });
  };
  client.on("ticket.conversation.changed", () => void hand());
  await hand();
  return panel;
}

const KIND = "ticket.comment.type";

/** The editor takes markup: a text in it stays text, with its line ends. */
function markup(text: string): string {
  const escaped = text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
  return escaped.replaceAll("\n", "<br>");
}

const MOST_TURNS = 200;
const MOST_CHARACTERS = 4_000;
const WHO: Readonly<Record<string, Turn["who"]>> = { "end-user": "customer", agent: "agent", admin: "agent" };

/** The messages with text, without internal notes: the newest that the protocol takes. */
export function turnsOf(conversation: unknown): readonly Turn[] {
  const entries: readonly unknown[] = Array.isArray(conversation) ? conversation : [];
  const turns = entries.flatMap((entry) => {
    const { author, message, timestamp, channel } = (entry ?? {}) as Entry;
    const text = plain(message?.content ?? "", message?.contentType ?? "");
    if (text === "" || channel?.name === "internal") return [];
    const who: Turn["who"] = WHO[author?.role ?? ""] ?? "system";
    return [{ who, text: text.slice(0, MOST_CHARACTERS), ...(timestamp ? { at: timestamp } : {}) }];
  });
  const newest: Turn[] = [];
  let left = 100_000;
  for (const turn of turns.slice(-MOST_TURNS).reverse()) {
    left -= turn.text.length;
    if (left < 0) break;
    newest.unshift(turn);
  }
  return newest;
}

interface Entry {
  readonly author?: { readonly role?: string };
  readonly message?: { readonly content?: string | null; readonly contentType?: string } | null;
  readonly timestamp?: string;
  readonly channel?: { readonly name?: string };
}

/** HTML is read as text in a document of its own, which runs and loads nothing. */
function plain(content: string, contentType: string): string {
  if (!contentType.includes("html")) return content.trim();
  return new DOMParser().parseFromString(content, "text/html").body.textContent.trim();
}
