import { useLayoutEffect, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import { type Turn, unsupportedCount } from "../turn.ts";
import { count } from "../text.ts";
import { useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";

/** Characters that the service takes. */
const QUESTION_LIMIT = 4_000;

/** The question box. Enter asks; it stays usable while an answer is being written. */
export function Composer() {
  const { conversation } = useDesk();
  const box = useRef<HTMLTextAreaElement>(null);
  const isAnswering = conversation.underway.value !== null;
  const hasTurns = conversation.turns.value.length > 0;
  useLayoutEffect(() => box.current?.focus(), []);
  const ask = async () => {
    const question = conversation.question.value.trim();
    if (question === "" || isAnswering) return;
    conversation.setQuestion("");
    announce("Looking through the knowledge base");
    const turn = await conversation.ask(question);
    if (turn !== null) announce(summary(turn));
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void ask();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        void ask();
      }}
    >
      <div class="composer-head">
        <label for="question">{hasTurns ? "Follow-up question" : "Question"}</label>
        <span id="question-hint" class="hint">
          Enter asks, Shift + Enter begins a new line
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

/** What is said once the answer has ended, instead of every word of it. */
export function summary(turn: Turn): string {
  if (turn.problem?.code === "endpoint_paused") return PAUSED;
  if (turn.phase === "failed") return `The answer failed: ${turn.problem?.title ?? ""}`;
  if (turn.phase === "stopped") return "The answer was stopped";
  if (turn.phase === "interrupted") return "The answer was interrupted and is incomplete";
  if (turn.finishReason === "no_evidence") return "Not in the knowledge base";
  if (turn.finishReason === "sources_only") return `No answer was written; ${count(turn.sources.length, "source")} found`;
  const unsupported = unsupportedCount(turn);
  const sentences = count(turn.sentences.length, "sentence");
  const marks = unsupported === 0 ? "" : `, ${count(unsupported, "sentence")} without support`;
  return `The answer is complete: ${sentences}, ${count(turn.sources.length, "source")}${marks}`;
}
