import { useEffect, useLayoutEffect, useMemo, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { markedLines, sentencesOf } from "../lines.ts";
import { ApiError } from "../problems.ts";
import { clockTime, count, languageName, textAt } from "../text.ts";
import { type Turn, canJudge, sentWords } from "../turn.ts";
import type { Problem, ReplyCheck, ReplyStyle } from "../wire.ts";
import { CopyButton } from "./copy_button.tsx";
import { GiveButton } from "./give_button.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Failure, useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";

/** The reply that the agent edits, and what was sent: each is kept by the service. */
export function ForThePatient({ turn }: { turn: Turn }) {
  const { conversation } = useWorkspace();
  const text = conversation.replies.value[turn.answerId ?? ""];
  if (text === undefined && turn.sends.length === 0) return null;
  return (
    <section class="reply" aria-labelledby="reply-title">
      <h3 id="reply-title">For the patient</h3>
      {turn.sends.length > 0 && <SentReplies turn={turn} />}
      {text !== undefined && <Editor turn={turn} text={text} />}
    </section>
  );
}

/** The way into the editor; it stays in view. */
export function ReplyActions({ turn }: { turn: Turn }) {
  const { conversation } = useWorkspace();
  const isEdited = conversation.replies.value[turn.answerId ?? ""] !== undefined;
  return isEdited ? null : <Beginnings turn={turn} />;
}

/** A model writes the reply, or the agent does: then no words come but those that the agent takes from the answer. */
function Beginnings({ turn }: { turn: Turn }) {
  const workspace = useWorkspace();
  const lines = useMemo(() => sentencesOf(turn), [turn.text, turn.sentences, turn.elements]);
  const answerId = turn.answerId ?? "";
  const sends = workspace.guard !== undefined;
  const isWritten = workspace.writes;
  useFocusOnceDrawn("edit-reply", isNowhereElse);
  const edit = () => {
    workspace.focusNext = "reply";
    workspace.conversation.setReply(answerId, "");
    if (isWritten) void workspace.replying.write(turn, answerId, null, "");
  };
  useEffect(() => {
    if (sends && workspace.opensReply(turn, isWritten)) edit();
  }, []);
  return (
    <p class="actions">
      {sends && (
        <button type="button" id="edit-reply" class="button primary" onClick={edit}>
          <Icon name="edit" /> {isWritten ? "Reply to the patient" : "Write a reply"}
        </button>
      )}
      {sends && !isWritten && <InsertButton turn={turn} />}
      {lines !== "" && <CopyButton text={lines} label="Copy these lines" said="Copied: internal lines" />}
      {lines !== "" && <GiveButton what={{ type: "note", text: lines }} label="Add as note" said="Note added" />}
    </p>
  );
}

/** Puts the marked lines into the reply, which opens. */
function InsertButton({ turn }: { turn: Turn }) {
  const workspace = useWorkspace();
  const lines = useMemo(() => markedLines(turn), [turn.text, turn.sentences, turn.elements, turn.finishReason]);
  const answerId = turn.answerId ?? "";
  const { conversation } = workspace;
  if (lines.text === "" || conversation.replies.value[answerId]?.includes(lines.text)) return null;
  const insert = () => {
    const editor = document.getElementById("reply");
    if (editor === null) workspace.focusNext = "reply";
    conversation.insert(answerId, lines.text, { began_with: "lines", lines: lines.sentences });
    editor?.focus();
    announce("The lines are in the reply");
  };
  return (
    <button type="button" class="button" onClick={insert}>
      <Icon name="edit" /> Insert these lines
    </button>
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
  const { replying } = workspace;
  const drafted = replying.drafts.value[answerId];
  const isWriting = drafted?.isWriting ?? false;
  const canSend = canJudge(turn) && text.trim() !== "" && !isWriting;
  useFocusOnceDrawn("reply");
  useEffect(() => void replying.comeBack(turn, answerId), [answerId]);
  useEffect(() => {
    if (isWriting || text.trim() === "" || replying.checked.peek()[answerId]?.text === text) return;
    const timer = setTimeout(() => void replying.check(turn, answerId, text, { byModel: false }), CHECK_AFTER_MS);
    return () => clearTimeout(timer);
  }, [text, isWriting]);
  const mayUse = async ({ isGuarded }: { isGuarded: boolean }) => {
    const isAllowed = await replying.mayUse(turn, answerId, text, { isGuarded });
    if (!isAllowed && isNowhereElse()) document.getElementById("reply-faults")?.focus();
    return isAllowed;
  };
  const mayLeave = async () => {
    let isAllowed = false;
    const isGuarded = workspace.guard !== "seen"; // by the service only where it sends
    return (await run(async () => void (isAllowed = await mayUse({ isGuarded })))) && isAllowed;
  };
  const post = async () => {
    workspace.focusNext = "edit-reply";
    const guarded = replying.guarded(turn, answerId, text);
    const began = replying.beganWith(answerId);
    try {
      await conversation.send(turn, text, { isDelivered: workspace.delivers, began, guarded });
      announce(sentWords(workspace.delivers));
    } catch (error) {
      workspace.focusNext = null;
      if (error instanceof ApiError) replying.refused(answerId, text, error.problem);
      throw error;
    }
  };
  // the check and the sending are one call: what is checked is what goes, and it goes once
  const send = async () => {
    if (canSend) await run(async () => void ((await mayUse({ isGuarded: false })) && (await post())));
  };
  const discard = () => {
    replying.stop(answerId);
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
        readOnly={isBusy || isWriting}
        aria-describedby="reply-hint reply-compared"
        onInput={(event) => conversation.setReply(answerId, event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void send();
        }}
      />
      <ReplyHint turn={turn} text={text} kept={words.kept} />
      {!workspace.writes && <p id="reply-compared" class="hint">{COMPARED}</p>}
      {drafted?.language != null && <p class="hint">Written in {languageName(drafted.language)}</p>}
      <Faults answerId={answerId} text={text} />
      {drafted?.problem && <p class="hint" role="status">{whyNotWritten(drafted.problem)}</p>}
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        <button type="button" class="button primary" disabled={isBusy || !canSend} onClick={send}>
          <Icon name="send" /> {isBusy ? words.busy : words.send}
        </button>
        {text.trim() !== "" && (
          <GiveButton what={{ type: "insert", text }} label="Insert" said="Inserted: send it there" allow={mayLeave} />
        )}
        <CopyButton text={text} label="Copy" allow={mayLeave} />
        {!isWriting && (!workspace.writes || text === "") && <InsertButton turn={turn} />}
        {workspace.writes &&
          STYLES.map(([style, label]) => (
            <button
              key={style}
              type="button"
              class="button quiet"
              disabled={isBusy || isWriting || text.trim() === ""}
              onClick={() => void replying.write(turn, answerId, style, text)}
            >
              {label}
            </button>
          ))}
        <button type="button" class="button quiet" disabled={isBusy} onClick={discard}>
          Discard edit
        </button>
      </p>
    </>
  );
}

const CHECK_AFTER_MS = 500;
const STYLES: readonly [ReplyStyle, string][] = [
  ["shorter", "Shorter"],
  ["warmer", "Warmer"],
  ["plain_words", "Plain words"],
];
const FAULTS: Readonly<Partial<Record<ReplyCheck["kind"], string>>> = {
  not_held: "Nothing of this answer says",
  contradicts: "The lines say otherwise",
};

const COMPARED = "Numbers, dates and names are compared with the answer; the wording is not.";
const UNREAD = "The model did not read this reply: check it against the lines yourself.";

/** The agent goes on with what stands there. */
function whyNotWritten({ code, detail }: Problem): string {
  return `No reply was written: ${code === "generation_unavailable" ? "no model answered." : detail} Edit what stands here before you send it.`;
}

/** What the check found: the keys that use the text lead here first. */
function Faults({ answerId, text }: { answerId: string; text: string }) {
  const { replying } = useWorkspace();
  const checked = replying.checked.value[answerId];
  if (checked === undefined || checked.text !== text) return null;
  if (checked.checks.length === 0) {
    return checked.reading === "failed" ? <p class="hint warn">{UNREAD}</p> : null;
  }
  return (
    <div id="reply-faults" class="notice warn" role="group" aria-label="What the check found" tabIndex={-1}>
      <Icon name="alert" />
      <div>
        <ul>
          {checked.checks.map(({ kind, start, end, values, line }) => (
            <li key={`${kind} ${start}`}>
              {FAULTS[kind]}
              {values.length > 0 && <strong> {values.join(", ")}</strong>}
              : “{textAt(text, [start, end])}”
              {line != null && <q class="hint">{line}</q>}
            </li>
          ))}
        </ul>
        {checked.reading === "failed" && <p class="hint">{UNREAD}</p>}
        {checked.isAccepted && <p class="hint">You looked at this.</p>}
        {!checked.isAccepted && <Acceptance answerId={answerId} />}
      </div>
    </div>
  );
}

/** The agent says that they looked, and why the text is right where the tenant asks for it. */
function Acceptance({ answerId }: { answerId: string }) {
  const { replying, guard } = useWorkspace();
  const [reason, setReason] = useState("");
  const isMissing = guard === "reason" && reason.trim() === "";
  return (
    <>
      {guard === "reason" && (
        <label>
          Why is it right? The record keeps your words.
          <input type="text" maxLength={500} value={reason} onInput={(event) => setReason(event.currentTarget.value)} />
        </label>
      )}
      {guard === "second_person" && <p class="hint">Another agent confirms this text before it is sent.</p>}
      <button type="button" class="button" disabled={isMissing} onClick={() => replying.accept(answerId, reason.trim())}>
        I checked: use it
      </button>
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

/** Whether the agent has not gone on to another part of the page while a call was underway. */
function isNowhereElse(): boolean {
  const { activeElement } = document;
  return activeElement === document.body || activeElement?.closest(".reply") != null;
}

/** Takes the focus that was meant for this part, before it is seen, if it is wanted by then. */
function useFocusOnceDrawn(id: string, isWanted = () => true): void {
  const workspace = useWorkspace();
  useLayoutEffect(() => {
    if (workspace.focusNext !== id) return;
    workspace.focusNext = null;
    if (isWanted()) document.getElementById(id)?.focus();
  }, []);
}
