/** A chat's messages, and the box below them. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { clockTime } from "@console/text.ts";
import { type Chat, newId } from "./talk.ts";

const MOST_CHARACTERS = 2_000;

export function Messages({ chat, own }: { chat: Chat; own: "patient" | "agent" }) {
  const end = useRef<HTMLLIElement>(null);
  useLayoutEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [chat.chat_id, chat.messages.length]);
  return (
    <ol class="messages" aria-live="polite" tabIndex={0} aria-label="Messages">
      {chat.messages.map(({ message_id, who, text, at }) => (
        <li key={message_id} class={who === own ? "own" : "other"}>
          <span class="who">
            {who === "agent" ? "Care team" : "Patient"}, <time dateTime={at}>{clockTime(at)}</time>
          </span>
          <p dir="auto">{text}</p>
        </li>
      ))}
      {chat.closed_at !== null && <li class="ended">The chat has ended.</li>}
      <li ref={end} aria-hidden="true" />
    </ol>
  );
}

interface BoxProps {
  readonly label: string;
  readonly text: string;
  readonly onText: (text: string) => void;
  readonly send: (text: string, messageId: string) => Promise<unknown>;
}

/** What fails stays in the box, and is sent again under the same id. */
export function Box({ label, text, onText, send }: BoxProps) {
  const [failure, setFailure] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const id = useRef(newId());
  const submit = async () => {
    if (text.trim() === "" || isBusy) return;
    setBusy(true);
    try {
      await send(text.trim(), id.current);
      id.current = newId();
      onText("");
      setFailure(null);
    } catch (error) {
      setFailure((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <form
      class="box"
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      {failure !== null && <p role="alert">Not sent: {failure}</p>}
      <label>
        {label}
        <textarea
          rows={3}
          maxLength={MOST_CHARACTERS}
          value={text}
          readOnly={isBusy}
          onInput={(event) => onText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            void submit();
          }}
        />
      </label>
      <button type="submit" disabled={isBusy}>
        Send
      </button>
    </form>
  );
}
