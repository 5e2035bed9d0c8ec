import { useLayoutEffect, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Conversation } from "../conversation.ts";
import { revealIn } from "../scrolling.ts";
import { type Turn, isApproved, isRunning, sentWords, silentTitle, unsupportedCount } from "../turn.ts";
import { useWorkspace } from "./workspace_state.ts";
import { Icon, type IconName } from "./icons.tsx";

/** Leave this conversation, ready for a fresh question. */
export function beginAnew(conversation: Conversation): void {
  conversation.begin();
  document.getElementById("question")?.focus();
  announce("New question");
}

/** The questions of this conversation. */
export function TurnList() {
  const { conversation } = useWorkspace();
  const turns = conversation.turns.value;
  const selectedKey = conversation.selectedKey.value;
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const current = place.current?.querySelector<HTMLElement>("[aria-current]");
    const column = place.current?.closest<HTMLElement>(".turns");
    const list = current?.closest("ol");
    if (!column || !current || !list) return;
    revealIn(list, current); // the one or the other of them scrolls
    revealIn(column, current);
  }, [selectedKey]);
  return (
    <div ref={place} class="thread-turns">
      <button type="button" class="button wide" onClick={() => beginAnew(conversation)}>
        <Icon name="plus" /> New question
      </button>
      {turns.length === 0 ? (
        <p class="hint">Your questions are listed here.</p>
      ) : (
        <ol class="turn-list">
          {turns.map((turn) => (
            <li key={turn.key}>
              <button
                type="button"
                class="turn-link"
                aria-current={turn.key === selectedKey ? "true" : undefined}
                onClick={() => (conversation.selectedKey.value = turn.key)}
              >
                <span class="turn-question">{turn.question}</span>
                {turn.redFlags.length > 0 && (
                  <span class="turn-state bad">
                    <Icon name="alert" /> {turn.redFlags.map(({ name }) => name).join(", ")}
                  </span>
                )}
                <TurnState turn={turn} />
              </button>
            </li>
          ))}
        </ol>
      )}
    </div>
  );
}

function TurnState({ turn }: { turn: Turn }) {
  const [icon, words, tone] = stateOf(turn);
  return (
    <span class={`turn-state ${tone}`}>
      <Icon name={icon} /> {words}
    </span>
  );
}

function stateOf(turn: Turn): [IconName, string, "plain" | "good" | "warn" | "bad"] {
  if (isRunning(turn)) return ["clock", "Answering", "plain"];
  if (turn.problem?.code === "endpoint_paused") return ["clock", "Paused", "plain"];
  if (turn.phase === "failed") return ["alert", "Failed", "bad"];
  if (turn.phase === "stopped") return ["stop", "Stopped", "plain"];
  if (turn.phase === "interrupted") return ["alert", "Interrupted", "warn"];
  const reply = turn.sends.at(-1);
  if (reply !== undefined) return ["send", sentWords(reply.isDelivered), "good"];
  if (turn.finishReason === "no_evidence") return ["search", silentTitle(turn), "plain"];
  if (turn.finishReason === "sources_only") return ["book", "Sources only", "warn"];
  if (turn.finishReason === "refused") return ["alert", "Declined", "warn"];
  if (turn.finishReason === "length") return ["alert", "Cut short", "warn"];
  if (turn.findings.certainty === "possibly") return ["alert", "Not certain", "warn"];
  if (unsupportedCount(turn) > 0) return ["alert", "Check the marked text", "warn"];
  const isQuoted = turn.findings.mode === "quoted" && turn.sentences.length > 0 && !isApproved(turn);
  if (isQuoted) return ["book", "Quoted", "plain"];
  return ["check", "Answered", "plain"];
}
