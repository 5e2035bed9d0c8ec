/** The agent's window: the chats that wait, the one the agent is in, and the assistant's panel beside it. */
import { computed, signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Panel, openBeside } from "../../../panel/package/index.ts";
import { Box, Messages } from "../messages.tsx";
import { type Chat, Talk } from "../talk.ts";
import "../helpdesk.css";

const chats = signal<ReadonlyMap<string, Chat>>(new Map());
/** `/#<id>` opens a chat. */
const openId = signal<string | null>(location.hash.slice(1) || null);
const drafts = signal<Readonly<Record<string, string>>>({});
const notes = signal<Readonly<Record<string, string>>>({});
const lost = signal<string | null>(null);
const opened = computed(() => chats.value.get(openId.value ?? "") ?? null);
/** Chats in which the patient wrote last come first, of these the one that waits for longest. */
const queue = computed(() =>
  [...chats.value.values()].filter(({ closed_at }) => closed_at === null).sort((a, b) => waits(a).localeCompare(waits(b))),
);

function waits({ messages, opened_at }: Chat): string {
  const last = messages.at(-1);
  return last?.who === "patient" ? `0${last.at}` : `1${opened_at}`;
}

/** Holds the panel from the first chat on: who signs in to it does so for a customer. */
function useAssistant(talk: Talk, service: string) {
  const place = useRef<HTMLElement>(null);
  const panel = useRef<Panel | null>(null);
  const entered = useRef<string | null>(null);
  const chat = opened.value;
  const signed = async (what: "code" | "context", id: string | null): Promise<string | null> => {
    if (id === null) return null;
    const given = await talk.post<Record<string, string>>(`desk/${id}/${what}`).catch(() => null);
    return given?.[what] ?? null;
  };
  const hand = (context: string | null) => {
    const current = opened.peek();
    if (current === null) return;
    const turns = current.messages.map(({ who, text, at }) => ({ who: who === "patient" ? ("customer" as const) : who, text, at }));
    panel.current?.hand({ ticket: ticketOf(current), turns, ...(context === null ? {} : { context }) });
  };
  useEffect(() => {
    const id = chat?.chat_id ?? null;
    entered.current = null;
    panel.current?.leave(); // nothing of the chat before stays while this one's context is fetched
    if (id === null) return;
    panel.current ??= new Panel(place.current as HTMLElement, service, {
      insert: (text) => write(text),
      note: (text) => void (notes.value = { ...notes.value, [openId.peek() ?? ""]: text }),
      source: openBeside,
      code: () => signed("code", openId.peek()),
      context: () => signed("context", openId.peek()),
    });
    void signed("context", id).then((context) => {
      if (openId.peek() !== id) return;
      entered.current = id;
      hand(context);
    });
  }, [chat?.chat_id]);
  useEffect(() => {
    if (chat !== null && entered.current === chat.chat_id) hand(null);
  }, [chat]);
  return place;
}

/** What the panel shows of a chat. */
function ticketOf({ customer, chat_id }: Chat): string {
  return `${customer}, chat ${chat_id.slice(0, 6)}`;
}

function write(text: string, chatId = openId.peek() ?? ""): void {
  drafts.value = { ...drafts.value, [chatId]: text };
}

function Desk({ talk, service }: { talk: Talk; service: string }) {
  const place = useAssistant(talk, service);
  const chat = opened.value;
  return (
    <div class="desk">
      <nav aria-label="Chats">
        <h1>Agents' desk</h1>
        {lost.value !== null && <p role="status">{lost.value}</p>}
        <ul class="queue">
          {queue.value.map((one) => (
            <li key={one.chat_id}>
              <button type="button" data-chat={one.chat_id.slice(0, 6)} aria-current={one.chat_id === openId.value} onClick={() => (openId.value = one.chat_id)}>
                <strong>{one.customer}</strong> {one.story !== null && <span class="tag">simulated</span>}
                {one.messages.at(-1)?.who === "patient" && <span class="tag waits">waits</span>}
                <span class="last" dir="auto">
                  {one.messages.at(-1)?.text}
                </span>
              </button>
            </li>
          ))}
        </ul>
        {queue.value.length === 0 && <p>Nobody waits.</p>}
      </nav>
      <main>
        {chat === null ? (
          <p>Choose a chat.</p>
        ) : (
          <>
            <h2>{chat.customer}</h2>
            <Messages chat={chat} own="agent" />
            <Box
              key={chat.chat_id}
              label="Your message"
              text={drafts.value[chat.chat_id] ?? ""}
              onText={(text) => write(text, chat.chat_id)} // also once another chat is open
              send={(text, message_id) => talk.post(`desk/${chat.chat_id}/messages`, { message_id, text })}
            />
            {notes.value[chat.chat_id] !== undefined && (
              <section aria-label="Internal note">
                <h3>Internal note</h3>
                <pre>{notes.value[chat.chat_id]}</pre>
              </section>
            )}
            <button type="button" class="quiet" onClick={() => void talk.post(`desk/${chat.chat_id}/close`)}>
              End the chat
            </button>
          </>
        )}
      </main>
      <aside aria-label="Assistant" ref={place} />
    </div>
  );
}

async function start(): Promise<void> {
  const { service } = (await (await fetch("/helpdesk/config")).json()) as { readonly service: string };
  const talk = new Talk();
  const take = (changed: readonly Chat[]) =>
    (chats.value = new Map([...chats.value, ...changed.map((chat) => [chat.chat_id, chat] as const)]));
  render(<Desk talk={talk} service={service} />, document.getElementById("page") as HTMLElement);
  await talk.follow("desk", take, (why) => (lost.value = why));
}

void start();
