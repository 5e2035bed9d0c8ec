import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { type Elements, placeOf } from "../elements.ts";
import { type Block, type LinkTargets, type Run, type Runs, readMarkdown, settled } from "../markdown.ts";
import { type Group, type Span, cut, groupBySpan, leavesOf } from "../spans.ts";
import { safeHref, utf16Span } from "../text.ts";
import { type Turn, isRunning } from "../turn.ts";
import type { Element, Sentence, Source } from "../wire.ts";
import { Citations } from "./citations.tsx";
import { BlockElement, InlineElement } from "./element_view.tsx";
import { Icon } from "./icons.tsx";
import { Markdown, drawRuns } from "./markdown_view.tsx";

const REASONS: Readonly<Record<string, string>> = {
  no_passage: "no source says this",
  number_not_in_passage: "a number is not in its source",
};

/** Elements that stand in a line of text, with their places; ids of those that are drawn so far. */
interface Inline {
  readonly spans: readonly Span[];
  readonly elements: Elements;
}

/** The answer as safe Markdown: each finished sentence with its citations, or with its warning; elements in place. */
export function AnswerText({ turn }: { turn: Turn }) {
  const text = isRunning(turn) ? settled(turn.text) : turn.text;
  const { blocks, groups } = useMemo(() => {
    const blocks = readMarkdown(text, { links: linkTargets(turn.sources) });
    const spans = turn.sentences.map(({ start, end }) => utf16Span(turn.text, [start, end]));
    return { blocks, groups: groupBySpan(blocks, spans) };
  }, [text, turn.sentences, turn.sources]);
  const inline = inlineOf(turn);
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) => <AnswerPiece key={index} group={group} turn={turn} inline={inline} />);
  return (
    <div class="answer markdown">
      {partsOf(blocks, turn).map((part, index) =>
        "element" in part ? (
          <BlockElement key={part.element.id} element={part.element} turn={turn} />
        ) : (
          <Markdown key={index} blocks={[part.block]} headingLevel={4} drawLeaf={drawLeaf} />
        ),
      )}
    </div>
  );
}

/** Links in a text may lead to the originals of its sources, nowhere else. */
export function linkTargets(sources: readonly Source[]): LinkTargets {
  return new Set(sources.flatMap(({ url }) => safeHref(url) ?? []));
}

/** Whether an element is drawn after a block, and not in a line of it. */
function isApart({ kind, display }: Element): boolean {
  return kind === "table" || display.start === display.end;
}

function inlineOf({ text, elements }: Turn): Inline {
  const within = elements.filter((element) => !isApart(element));
  return { elements: within, spans: within.map((element) => placeOf(text, element)) };
}

type Part = { readonly block: Block } | { readonly element: Element };

/** The blocks, with elements of their own after the block that they belong to, or in place of those they stand for. */
function partsOf(blocks: readonly Block[], { text, elements }: Turn): Part[] {
  const apart = elements.filter(isApart).map((element) => ({ element, place: placeOf(text, element) }));
  const parts: Part[] = [];
  const drawn = new Set<Element>();
  const drawUntil = (offset: number) => {
    for (const { element, place } of apart) {
      if (place[0] > offset || drawn.has(element)) continue;
      drawn.add(element);
      parts.push({ element });
    }
  };
  for (const block of blocks) {
    const [start, end] = extentOf(block);
    const stand = apart.find(({ place }) => place[0] < place[1] && place[0] <= start && end <= place[1]);
    // while it waits, or when it failed, the words that it stands for are the answer
    if (stand === undefined || stand.element.state !== "ready") parts.push({ block });
    drawUntil(end);
  }
  drawUntil(Number.POSITIVE_INFINITY);
  return parts;
}

/** [start, end) of the text of a block; a rule has none. */
function extentOf(block: Block): Span {
  const runs = leavesOf([block]).flat();
  return [runs[0]?.start ?? 0, runs.at(-1)?.end ?? 0];
}

interface PieceProps {
  readonly group: Group;
  readonly turn: Turn;
  readonly inline: Inline;
}

function AnswerPiece({ group, turn, inline }: PieceProps) {
  const sentence = group.span === null ? undefined : turn.sentences[group.span];
  const drawn = drawWithElements(group.runs, turn, inline);
  if (sentence === undefined) return <>{drawn}</>;
  return (
    <span class={sentence.support === "unsupported" ? "sentence unsupported" : "sentence"}>
      <span class="sentence-text">{drawn}</span>
      {group.isLast && <Marks sentence={sentence} turn={turn} />}
    </span>
  );
}

/** Runs as text, but where an element stands in for them; it is drawn once, in the place of its first run. */
function drawWithElements(runs: Runs, turn: Turn, { spans, elements }: Inline): ComponentChildren {
  if (elements.length === 0) return drawRuns(runs);
  const drawn: ComponentChildren[] = [];
  let plain: Run[] = [];
  const flush = () => {
    if (plain.length > 0) drawn.push(drawRuns(plain));
    plain = [];
  };
  for (const [run, index] of runs.flatMap((run) => cut(run, spans))) {
    const element = index === null ? undefined : elements[index];
    if (element === undefined || index === null) plain.push(run);
    else if (run.start === spans[index]?.[0]) {
      flush();
      drawn.push(<InlineElement key={element.id} element={element} turn={turn} />);
    }
  }
  flush();
  return drawn;
}

function Marks({ sentence, turn }: { sentence: Sentence; turn: Turn }): ComponentChildren {
  return (
    <>
      {sentence.support === "unsupported" && <Warning sentence={sentence} />}
      <Citations numbers={sentence.citations} turn={turn} />
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
