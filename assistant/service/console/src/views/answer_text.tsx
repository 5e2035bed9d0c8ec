import { useMemo } from "preact/hooks";
import { type Piece, answerPieces } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { Sentence, Source } from "../wire.ts";
import { useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";

const REASONS: Readonly<Record<string, string>> = {
  no_passage: "no source says this",
  number_not_in_passage: "a number is not in its source",
};

/** The answer as text, never as markup: each finished sentence with its citations, or with its warning. */
export function AnswerText({ turn }: { turn: Turn }) {
  const pieces = useMemo(() => answerPieces(turn.text, turn.sentences), [turn.text, turn.sentences]);
  return (
    <div class="answer">
      {pieces.map((piece, index) => (
        <AnswerPiece key={piece.sentence?.index ?? `gap ${index}`} piece={piece} turn={turn} />
      ))}
    </div>
  );
}

function AnswerPiece({ piece, turn }: { piece: Piece; turn: Turn }) {
  const { sentence } = piece;
  if (sentence === undefined) return <>{piece.text}</>;
  const cited = sentence.citations.flatMap((n) => turn.sources.find((source) => source.n === n) ?? []);
  return (
    <span class={sentence.support === "unsupported" ? "sentence unsupported" : "sentence"}>
      <span class="sentence-text">{piece.text}</span>
      {sentence.support === "unsupported" && <Warning sentence={sentence} />}
      {cited.map((source) => (
        <Citation key={source.n} source={source} turnKey={turn.key} />
      ))}
    </span>
  );
}

function Warning({ sentence }: { sentence: Sentence }) {
  const reasons = (sentence.reasons ?? []).map((reason) => REASONS[reason] ?? reason.replaceAll("_", " "));
  return (
    <span class="flag">
      <Icon name="alert" /> Not supported{reasons.length > 0 && `: ${reasons.join(", ")}`}
    </span>
  );
}

/** The number of a source. To point at it previews the source, to press it opens the stored text. */
function Citation({ source, turnKey }: { source: Source; turnKey: string }) {
  const desk = useDesk();
  const isPreviewed = desk.preview.value?.n === source.n;
  return (
    <button
      type="button"
      class="citation"
      aria-label={`Source ${source.n}: ${source.title}`}
      aria-describedby={isPreviewed ? "citation-preview" : undefined}
      onMouseEnter={(event) => desk.point(source.n, event.currentTarget)}
      onFocus={(event) => desk.point(source.n, event.currentTarget)}
      onMouseLeave={(event) => desk.leave(event.currentTarget)}
      onBlur={(event) => desk.leave(event.currentTarget)}
      onClick={(event) => desk.show(turnKey, source.n, event.currentTarget)}
    >
      {source.n}
    </button>
  );
}
