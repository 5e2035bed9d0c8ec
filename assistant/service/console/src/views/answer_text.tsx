import type { ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { type Elements, placeOf } from "../elements.ts";
import { cutAtFolds, isFolded, linesIn } from "../folding.ts";
import { type Block, type LinkTargets, type Run, type Runs, readMarkdown, settled } from "../markdown.ts";
import { type Group, type Span, cut, groupBySpan, leavesOf } from "../spans.ts";
import { withTables } from "../tables.ts";
import { count, safeHref, textAt, utf16Span } from "../text.ts";
import { type Turn, type TurnSentence, isRunning } from "../turn.ts";
import type { Element, SentenceEnded, Source } from "../wire.ts";
import { Citations } from "./citations.tsx";
import { BlockElement, InlineElement } from "./element_view.tsx";
import { Icon } from "./icons.tsx";
import { Markdown, drawRuns } from "./markdown_view.tsx";

const REASONS: Readonly<Record<string, string>> = {
  no_citation: "the model named none",
  value_not_cited: "it lacks one of these values",
  // of older records
  no_passage: "no source says this",
  number_not_in_passage: "a number is not in its source",
};

const VERDICTS = { opposite: "A line says otherwise", not_held: "The lines do not say this" } as const;

/** Elements that stand in a line of text, with their places; ids of those that are drawn so far. */
interface Inline {
  readonly spans: readonly Span[];
  readonly elements: Elements;
}

/** The answer as safe Markdown: each finished sentence with its citations, or with its warning; elements in place. */
export function AnswerText({ turn }: { turn: Turn }) {
  const text = isRunning(turn) ? settled(turn.text) : turn.text;
  const { blocks, groups, folded } = useMemo(() => {
    const spans = turn.sentences.map(({ start, end }) => utf16Span(turn.text, [start, end]));
    const quotes = spans.filter((_, index) => turn.sentences[index]?.quote);
    const folded = spans.filter((_, index) => isFar(turn.sentences, index));
    const lines = withTables(readMarkdown(text, { links: linkTargets(turn.sources), quotes }), turn.text, turn.sentences);
    const blocks = cutAtFolds(lines, folded);
    return { blocks, groups: groupBySpan(blocks, spans), folded };
  }, [text, turn.sentences, turn.sources]);
  const inline = inlineOf(turn);
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) => <AnswerPiece key={index} group={group} turn={turn} inline={inline} />);
  return (
    <div class="answer markdown">
      <Withheld sentences={withheldAfter(turn, -1)} />
      {inFolds(partsOf(blocks, turn), folded).map((part, index) =>
        "element" in part ? (
          <BlockElement key={part.element.id} element={part.element} turn={turn} />
        ) : part.lines === 0 ? (
          <Markdown key={index} blocks={part.blocks} headingLevel={4} drawLeaf={drawLeaf} />
        ) : (
          <details key={index} class="fold">
            <summary>{count(part.lines, "more line")}</summary>
            <Markdown blocks={part.blocks} headingLevel={4} drawLeaf={drawLeaf} />
          </details>
        ),
      )}
    </div>
  );
}

type Drawn = { readonly blocks: readonly Block[]; readonly lines: number } | { readonly element: Element };

