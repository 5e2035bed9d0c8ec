/** What the service says of an answer as a whole: how it was made, how sure it is, what else may be meant. */
import { useMemo } from "preact/hooks";
import { announce } from "../announcer.ts";
import { readMarkdown } from "../markdown.ts";
import { inForce } from "../text.ts";
import { type Turn, isApproved } from "../turn.ts";
import type { Also } from "../wire.ts";
import { linkTargets } from "./answer_text.tsx";
import { summary } from "./composer.tsx";
import { useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";
import { Markdown } from "./markdown_view.tsx";

const FALLBACKS: Readonly<Record<string, string>> = {
  unsupported: "the model wrote something that no document says",
  repetition: "the model repeated itself",
  debris: "the model wrote unreadable text",
  echo: "the model only repeated the question",
  empty_answer: "the model wrote nothing",
  generation_late: "the model was too slow",
  endpoint_paused: "the model is paused",
};

/** How the text was made, and for a fallback why it is not the model's. */
export function Mode({ turn }: { turn: Turn }) {
  const { mode, fallback } = turn.findings;
  const isByReviewers = isApproved(turn);
  const isLiveOnly = turn.elements.length > 0 && turn.sentences.length === 0;
  return (
    <>
      {mode === "quoted" && isLiveOnly && (
        <span class="badge plain">
          <Icon name="clock" /> Live values; no document is quoted
        </span>
      )}
      {mode === "quoted" && isByReviewers && (
        <span class="badge good">
          <Icon name="check" /> Approved by your reviewers
        </span>
      )}
      {mode === "quoted" && !isByReviewers && !isLiveOnly && (
        <span class="badge good">
          <Icon name="book" /> Quoted from the documents
        </span>
      )}
      {mode === "written" && (
        <span class="badge plain">
          <Icon name="edit" /> Written by the model, checked
        </span>
      )}
      {fallback !== null && (
        <span class="hint fallback">
          Quotes take the place of the model’s text: {FALLBACKS[fallback] ?? fallback.replaceAll("_", " ")}.
        </span>
      )}
    </>
  );
}

export function Corrections({ turn: { findings } }: { turn: Turn }) {
  if (findings.corrections.length === 0) return null;
  return (
    <p class="hint corrections">
      {findings.corrections.map(({ said, read_as }) => `Read “${said}” as “${read_as}”`).join(" · ")}
    </p>
  );
}

/** Before the text: somebody in a hurry reads the beginning. */
export function Possibly({ turn: { findings } }: { turn: Turn }) {
  return (
    <div class="notice warn possibly">
      <Icon name="alert" />
      <div>
        <p>
          <strong>Possibly here: the nearest passage.</strong> Check before you send.
        </p>
        <Escalation words={findings.escalation} />
      </div>
    </div>
  );
}

/** Half an answer looks like a whole one: say which half is missing. */
export function Unanswered({ questions }: { questions: readonly string[] }) {
  if (questions.length === 0) return null;
  return (
    <div class="notice warn unanswered">
      <Icon name="search" />
      <p>
        <strong>Not answered:</strong> {questions.map((question) => `“${question}”`).join(", ")}
      </p>
    </div>
  );
}

export function Escalation({ words }: { words: string | null }) {
  if (words === null || words === "") return null;
  return (
    <p class="escalation">
      <strong>Whom to ask:</strong> {words}
    </p>
  );
}

/** The question back, with a button for each alternative that it names in quotes. */
export function Clarify({ turn, question }: { turn: Turn; question: string }) {
  const { conversation } = useDesk();
  const alternatives = [...question.matchAll(/“([^”]+)”/g)].map(([, words]) => words ?? "");
  const choose = async (alternative: string) => {
    announce("Asking again");
    const ended = await conversation.ask(`${turn.question} ${alternative}`, { isFollowUp: true });
    if (ended !== null) announce(summary(ended));
  };
  return (
    <section class="clarify" aria-labelledby="clarify-title">
      <h3 id="clarify-title">Which one is it?</h3>
      <p>{question}</p>
      {alternatives.length > 0 && (
        <p class="actions">
          {alternatives.map((alternative) => (
            <button
              key={alternative}
              type="button"
              class="button alternative"
              disabled={conversation.underway.value !== null}
              onClick={() => void choose(alternative)}
            >
              {alternative}
            </button>
          ))}
        </p>
      )}
    </section>
  );
}

export function AlsoPossible({ turn }: { turn: Turn }) {
  if (turn.findings.also.length === 0) return null;
  return (
    <section class="also" aria-labelledby="also-title">
      <h3 id="also-title">Also possible</h3>
      <ul class="also-list">
        {turn.findings.also.map((also) => (
          <AlsoCard key={also.document_id} also={also} turn={turn} />
        ))}
      </ul>
    </section>
  );
}

function AlsoCard({ also, turn }: { also: Also; turn: Turn }) {
  const desk = useDesk();
  const blocks = useMemo(
    () => readMarkdown(also.text, { links: linkTargets(turn.sources) }),
    [also.text, turn.sources],
  );
  const n = also.citations.find((n) => turn.sources.some((source) => source.n === n));
  return (
    <li class="also-card">
      <h4>{also.title}</h4>
      {also.effective_date !== null && <p class="hint">{inForce(also.effective_date, new Date())}</p>}
      <div class="markdown">
        <Markdown blocks={blocks} headingLevel={0} />
      </div>
      {n !== undefined && (
        <button
          type="button"
          class="link"
          onClick={(event) => desk.show(turn.key, n, event.currentTarget)}
        >
          Open the document<span class="visually-hidden"> {also.title}</span>
        </button>
      )}
    </li>
  );
}
