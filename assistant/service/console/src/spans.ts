/** Finding spans of a source again in the runs that were read from it: sentences, passages, quotes. */
import type { Block, Run, Runs } from "./markdown.ts";

/** [start, end) in UTF-16 offsets of the source. */
export type Span = readonly [number, number];

/** Runs beside each other that belong to the same span. */
export interface Group {
  readonly runs: Runs;
  /** Index of the span; null outside all of them. */
  readonly span: number | null;
  /** Whether the span ends here, as far as it can be seen. */
  readonly isLast: boolean;
}

export type Groups = ReadonlyMap<Runs, readonly Group[]>;

/** Cut every run of the blocks at the borders of the spans, which are in order and apart from each other. */
export function groupBySpan(blocks: readonly Block[], spans: readonly Span[]): Groups {
  const groups = new Map<Runs, { runs: Run[]; span: number | null; isLast: boolean }[]>();
  const last = new Map<number, { isLast: boolean }>();
  for (const runs of leavesOf(blocks)) {
    const found: { runs: Run[]; span: number | null; isLast: boolean }[] = [];
    for (const [run, span] of runs.flatMap((run) => cut(run, spans))) {
      const group = found.at(-1);
      if (group !== undefined && group.span === span) group.runs.push(run);
      else found.push({ runs: [run], span, isLast: false });
    }
    for (const group of found) if (group.span !== null) last.set(group.span, group);
    groups.set(runs, found);
  }
  for (const group of last.values()) group.isLast = true;
  return groups;
}

/** Every piece of text of the blocks, in order of reading. */
export function leavesOf(blocks: readonly Block[]): Runs[] {
  return blocks.flatMap((block) => {
    switch (block.kind) {
      case "list":
        return block.items.flatMap((item) => leavesOf(item.blocks));
      case "table":
        return [...block.head, ...block.rows.flat()];
      case "quote":
        return leavesOf(block.blocks);
      case "rule":
        return [];
      default:
        return [block.runs];
    }
  });
}

/** The blocks, each run replaced by what it becomes. */
export function withRuns(blocks: readonly Block[], become: (run: Run) => readonly Run[]): Block[] {
  const all = (runs: Runs) => runs.flatMap(become);
  return blocks.map((block) => {
    switch (block.kind) {
      case "list":
        return { ...block, items: block.items.map((item) => ({ ...item, blocks: withRuns(item.blocks, become) })) };
      case "table":
        return { ...block, head: block.head.map(all), rows: block.rows.map((row) => row.map(all)) };
      case "quote":
        return { ...block, blocks: withRuns(block.blocks, become) };
      case "rule":
        return block;
      default:
        return { ...block, runs: all(block.runs) };
    }
  });
}

/** The run in pieces that lie in one span or in none, each with the index of its span. */
export function cut(run: Run, spans: readonly Span[]): [Run, number | null][] {
  // text that is not its source (an entity, an address) is not cut
  if (run.text.length !== run.end - run.start) return [[run, spanAt(run.start, spans)]];
  const borders = spans.flat().filter((border) => border > run.start && border < run.end);
  const points = [run.start, ...new Set(borders), run.end].sort((a, b) => a - b);
  return points.slice(1).map((end, index) => {
    const start = points[index] ?? run.start;
    const text = run.text.slice(start - run.start, end - run.start);
    return [{ ...run, text, start, end }, spanAt(start, spans)];
  });
}

function spanAt(offset: number, spans: readonly Span[]): number | null {
  const index = spans.findIndex(([start, end]) => start <= offset && offset < end);
  return index === -1 ? null : index;
}

/**
 * Where quotes stand in a text, in order and merged: compared by letters and digits alone, for a quote has the
 * marks of Markdown and other white space. A quote that is not in `within` is left out.
 */
export function findQuotes(text: string, quotes: readonly string[], within: Span): Span[] {
  const { letters, places } = lettersOf(text.slice(...within));
  const found = quotes.flatMap((quote): Span[] => {
    const wanted = lettersOf(quote).letters;
    const at = wanted === "" ? -1 : letters.indexOf(wanted);
    const [first, last] = [places[at], places[at + wanted.length - 1]];
    if (first === undefined || last === undefined) return [];
    return [[within[0] + first[0], withEndMark(text, within[0] + last[1])]];
  });
  return merged(found.sort((a, b) => a[0] - b[0]));
}

/** The letters and digits of a text, and the place [start, end) of each. */
function lettersOf(text: string): { letters: string; places: Span[] } {
  const places: Span[] = [];
  let letters = "";
  for (const { 0: letter, index } of text.matchAll(/[\p{L}\p{N}]/gu)) {
    const folded = letter.toLowerCase();
    for (let n = 0; n < folded.length; n += 1) places.push([index, index + letter.length]);
    letters += folded;
  }
  return { letters, places };
}

/** The full stop belongs to the sentence that it ends. */
function withEndMark(text: string, end: number): number {
  return end + (/^[.!?)"”’]+/.exec(text.slice(end))?.[0].length ?? 0);
}

/** Spans in order of their beginnings; those that touch are one. */
export function merged(spans: readonly Span[]): Span[] {
  const out: [number, number][] = [];
  for (const [start, end] of spans) {
    const before = out.at(-1);
    if (before !== undefined && start <= before[1]) before[1] = Math.max(before[1], end);
    else out.push([start, end]);
  }
  return out;
}
