/** The stored text of a document as blocks, and which of it an answer used. */
import { type Block, readMarkdown } from "./markdown.ts";
import { type Span, cut, findQuotes, merged, withRuns } from "./spans.ts";
import { nameOf, placesIn, runOf } from "./tables.ts";
import { safeHref, textAt, utf16Span, utf16Spans } from "./text.ts";
import type { Turn } from "./turn.ts";
import type { DocumentTable, DocumentText } from "./wire.ts";

/** The blocks of a stored text, with the links that its file has. */
export function blocksOf(stored: DocumentText): Block[] {
  const { text, links } = stored;
  if (links.length === 0) return blocksWithoutLinks(stored);
  const spans = utf16Spans(text, links);
  return withRuns(blocksWithoutLinks(stored), (run) =>
    cut(run, spans).map(([part, index]) => {
      const link = index === null ? undefined : links[index];
      if (link === undefined) return part;
      return link.document_id === null ? { ...part, href: safeHref(link.url) } : { ...part, opens: link.document_id };
    }),
  );
}

/** Headings are the lines between sections; lists and steps are drawn from their marks. */
function blocksWithoutLinks({ text, sections, tables }: DocumentText): Block[] {
  if (sections.length === 0) return withoutGaps(readMarkdown(text, { hasInline: false }));
  const placed = placedTables(text, tables);
  const blocks: Block[] = [];
  let at = 0;
  for (const { headings, start, end } of sections) {
    const [from, to] = utf16Span(text, [start, end]);
    blocks.push(...headingsIn(text, [at, from], headings.length));
    blocks.push(...bodyBlocks(text, [from, to], placed));
    at = Math.max(at, to);
  }
  blocks.push(...headingsIn(text, [at, text.length], 1));
  return withoutGaps(blocks);
}

interface PlacedTable {
  /** Its lines in the text. */
  readonly span: Span;
  readonly block: Block;
}

/** The tables with their places in UTF-16 offsets. */
function placedTables(text: string, tables: readonly DocumentTable[]): PlacedTable[] {
  if (tables.length === 0) return [];
  const place = placesIn(text);
  return tables.map(({ header, rows }) => {
    const width = rows.reduce((most, { length }) => Math.max(most, length), header.length);
    const head = Array.from({ length: width }, (_, n) => nameOf(header[n] ?? ""));
    const cells = rows.map((row) =>
      row.map(([from, to]) => [runOf(text.slice(place(from), place(to)), place(from), place(to))]),
    );
    const first = place(rows[0]?.[0]?.[0] ?? 0);
    const span: Span = [text.lastIndexOf("\n", first) + 1, place(rows.at(-1)?.at(-1)?.[1] ?? 0)];
    return { span, block: { kind: "table", head, rows: cells } };
  });
}

/** A stretch of text between headings: tables as tables, the rest by its marks. */
function bodyBlocks(text: string, [from, to]: Span, tables: readonly PlacedTable[]): Block[] {
  const blocks: Block[] = [];
  let at = from;
  for (const { span, block } of tables) {
    if (span[0] < at || span[1] > to) continue;
    blocks.push(...readMarkdown(text.slice(at, span[0]), { hasInline: false, offset: at }), block);
    at = span[1];
  }
  return [...blocks, ...readMarkdown(text.slice(at, to), { hasInline: false, offset: at })];
}

/** The lines of a stretch as headings; the last of them has the given depth. */
function headingsIn(text: string, [from, to]: Span, depth: number): Block[] {
  const lines = [...text.slice(from, to).matchAll(/[^\n]*\S[^\n]*/g)];
  return lines.map(({ 0: line, index }, n) => {
    const start = from + index;
    const runs = [runOf(line, start, start + line.length)];
    return { kind: "heading", depth: Math.max(1, depth - (lines.length - 1 - n)), runs };
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

/** What to mark of a source: the units of the sentences that cite it, in order. `of`: indexes of sentences; null: all. */
export function quotesIn(stored: DocumentText, turn: Turn | null, n: number, of: readonly number[] | null): Span[] {
  if (stored.span === null || turn === null) return [];
  const citing = turn.sentences.filter(({ citations, index }) => citations.includes(n) && (of?.includes(index) ?? true));
  const units = citing.flatMap(({ cited = [] }) => cited.filter((unit) => unit.n === n));
  const spans = merged(units.map(({ start, end }): Span => [start, end]).sort((a, b) => a[0] - b[0]));
  if (spans.length > 0) return utf16Spans(stored.text, spans.map(([start, end]) => ({ start, end })));
  const quotes = citing.map(({ start, end }) => textAt(turn.text, [start, end])); // of older records
  return findQuotes(stored.text, quotes, utf16Span(stored.text, stored.span));
}

/**
 * The index of the mark with the most letters of words that the sentences have too: a sentence often cites the line
 * that introduces a list before the line that it says. `of`: indexes of sentences; null: the first mark.
 */
export function fullestOf(marks: readonly Span[], stored: DocumentText, turn: Turn | null, of: readonly number[] | null): number {
  const sentences = turn?.sentences.filter(({ index }) => of?.includes(index)) ?? [];
  const said = new Set(sentences.flatMap(({ start, end }) => wordsOf(textAt(turn?.text ?? "", [start, end]))));
  const shared = marks.map(([start, end]) =>
    [...new Set(wordsOf(stored.text.slice(start, end)))].reduce((sum, word) => sum + (said.has(word) ? word.length : 0), 0),
  );
  return Math.max(0, shared.indexOf(Math.max(...shared)));
}

function wordsOf(text: string): string[] {
  return text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}

/** "Section 3 of 7: Steps": where in the document the mark stands, else the passage. */
export function whereabouts({ text, sections, span, title }: DocumentText, mark: Span | undefined): string | null {
  if (span === null || sections.length < 2) return null;
  const at = mark?.[0] ?? utf16Span(text, span)[0];
  const index = sections.findLastIndex(({ start, end }) => utf16Span(text, [start, end])[0] <= at);
  const section = sections[Math.max(0, index)];
  if (section === undefined) return null;
  const headings = section.headings[0] === title ? section.headings.slice(1) : section.headings;
  const place = `Section ${Math.max(0, index) + 1} of ${sections.length}`;
  return headings.length === 0 ? place : `${place}: ${headings.join(" › ")}`;
}