/** The parts, with neighbours that may be folded together, and the headings above them. `lines`: how many are folded; a single one is not. */
function inFolds(parts: readonly Part[], folded: readonly Span[]): Drawn[] {
  const drawn: Drawn[] = [];
  let far: Block[] = [];
  const flush = () => {
    const lines = linesIn(far, folded);
    if (far.length > 0) drawn.push({ blocks: far, lines: lines > 1 ? lines : 0 });
    far = [];
  };
  for (const [index, part] of parts.entries()) {
    const below = parts[index + 1];
    const isAbove = "block" in part && part.block.kind === "heading" && below !== undefined && "block" in below && isFolded(below.block, folded);
    if ("block" in part && (isAbove || isFolded(part.block, folded))) {
      far.push(part.block);
      continue;
    }
    flush();
    drawn.push("element" in part ? part : { blocks: [part.block], lines: 0 });
  }
  flush();
  return drawn;
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

/** Whether a sentence is one of several neighbours that may be folded. */
function isFar(sentences: readonly SentenceEnded[], index: number): boolean {
  const [before, one, after] = [-1, 0, 1].map((n) => sentences[index + n]?.quote === "folded");
  return one === true && (before === true || after === true);
}

/** Whether the next sentence of the same paragraph, list or table names the same sources, and where a model wrote it the same units. */
function isCitedBelow({ text, sentences }: Turn, index: number): boolean {
  const [one, next] = [sentences[index], sentences[index + 1]];
  if (one === undefined || next === undefined || one.support !== "supported") return false;
  const isOfSame = Boolean(one.quote && next.quote) || unitsOf(one) === unitsOf(next);
  const isSame = isOfSame && one.citations.join() === next.citations.join() && isFar(sentences, index) === isFar(sentences, index + 1);
  return isSame && !textAt(text, [one.end, next.start]).includes("\n\n");
}

function unitsOf({ cited = [] }: SentenceEnded): string {
  return cited.map(({ n, start, end }) => [n, start, end].join()).join(" ");
}

/** Indexes of the sentences that the numbers after the one at a position stand for. */
function citedHere(turn: Turn, position: number): readonly number[] {
  let first = position;
  while (first > 0 && isCitedBelow(turn, first - 1)) first -= 1;
  return turn.sentences.slice(first, position + 1).map(({ index }) => index);
}

function AnswerPiece({ group, turn, inline }: PieceProps) {
  const sentence = group.span === null ? undefined : turn.sentences[group.span];
  const drawn = drawDoubted(group.runs, sentence, turn, inline);
  if (sentence === undefined) return <>{drawn}</>;
  const Words = sentence.is_key === true ? "mark" : "span";
  return (
    <span class={sentence.support === "unsupported" ? "sentence unsupported" : "sentence"}>
      <Words class="sentence-text">{drawn}</Words>
      {group.isLast && <Marks sentence={sentence} turn={turn} />}
      {group.isLast && <Withheld sentences={withheldAfter(turn, group.span ?? -1)} />}
    </span>
  );
}

/** The withheld sentences between the shown sentence at a position and the next shown one; -1: before the first. */
function withheldAfter({ sentences }: Turn, position: number): readonly SentenceEnded[] {
  const next = sentences.findIndex(({ detail }, index) => index > position && detail !== "withheld");
  return sentences.slice(position + 1, next === -1 ? undefined : next);
}

/** In the place of sentences that are not shown. */
function Withheld({ sentences }: { sentences: readonly SentenceEnded[] }) {
  return (
    <>
      {sentences.map(({ index, values = [] }) => (
        <span key={index} class="withheld" role="note">
          A sentence was withheld: it states{" "}
          {values.length === 0 ? "something" : values.map((value) => `“${value}”`).join(", ")}, which no source of this
          answer holds.
        </span>
      ))}
    </>
  );
}

/** Runs of a sentence, the words underlined that a model's check names. */
function drawDoubted(runs: Runs, sentence: TurnSentence | undefined, turn: Turn, inline: Inline): ComponentChildren {
  const words = sentence?.check?.words ?? "";
  if (sentence === undefined || words === "") return drawWithElements(runs, turn, inline);
  const [start, end] = utf16Span(turn.text, [sentence.start, sentence.end]);
  const at = turn.text.slice(start, end).indexOf(words);
  const doubted: Span[] = at < 0 ? [] : [[start + at, start + at + words.length]];
  return runs.flatMap((run) => cut(run, doubted)).map(([run, index], place) => {
    const drawn = drawWithElements([run], turn, inline);
    return index === null ? drawn : <u key={place}>{drawn}</u>;
  });
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

function Marks({ sentence, turn }: { sentence: TurnSentence; turn: Turn }): ComponentChildren {
  const position = turn.sentences.indexOf(sentence);
  return (
    <>
      {sentence.is_key === true && <span class="visually-hidden"> (this line matters most)</span>}
      {sentence.support === "unsupported" && <Warning sentence={sentence} turn={turn} />}
      {!isCitedBelow(turn, position) && (
        <Citations numbers={sentence.citations} turn={turn} sentences={citedHere(turn, position)} />
      )}
    </>
  );
}

function Warning({ sentence, turn }: { sentence: TurnSentence; turn: Turn }) {
  const { reasons: codes = [], detail, check, index } = sentence;
  const reasons = codes.map((reason) => REASONS[reason] ?? reason.replaceAll("_", " "));
  const source = turn.sources.find(({ n, kind }) => n === check?.cited?.n && kind !== "approved");
  return (
    <span class="flag">
      <Icon name="alert" /> {detail === "check" ? "Check with the source" : "Not supported"}
      {reasons.length > 0 && `: ${reasons.join(", ")}`}
      {check !== undefined && check.verdict !== "held" && `. ${VERDICTS[check.verdict]}`}
      {source !== undefined && <Citations numbers={[source.n]} turn={turn} sentences={[index]} />}
    </span>
  );
}
