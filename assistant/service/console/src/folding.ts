/** Folding lines of a quote that are far from what matters. */
import type { Block, ListItem, Run } from "./markdown.ts";
import { type Span, cut, leavesOf } from "./spans.ts";

/** The blocks, lists and paragraphs cut where lines that may be folded begin and end. `folded`: spans of these. */
export function cutAtFolds(blocks: readonly Block[], folded: readonly Span[]): Block[] {
  if (folded.length === 0) return [...blocks];
  return blocks.flatMap((block): Block[] => {
    if (block.kind === "list") {
      const state = (item: ListItem) => item.blocks.every((inner) => isFolded(inner, folded));
      return groups(block.items, state).map((items) => ({ ...block, items }));
    }
    if (block.kind !== "paragraph") return [block];
    let before = false;
    const state = ([run, index]: [Run, number | null]) => (before = run.text.trim() === "" ? before : index !== null);
    const pieces = groups(block.runs.flatMap((run) => cut(run, folded)), state);
    return pieces.map((piece) => ({ ...block, runs: piece.map(([run]) => run) }));
  });
}

/** Whether a block is nothing but lines that may be folded. */
export function isFolded(block: Block, folded: readonly Span[]): boolean {
  const runs = leavesOf([block]).flat().filter(({ text, start }) => text.trim() !== "" && start >= 0);
  return (
    runs.length > 0 &&
    block.kind !== "heading" &&
    runs.every((run) => folded.some(([start, end]) => start <= run.start && run.end <= end))
  );
}

/** How many lines lie in the blocks. */
export function linesIn(blocks: readonly Block[], folded: readonly Span[]): number {
  const runs = leavesOf(blocks).flat();
  return folded.filter(([start, end]) => runs.some((run) => start < run.end && run.start < end)).length;
}

/** Neighbours of one state, together. */
export function groups<T>(all: readonly T[], stateOf: (one: T) => boolean): T[][] {
  const found: T[][] = [];
  let before: boolean | null = null;
  for (const one of all) {
    const state = stateOf(one);
    if (state === before) found.at(-1)?.push(one);
    else found.push([one]);
    before = state;
  }
  return found;
}
