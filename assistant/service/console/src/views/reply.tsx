import { useLayoutEffect, useMemo } from "preact/hooks";
import { announce } from "../announcer.ts";
import { draftOf } from "../draft.ts";
import { clockTime, count, textAt } from "../text.ts";
import { type Turn, canJudge, sentWords } from "../turn.ts";
import { CopyButton } from "./copy_button.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Failure, useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";

/** From the draft to what is sent: the draft, the edit and each reply sent are all kept by the service. */
export function ForThePatient({ turn }: { turn: Turn }) {
  const { conversation } = useWorkspace();
  const text = conversation.replies.value[turn.answerId ?? ""];
  const spoken = turn.findings.replyDraft;
  if (text === undefined && spoken === null && turn.sends.length === 0) return null;
  return (
    <section class="reply" aria-labelledby="reply-title">
      <h3 id="reply-title">For the patient</h3>
      {turn.sends.length > 0 && <SentReplies turn={turn} />}
      {text !== undefined && <Editor turn={turn} text={text} />}
      {text === undefined && spoken !== null && <p class="draft">{spoken}</p>}
    </section>
  );
}

/** The way into the editor; it stays in view. */
export function ReplyActions({ turn }: { turn: Turn }) {
  const { conversation } = useWorkspace();
  const isEdited = conversation.replies.value[turn.answerId ?? ""] !== undefined;
  return isEdited ? null : <DraftActions turn={turn} />;
}

function DraftActions({ turn }: { turn: Turn }) {
  const workspace = useWorkspace();
  const draft = useMemo(() => draftOf(turn), [turn.text, turn.sentences, turn.elements, turn.findings, turn.finishReason]);
  useFocusOnceDrawn("edit-reply");
  const edit = () => {
    workspace.focusNext = "reply";
    workspace.conversation.setReply(turn.answerId ?? "", draft);
  };
  return (
    <p class="actions">
      <button type="button" id="edit-reply" class="button primary" onClick={edit}>
        <Icon name="edit" /> {draft === "" ? "Write a reply" : "Edit as reply"}
      </button>
      {draft !== "" && <CopyButton text={draft} label="Copy reply" />}
    </p>
  );
}

function SentReplies({ turn }: { turn: Turn }) {
  return (
    <ol class="sent-list">
      {turn.sends.map((reply) => (
        <li key={reply.sent.send_id}>
          <details>
            <summary>
              <Icon name="check" /> {sentWords(reply.isDelivered)} at {clockTime(reply.at)}
            </summary>
            <p class="sent-text">{reply.sent.text}</p>
          </details>
        </li>
      ))}
    </ol>
  );
}

/** What sending does, by whether the tenant names a system that takes replies. */
const WORDS = {
  delivered: {
    send: "Send",
    busy: "Sending…",
    failed: "Not sent",
    kept: "Kept in this tab until you send or discard it.",
  },
  recorded: {
    send: "Record as sent",
    busy: "Recording…",
    failed: "Not recorded",
    kept: "Kept in this tab until you record or discard it. Recording delivers nothing: copy the reply to where you write to the patient.",
  },
} as const;

interface EditorProps {
  readonly turn: Turn;
  readonly text: string;
}

function Editor({ turn, text }: EditorProps) {
  const workspace = useWorkspace();
  const { conversation } = workspace;
  const answerId = turn.answerId ?? "";
  const words = WORDS[workspace.delivers ? "delivered" : "recorded"];
  const { isBusy, failure, run } = useCall(words.failed);
  const canSend = canJudge(turn) && text.trim() !== "";
  useFocusOnceDrawn("reply");
  const send = async () => {
    if (!canSend) return;
    workspace.focusNext = "edit-reply";
    if (await run(() => conversation.send(turn, text, { isDelivered: workspace.delivers }))) announce(sentWords(workspace.delivers));
  };
  const discard = () => {
    if (canJudge(turn)) workspace.focusNext = "edit-reply";
    else document.getElementById("use-offered")?.focus();
    conversation.setReply(answerId, null);
    announce("Edit discarded");
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
      <ReplyHint turn={turn} text={text} kept={words.kept} />
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        <button type="button" class="button primary" disabled={isBusy || !canSend} onClick={send}>
          <Icon name="send" /> {isBusy ? words.busy : words.send}
        </button>
        <CopyButton text={text} label="Copy" />
        <button type="button" class="button quiet" disabled={isBusy} onClick={discard}>
          Discard edit
        </button>
      </p>
    </>
  );
}

function ReplyHint({ turn, text, kept }: { turn: Turn; text: string; kept: string }) {
  const left = unsupportedLeft(turn, text);
  if (left === 0) {
    return (
      <p id="reply-hint" class="hint">
        {kept}
      </p>
    );
  }
  return (
    <p id="reply-hint" class="hint warn">
      <Icon name="alert" /> {count(left, "sentence")} of the answer still in here {left === 1 ? "has" : "have"} no
      support: check before you use it.
    </p>
  );
}

/** How many unsupported sentences of the answer stand unchanged in the reply. */
function unsupportedLeft(turn: Turn, reply: string): number {
  const unsupported = turn.sentences.filter(({ support }) => support === "unsupported");
  return unsupported.filter(({ start, end }) => {
    const text = textAt(turn.text, [start, end]).trim();
    return text !== "" && reply.includes(text);
  }).length;
}

/** Takes the focus that was meant for this part, before it is seen: nobody can be somewhere else by then. */
function useFocusOnceDrawn(id: string): void {
  const workspace = useWorkspace();
  useLayoutEffect(() => {
    if (workspace.focusNext !== id) return;
    workspace.focusNext = null;
    document.getElementById(id)?.focus();
  }, []);
}
