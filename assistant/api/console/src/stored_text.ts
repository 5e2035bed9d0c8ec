/** The stored text of a document as blocks, and which of it an answer used. */
import { type Block, readMarkdown } from "./markdown.ts";
import { type Span, findQuotes } from "./spans.ts";
import { textAt, utf16Span } from "./text.ts";
import type { Turn } from "./turn.ts";
import type { DocumentText } from "./wire.ts";

/** Headings are the lines between sections; lists and steps are drawn from their marks. */
export function blocksOf({ text, sections }: DocumentText): Block[] {
  if (sections.length === 0) return withoutGaps(readMarkdown(text, { hasInline: false }));
  const blocks: Block[] = [];
  let at = 0;
  for (const { headings, start, end } of sections) {
    const [from, to] = utf16Span(text, [start, end]);
    blocks.push(...headingsIn(text, [at, from], headings.length));
    blocks.push(...readMarkdown(text.slice(from, to), { hasInline: false, offset: from }));
    at = Math.max(at, to);
  }
  blocks.push(...headingsIn(text, [at, text.length], 1));
  return withoutGaps(blocks);
}

/** The lines of a stretch as headings; the last of them has the given depth. */
function headingsIn(text: string, [from, to]: Span, depth: number): Block[] {
  const lines = [...text.slice(from, to).matchAll(/[^\n]*\S[^\n]*/g)];
  return lines.map(({ 0: line, index }, n) => {
    const start = from + index;
    const look = { isStrong: false, isEmphasis: false, isCode: false, href: null };
    const run = { text: line, start, end: start + line.length, ...look };
    return { kind: "heading", depth: Math.max(1, depth - (lines.length - 1 - n)), runs: [run] };
  });
}

/** No heading is more than one level below the one before it. */
function withoutGaps(blocks: readonly Block[]): Block[] {
  let before = 0;
  return blocks.map((block) => {
    if (block.kind !== "heading") return block;
    before = Math.min(block.depth, before + 1);
    return { ...block, depth: before };
  });
}

/** The sentences of an answer that a source is cited for and that stand in its passage word for word. */
export function quotesIn(stored: DocumentText, turn: Turn | null, n: number): Span[] {
  if (stored.span === null || turn === null) return [];
  const cited = turn.sentences.filter(({ citations }) => citations.includes(n));
  const quotes = cited.map(({ start, end }) => textAt(turn.text, [start, end]));
  return findQuotes(stored.text, quotes, utf16Span(stored.text, stored.span));
}

/** "Section 3 of 7: Steps": where in the document the passage stands. */
export function whereabouts({ sections, span, title }: DocumentText): string | null {
  if (span === null || sections.length < 2) return null;
  const index = sections.findLastIndex(({ start }) => start <= span[0]);
  const section = sections[Math.max(0, index)];
  if (section === undefined) return null;
  const headings = section.headings[0] === title ? section.headings.slice(1) : section.headings;
  const place = `Section ${Math.max(0, index) + 1} of ${sections.length}`;
  return headings.length === 0 ? place : `${place}: ${headings.join(" › ")}`;
}
