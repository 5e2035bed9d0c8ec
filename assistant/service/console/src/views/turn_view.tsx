import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { keepInView } from "../scrolling.ts";
import { count } from "../text.ts";
import { type Turn, canJudge, isRunning, silentTitle } from "../turn.ts";
import { AnswerText } from "./answer_text.tsx";
import { Asked } from "./asked.tsx";
import { Above, DocumentSection, Offered } from "./before_answer.tsx";
import { Ending, Progress } from "./endings.tsx";
import { AlsoPossible, Clarify, Escalation, Mode } from "./findings.tsx";
import { Icon } from "./icons.tsx";
import { QuestionHead } from "./question_head.tsx";
import { ForThePatient } from "./reply.tsx";

/** A question, its answer as far as it has come, and the reply that is made of it. */
export function TurnView({ turn }: { turn: Turn }) {
  const top = useRef<HTMLElement>(null);
  useLayoutEffect(() => top.current?.scrollIntoView({ block: "start" }), []);
  // an emergency stays in view: then the page does not move
  const isRead = turn.phase === "finished" && turn.redFlags.length === 0 && turn.uncheckedLanguage === null;
  useEffect(() => (isRead && top.current !== null ? keepInView(top.current, ".answer mark") : undefined), [isRead]);
  const { clarify } = turn.findings;
  return (
    <article ref={top} class="turn" aria-labelledby="question-title">
      <QuestionHead question={turn.question} />
      <Above turn={turn} />
      <Offered turn={turn} />
      {clarify !== null && <Clarify question={clarify} />}
      <ForYou turn={turn} />
      {isRunning(turn) && <Progress turn={turn} />}
      <DocumentSection turn={turn} />
      <Asked turn={turn} />
      <Ending turn={turn} />
      {canJudge(turn) && turn.phase === "finished" && !turn.isRecorded && <RecordFollows />}
      <ForThePatient turn={turn} />
      <AlsoPossible turn={turn} />
    </article>
  );
}

/** The answer itself. It speaks to the agent: what may go to the patient stands apart from it. */
function ForYou({ turn }: { turn: Turn }) {
  const isSilent = turn.finishReason === "no_evidence";
  const hasText = turn.text !== "" || turn.sentences.length > 0;
  return (
    <section class="for-you" aria-labelledby="answer-title">
      <div class="part-head">
        <h3 id="answer-title" tabIndex={-1}>
          <span class="visually-hidden">Answer: </span>For you
        </h3>
        <Mode turn={turn} />
      </div>
      {isSilent ? <NoEvidence turn={turn} /> : hasText && <AnswerText turn={turn} />}
      <Escalation words={turn.findings.escalation} />
    </section>
  );
}

/** The store of records did not answer at the answer's end. */
function RecordFollows() {
  return (
    <p class="notice plain record-follows">
      <Icon name="clock" />
      <span>
        The record of this answer is still being written: in a moment it can be marked and a reply sent. What you do
        now is tried again until then.
      </span>
    </p>
  );
}

function NoEvidence({ turn }: { turn: Turn }) {
  const looked = count(turn.sources.length, "nearest passage");
  const isSentence = /[.!?]$/.test(turn.reason ?? "");
  return (
    <div class="outcome">
      <p class="outcome-title">
        <Icon name="search" /> {silentTitle(turn)}
      </p>
      <p>
        {isSentence
          ? turn.reason
          : turn.findings.asks && "The knowledge base was searched and nothing in it answers this question, so no answer was written."}
        {turn.sources.length > 0 && ` The ${looked} are listed as sources; none of them is an answer.`}
      </p>
      {!isSentence && turn.reason !== null && turn.reason !== "" && (
        <p class="hint">What is missing: {turn.reason}</p>
      )}
    </div>
  );
}
