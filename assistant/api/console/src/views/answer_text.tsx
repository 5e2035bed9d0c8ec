import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { type LinkTargets, type Runs, readMarkdown, settled } from "../markdown.ts";
import { type Group, groupBySpan } from "../spans.ts";
import { safeHref, utf16Span } from "../text.ts";
import { type Turn, isRunning } from "../turn.ts";
import type { Sentence, Source } from "../wire.ts";
import { useDesk } from "./desk.ts";
import { Icon } from "./icons.tsx";
import { Markdown, drawRuns } from "./markdown_view.tsx";

const REASONS: Readonly<Record<string, string>> = {
  no_passage: "no source says this",
  number_not_in_passage: "a number is not in its source",
};

/** The answer as safe Markdown: each finished sentence with its citations, or with its warning. */
export function AnswerText({ turn }: { turn: Turn }) {
  const text = isRunning(turn) ? settled(turn.text) : turn.text;
  const { blocks, groups } = useMemo(() => {
    const blocks = readMarkdown(text, { links: linkTargets(turn.sources) });
    const spans = turn.sentences.map(({ start, end }) => utf16Span(turn.text, [start, end]));
    return { blocks, groups: groupBySpan(blocks, spans) };
  }, [text, turn.sentences, turn.sources]);
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) => <AnswerPiece key={index} group={group} turn={turn} />);
  return (
    <div class="answer markdown">
      <Markdown blocks={blocks} headingLevel={4} drawLeaf={drawLeaf} />
    </div>
  );
}

/** Links in a text may lead to the originals of its sources, nowhere else. */
export function linkTargets(sources: readonly Source[]): LinkTargets {
  return new Set(sources.flatMap(({ url }) => safeHref(url) ?? []));
}

function AnswerPiece({ group, turn }: { group: Group; turn: Turn }) {
  const sentence = group.span === null ? undefined : turn.sentences[group.span];
  if (sentence === undefined) return <>{drawRuns(group.runs)}</>;
  return (
    <span class={sentence.support === "unsupported" ? "sentence unsupported" : "sentence"}>
      <span class="sentence-text">{drawRuns(group.runs)}</span>
      {group.isLast && <Marks sentence={sentence} turn={turn} />}
    </span>
  );
}

function Marks({ sentence, turn }: { sentence: Sentence; turn: Turn }): ComponentChildren {
  const cited = sentence.citations.flatMap((n) => turn.sources.find((source) => source.n === n) ?? []);
  return (
    <>
      {sentence.support === "unsupported" && <Warning sentence={sentence} />}
      {cited.map((source) => (
        <Citation key={source.n} source={source} turnKey={turn.key} />
      ))}
    </>
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
