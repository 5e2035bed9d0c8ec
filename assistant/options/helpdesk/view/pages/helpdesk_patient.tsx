/** The patient's window: one chat, which this tab remembers. */
import { signal } from "@preact/signals";
import { render } from "preact";
import { Box, Messages } from "../messages.tsx";
import { type Chat, Talk } from "../talk.ts";
import "../helpdesk.css";

const KEY = "helpdesk-chat";
const talk = new Talk();
const chat = signal<Chat | null>(null);
const draft = signal("");
const lost = signal<string | null>(null);
const customer = signal(0);
let following = new AbortController();

/** Follow a chat; the one before, which has ended, is followed no more. */
function follow(id: string): void {
  sessionStorage.setItem(KEY, id);
  following.abort();
  following = new AbortController();
  const { signal } = following;
  void talk.follow(`chats/${id}`, ([changed]) => (chat.value = changed ?? null), (why) => (lost.value = why), signal);
}

async function send(text: string, message_id: string): Promise<void> {
  const current = chat.peek();
  if (current !== null && current.closed_at === null) {
    const posted = await talk.post<Chat>(`chats/${current.chat_id}/messages`, { message_id, text });
    // an answer to the message may have come first
    if (posted.messages.length > (chat.peek()?.messages.length ?? 0)) chat.value = posted;
  } else {
    chat.value = await talk.post<Chat>("chats", { text, customer: customer.peek() });
    follow(chat.value.chat_id);
  }
}

function Patient() {
  return (
    <main class="patient">
      <h1>Chat with your pharmacy</h1>
      {lost.value !== null && <p role="status">{lost.value}</p>}
      {chat.value === null ? (
        <label>
          You are
          <select value={customer.value} onChange={(event) => (customer.value = Number(event.currentTarget.value))}>
            {Array.from({ length: 8 }, (_, place) => (
              <option key={place} value={place}>
                sample customer {place + 1}
              </option>
            ))}
          </select>
        </label>
      ) : (
        <Messages chat={chat.value} own="patient" />
      )}
      <Box label="Your message" text={draft.value} onText={(text) => (draft.value = text)} send={send} />
    </main>
  );
}

const known = sessionStorage.getItem(KEY);
if (known !== null) follow(known);
render(<Patient />, document.getElementById("page") as HTMLElement);
