import { useLayoutEffect, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { answerPieces, clockTime, count } from "../text.ts";
import { type Turn, hasDraft } from "../turn.ts";
import { CopyButton } from "./copy_button.tsx";
import { useDesk } from "./desk.ts";
import { Failure, useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";

/** From the draft to what is sent: the draft, the edit and each reply sent are all kept by the service. */
export function Reply({ turn }: { turn: Turn }) {
  const { conversation } = useDesk();
  const focusNext = useFocusNext();
  const answerId = turn.answerId ?? "";
  const text = conversation.replies.value[answerId];
  const edit = () => {
    conversation.setReply(answerId, hasDraft(turn) ? turn.text.trim() : "");
    focusNext("reply");
  };
  const leave = (words: string) => {
    announce(words);
    focusNext("edit-reply");
  };
  return (
    <section class="reply" aria-labelledby="reply-title">
      <h3 id="reply-title">Reply</h3>
      {turn.sends.length > 0 && <SentReplies turn={turn} />}
      {text === undefined ? (
        <p class="actions">
          <button type="button" id="edit-reply" class="button primary" onClick={edit}>
            <Icon name="edit" /> {hasDraft(turn) ? "Edit as reply" : "Write a reply"}
          </button>
          {hasDraft(turn) && <CopyButton text={turn.text.trim()} label="Copy answer" />}
        </p>
      ) : (
        <Editor turn={turn} text={text} onLeave={leave} />
      )}
    </section>
  );
}

function SentReplies({ turn }: { turn: Turn }) {
  return (
    <ol class="sent-list">
      {turn.sends.map(({ at, sent }) => (
        <li key={sent.send_id}>
          <details>
            <summary>
              <Icon name="check" /> Sent at {clockTime(at)}
            </summary>
            <p class="sent-text">{sent.text}</p>
          </details>
        </li>
      ))}
    </ol>
  );
}

interface EditorProps {
  readonly turn: Turn;
  readonly text: string;
  /** The edit is over: what happened to it, in words. */
  readonly onLeave: (words: string) => void;
}

function Editor({ turn, text, onLeave }: EditorProps) {
  const { conversation } = useDesk();
  const answerId = turn.answerId ?? "";
  const { isBusy, failure, run } = useCall("Not sent");
  const send = async () => {
    if (text.trim() !== "" && (await run(() => conversation.send(turn, text)))) onLeave("Sent");
  };
  const discard = () => {
    conversation.setReply(answerId, null);
    onLeave("Edit discarded");
  };
  return (
    <>
      <label for="reply">Your reply to the patient</label>
      <textarea
        id="reply"
        rows={6}
        value={text}
        readOnly={isBusy}
        aria-describedby="reply-hint"
        onInput={(event) => conversation.setReply(answerId, event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send();
        }}
      />
      <ReplyHint turn={turn} text={text} />
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        <button type="button" class="button primary" disabled={isBusy || text.trim() === ""} onClick={send}>
          <Icon name="send" /> {isBusy ? "Sending…" : "Send"}
        </button>
        <CopyButton text={text} label="Copy" />
        <button type="button" class="button quiet" disabled={isBusy} onClick={discard}>
          Discard edit
        </button>
      </p>
    </>
  );
}

function ReplyHint({ turn, text }: { turn: Turn; text: string }) {
  const left = unsupportedLeft(turn, text);
  if (left === 0) {
    return (
      <p id="reply-hint" class="hint">
        Kept in this tab until you send or discard it.
      </p>
    );
  }
  return (
    <p id="reply-hint" class="hint warn">
      <Icon name="alert" /> {count(left, "sentence")} of the answer still in here {left === 1 ? "has" : "have"} no
      support: check before you send.
    </p>
  );
}

/** How many unsupported sentences of the answer stand unchanged in the reply. */
function unsupportedLeft(turn: Turn, reply: string): number {
  return answerPieces(turn.text, turn.sentences).filter(
    ({ sentence, text }) => sentence?.support === "unsupported" && reply.includes(text.trim()),
  ).length;
}

/** Moves the focus to what the next drawing brings, before that is seen: nobody can be somewhere else by then. */
function useFocusNext(): (id: string) => void {
  const [next, setNext] = useState<{ readonly id: string } | null>(null);
  useLayoutEffect(() => {
    if (next !== null) document.getElementById(next.id)?.focus();
  }, [next]);
  return (id) => setNext({ id });
}
