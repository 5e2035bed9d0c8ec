import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { announce } from "../announcer.ts";
import { summary } from "./composer.tsx";
import { Icon } from "./icons.tsx";
import { useWorkspace } from "./workspace_state.ts";

export interface Opening {
  /** Questions of the tenant. */
  readonly examples: readonly string[];
  /** Whether no live model writes, on a machine of one's own. */
  readonly isUnwritten: boolean;
}

export const OpeningContext = createContext<Opening>({ examples: [], isUnwritten: false });

/** The page before the first question. */
export function Welcome() {
  const { conversation } = useWorkspace();
  const { examples, isUnwritten } = useContext(OpeningContext);
  const ask = async (question: string) => {
    announce("Looking through the knowledge base");
    const turn = await conversation.ask(question, { isFollowUp: false });
    if (turn !== null) announce(summary(turn));
  };
  return (
    <div class="welcome">
      <h2 class="title">Ask the knowledge base</h2>
      <p>
        The answer comes from your own documents, with a source for each part of it. Where they are silent, it says so.
        You read it, edit it, and send it on.
      </p>
      {examples.length > 0 && (
        <ul class="examples" aria-label="Questions to begin with">
          {examples.map((question) => (
            <li key={question}>
              <button type="button" class="button" onClick={() => void ask(question)}>
                <Icon name="search" /> {question}
              </button>
            </li>
          ))}
        </ul>
      )}
      {isUnwritten && (
        <p class="hint">
          Your own questions are answered by sections of documents. A chat server writes answers:{" "}
          <code>make demo MODEL_URL=http://127.0.0.1:11434/v1 MODEL=name</code>
        </p>
      )}
    </div>
  );
}
