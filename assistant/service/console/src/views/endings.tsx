/** How far an answer is, how it ended, and what to do about it. */
import { useEffect, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { count, seconds } from "../text.ts";
import { type Turn, unsupportedCount } from "../turn.ts";
import type { Problem } from "../wire.ts";
import { PAUSED, summary } from "./composer.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Icon } from "./icons.tsx";

const STEPS = { sending: "Sending the question", searching: "Looking through the knowledge base" } as const;

/** A sign of life from the first moment on, with the time that has passed. */
export function Progress({ turn }: { turn: Turn }) {
  const { conversation } = useWorkspace();
  const [now, setNow] = useState(performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 200);
    return () => clearInterval(timer);
  }, []);
  const startedAt = conversation.underway.value?.startedAt ?? now;
  const isLost = conversation.isLost.value;
  return (
    <p class={isLost ? "progress is-lost" : "progress"}>
      <span class="pulse" aria-hidden="true" />
      {isLost ? "Connection lost, coming back…" : stepOf(turn)} <span class="elapsed">{seconds(Math.max(0, now - startedAt))}</span>
    </p>
  );
}

function stepOf(turn: Turn): string {
  if (turn.phase === "sending" || turn.phase === "searching") return STEPS[turn.phase];
  return turn.text === "" ? `Reading ${count(turn.sources.length, "source")}` : "Writing";
}

/** How the answer ended: its measure, or what went wrong and what to do about it. */
export function Ending({ turn }: { turn: Turn }) {
  switch (turn.phase) {
    case "finished":
      return <Finished turn={turn} />;
    case "failed":
      if (turn.problem?.code === "endpoint_paused") return <Paused turn={turn} problem={turn.problem} />;
      return (
        <Broken turn={turn} tone="bad" title={turn.problem?.title ?? "The answer failed"}>
          {turn.problem?.detail} <span class="code">{turn.problem?.code}</span>
        </Broken>
      );
    case "stopped":
      return (
        <Broken turn={turn} tone="plain" title="Stopped">
          {turn.text === "" ? "No text had come yet." : "What is above is incomplete."}
        </Broken>
      );
    case "interrupted":
      return (
        <Broken turn={turn} tone="warn" title="Interrupted">
          {turn.problem === null
            ? "The page was left, or its connection lost, while the answer was being written."
            : "The connection was lost while the answer was being written, and the rest of it did not come."}{" "}
          {turn.text === "" ? "No text had come yet." : "What is above is incomplete."}
        </Broken>
      );
    default:
      return null;
  }
}

/** Nothing is wrong: somebody has switched the models off, and can switch them on. */
function Paused({ turn, problem }: { turn: Turn; problem: Problem }) {
  return (
    <Broken turn={turn} tone="plain" title={PAUSED}>
      {problem.detail} Your question is kept here.
    </Broken>
  );
}

function Finished({ turn }: { turn: Turn }) {
  if (turn.finishReason === "sources_only") {
    return (
      <Broken turn={turn} tone="warn" title="Sources only">
        No text could be written. The passages that were found are listed as sources.{" "}
        {turn.reason !== null && <span class="code">{turn.reason}</span>}
      </Broken>
    );
  }
  if (turn.finishReason === "refused") {
    return (
      <Broken turn={turn} tone="warn" title="Declined">
        The model declined to answer this question.
      </Broken>
    );
  }
  const elapsed = turn.elapsedMs === null ? "" : ` in ${seconds(turn.elapsedMs)}`;
  const unsupported = unsupportedCount(turn);
  return (
    <>
      {(turn.finishReason === "length" || turn.finishReason === "content_filter") && (
        <Broken turn={turn} tone="warn" title="Cut short">
          {turn.finishReason === "length"
            ? "The answer reached its greatest length before its end."
            : "A filter of the model’s service stopped the answer before its end."}
        </Broken>
      )}
      <p class="measure">
        {turn.finishReason === "no_evidence" ? `Looked up${elapsed}` : `Answered${elapsed}`}
        {unsupported > 0 && ` · ${count(unsupported, "sentence")} to check before use`}
      </p>
    </>
  );
}

interface BrokenProps {
  readonly turn: Turn;
  readonly tone: "plain" | "warn" | "bad";
  readonly title: string;
  readonly children: preact.ComponentChildren;
}

function Broken({ turn, tone, title, children }: BrokenProps) {
  const { conversation } = useWorkspace();
  const canRetry = turn.problem?.retryable ?? true;
  const retry = async () => {
    announce("Asking again");
    const ended = await conversation.retry(turn);
    if (ended !== null) announce(summary(ended));
  };
  return (
    <div class={`notice ${tone}`}>
      <Icon name={tone === "plain" ? (turn.phase === "failed" ? "clock" : "stop") : "alert"} />
      <p>
        <strong>{title}.</strong> {children}
      </p>
      {canRetry && (
        <button type="button" class="button" disabled={conversation.underway.value !== null} onClick={retry}>
          <Icon name="retry" /> Ask again
        </button>
      )}
    </div>
  );
}
