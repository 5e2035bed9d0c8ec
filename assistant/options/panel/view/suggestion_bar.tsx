import { announce } from "@console/announcer.ts";
import { textAt } from "@console/text.ts";
import type { SentenceEnded } from "@console/wire.ts";
import { Icon } from "@console/views/icons.tsx";
import { useWorkspace } from "@console/views/workspace_state.ts";
import type { Suggesting } from "./suggesting.ts";

/** Above the composer: emergencies of the chat, and one suggestion at most. */
export function SuggestionBar({ suggesting }: { suggesting: Suggesting }) {
  const { conversation } = useWorkspace();
  const suggestion = suggesting.suggestion.value;
  const answerId = suggesting.answerId.value;
  const open = async () => {
    const turn = await conversation.askChat(suggesting.turns);
    if (suggestion !== null && turn?.answerId != null) await suggesting.opened(suggestion, turn.answerId);
  };
  const insert = async () => {
    if (answerId === null || suggestion === null) return;
    const turn = conversation.turns.value.find((other) => other.answerId === answerId);
    const isLine = (one: SentenceEnded) => suggestion.lines.includes(textAt(turn?.text ?? "", [one.start, one.end]));
    const lines = turn?.sentences.filter(isLine).map(({ index }) => index) ?? [];
    conversation.insert(answerId, suggestion.lines.join("\n"), { began_with: "lines", lines });
    announce("The lines are in the reply");
    suggesting.dismiss();
    await suggesting.report("inserted", suggestion, answerId);
  };
  return (
    <>
      {suggesting.redFlags.value.map(({ name, text, call }) => (
        <p key={name} class="notice bad" role="alert">
          <Icon name="alert" />
          <span>
            {text} <strong>Call: {call}</strong>
          </span>
        </p>
      ))}
      {suggestion !== null && (
        <section class="notice" aria-label="Suggestion">
          <Icon name="search" />
          <div>
            <p>
              <strong>{suggestion.title}</strong>
              {suggestion.heading !== "" && `, ${suggestion.heading}`}
            </p>
            <ul>
              {suggestion.lines.map((line) => (
                <li key={line}>{line}</li>
              ))}
            </ul>
            <p class="actions">
              {answerId === null ? (
                <button type="button" class="button small" disabled={conversation.underway.value !== null} onClick={() => void open()}>
                  Open as an answer
                </button>
              ) : (
                <button type="button" class="button small" onClick={() => void insert()}>
                  Insert these lines
                </button>
              )}
              <button type="button" class="button small quiet" onClick={() => suggesting.dismiss()}>
                Dismiss
              </button>
            </p>
          </div>
        </section>
      )}
    </>
  );
}
