import { useLayoutEffect, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import { type Turn, silentTitle, unsupportedCount, withheldCount } from "../turn.ts";
import { count } from "../text.ts";
import { useWorkspace } from "./workspace_state.ts";
import { Icon } from "./icons.tsx";

/** Characters that the service takes. */
const QUESTION_LIMIT = 4_000;

/** The question box. Enter asks; it stays usable while an answer is being written. */
export function Composer() {
  const { conversation, host } = useWorkspace();
  const box = useRef<HTMLTextAreaElement>(null);
  const isAnswering = conversation.underway.value !== null;
  const canFollowUp = conversation.id.value !== null && conversation.turns.value.length > 0;
  const isFollowUp = canFollowUp && conversation.isFollowUp.value;
  useLayoutEffect(() => void (host === null && box.current?.focus()), []); // a page around it keeps its own focus
  const ask = async (isFollowUp: boolean) => {
    const question = conversation.question.value.trim();
    if (question === "" || isAnswering) return;
    conversation.setQuestion("");
    announce("Looking through the knowledge base");
    const turn = await conversation.ask(question, { isFollowUp });
    if (turn !== null) announce(summary(turn));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void ask(isFollowUp || (event.altKey && canFollowUp));
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void ask(isFollowUp);
      }}
    >
      <div class="composer-head">
        <label for="question" class={canFollowUp ? "visually-hidden" : undefined}>
          {isFollowUp ? "Follow-up question" : "New question"}
        </label>
        {canFollowUp && <Thread isFollowUp={isFollowUp} onFocus={() => box.current?.focus()} />}
        <span id="question-hint" class="hint">
          {canFollowUp ? "Alt + Enter follows up" : "Enter asks, Shift + Enter begins a new line"}
        </span>
      </div>
      <div class="composer-row">
        <textarea
          id="question"
          ref={box}
          rows={2}
          maxLength={QUESTION_LIMIT}
          value={conversation.question.value}
          aria-describedby="question-hint"
          onInput={(event) => conversation.setQuestion(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {isAnswering ? <StopButton onStop={() => conversation.stop()} /> : <AskButton />}
      </div>
    </form>
  );
}

/** Whether the next question begins a conversation or stays in this one. A click leads on to the box. */
function Thread({ isFollowUp, onFocus }: { isFollowUp: boolean; onFocus: () => void }) {
  const { conversation } = useWorkspace();
  const choices = [
    { id: "thread-new", words: "New question", value: false },
    { id: "thread-follow-up", words: "Follow up on this answer", value: true },
  ];
  return (
    <fieldset class="thread">
      <legend class="visually-hidden">The next question is a</legend>
      {choices.map(({ id, words, value }) => (
        <label key={id} for={id} class={value === isFollowUp ? "choice is-chosen" : "choice"}>
          <input
            id={id}
            type="radio"
            name="thread"
            checked={value === isFollowUp}
            onChange={() => (conversation.isFollowUp.value = value)}
            onClick={(event) => event.detail > 0 && onFocus()}
          />{" "}
          {words}
        </label>
      ))}
    </fieldset>
  );
}

function AskButton() {
  return (
    <button type="submit" class="button primary">
      <Icon name="send" /> Ask
    </button>
  );
}

function StopButton({ onStop }: { onStop: () => void }) {
  return (
    <button type="button" class="button stop" onClick={onStop}>
      <Icon name="stop" /> Stop
    </button>
  );
}

export const PAUSED = "The assistant is paused";

/** The announcement for screen readers when the answer has ended, instead of its whole text. */
export function summary(turn: Turn): string {
  if (turn.problem?.code === "endpoint_paused") return PAUSED;
  if (turn.phase === "failed") return `The answer failed: ${turn.problem?.title ?? ""}`;
  if (turn.phase === "stopped") return "The answer was stopped";
  if (turn.phase === "interrupted") return "The answer was interrupted and is incomplete";
  if (turn.finishReason === "no_evidence") return silentTitle(turn);
  if (turn.finishReason === "sources_only") return `No answer was written; ${count(turn.sources.length, "source")} found`;
  if (turn.findings.certainty === "possibly") return "The answer is complete and not certain: check it before you send";
  const unsupported = unsupportedCount(turn);
  const withheld = withheldCount(turn);
  const sentences = count(turn.sentences.length - withheld, "sentence");
  const marks = unsupported === 0 ? "" : `, ${count(unsupported, "sentence")} to check`;
  const gaps = withheld === 0 ? "" : `, ${withheld} withheld`;
  return `The answer is complete: ${sentences}, ${count(turn.sources.length, "source")}${marks}${gaps}`;
}
