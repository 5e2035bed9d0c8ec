import { useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { ApiError } from "../problems.ts";
import { answerPieces, clockTime, count } from "../text.ts";
import { type Turn, hasDraft } from "../turn.ts";
import { useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";

/** From the draft to what is sent: the draft, the edit and each reply sent are all kept by the service. */
export function Reply({ turn }: { turn: Turn }) {
  const { conversation } = useDesk();
  const answerId = turn.answerId ?? "";
  const text = conversation.replies.value[answerId];
  const edit = () => {
    if (text === undefined) conversation.setReply(answerId, hasDraft(turn) ? turn.text.trim() : "");
    requestAnimationFrame(() => document.getElementById("reply")?.focus());
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
        <Editor turn={turn} text={text} />
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

function Editor({ turn, text }: { turn: Turn; text: string }) {
  const { conversation } = useDesk();
  const answerId = turn.answerId ?? "";
  const [isSending, setSending] = useState(false);
  const [failure, setFailure] = useState<string | null>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  const unsupported = unsupportedLeft(turn, text);
  const send = async () => {
    if (text.trim() === "" || isSending) return;
    setSending(true);
    setFailure(null);
    try {
      await conversation.send(turn, text);
      announce("Sent");
      requestAnimationFrame(() => document.getElementById("edit-reply")?.focus());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(`Not sent: ${error.problem.detail}`);
    } finally {
      setSending(false);
    }
  };
  const discard = () => {
    conversation.setReply(answerId, null);
    announce("Edit discarded");
    requestAnimationFrame(() => document.getElementById("edit-reply")?.focus());
  };
  return (
    <>
      <label for="reply">Your reply to the patient</label>
      <textarea
        id="reply"
        ref={box}
        rows={6}
        value={text}
        readOnly={isSending}
        aria-describedby="reply-hint"
        onInput={(event) => conversation.setReply(answerId, event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send();
        }}
      />
      <p id="reply-hint" class={unsupported > 0 ? "hint warn" : "hint"}>
        {unsupported > 0 && <Icon name="alert" />}{" "}
        {unsupported > 0
          ? `${count(unsupported, "sentence")} of the answer still in here ${unsupported === 1 ? "has" : "have"} no support: check before you send.`
          : "Kept in this tab until you send or discard it."}
      </p>
      {failure !== null && (
        <p class="notice bad" role="alert">
          <Icon name="alert" /> {failure}
        </p>
      )}
      <p class="actions">
        <button type="button" class="button primary" disabled={isSending || text.trim() === ""} onClick={send}>
          <Icon name="send" /> {isSending ? "Sending…" : "Send"}
        </button>
        <CopyButton text={text} label="Copy" />
        <button type="button" class="button quiet" disabled={isSending} onClick={discard}>
          Discard edit
        </button>
      </p>
    </>
  );
}

/** How many unsupported sentences of the answer stand unchanged in the reply. */
function unsupportedLeft(turn: Turn, reply: string): number {
  return answerPieces(turn.text, turn.sentences).filter(
    ({ sentence, text }) => sentence?.support === "unsupported" && reply.includes(text.trim()),
  ).length;
}

function CopyButton({ text, label }: { text: string; label: string }) {
  const [state, setState] = useState<"ready" | "copied" | "failed">("ready");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("copied");
      announce("Copied");
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      setState("failed"); // the browser's settings or the company's policy forbid it
      announce("The browser does not allow copying. Select the text instead.");
    }
  };
  const words = { ready: label, copied: "Copied", failed: "Copying is not allowed" };
  return (
    <button type="button" class="button" onClick={copy} onBlur={() => setState("ready")}>
      <Icon name={state === "copied" ? "check" : "copy"} /> {words[state]}
    </button>
  );
}
