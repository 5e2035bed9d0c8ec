/** How a sent text differs from the text that was shown, word by word. */

export interface Piece {
  readonly kind: "same" | "removed" | "added";
  /** Words with the white space after them. */
  readonly text: string;
}

/** Comparisons of words in the middle of two texts, past which the middle counts as replaced whole. */
const COMPARISON_LIMIT = 4_000_000;

const ISLAND_WORDS = 2;
const LONG_CHANGE_WORDS = 4;

/** Pieces in order of reading: what was removed before what was added in its place. */
export function wordDiff(before: string, after: string): Piece[] {
  const [old, now] = [wordsOf(before), wordsOf(after)];
  const shorter = Math.min(old.length, now.length);
  let head = 0;
  while (head < shorter && isSame(old[head], now[head])) head += 1;
  let tail = 0;
  while (tail < shorter - head && isSame(old.at(-1 - tail), now.at(-1 - tail))) tail += 1;
  const middle = compare(old.slice(head, old.length - tail), now.slice(head, now.length - tail));
  const pieces = [
    ...now.slice(0, head).map((text): Piece => ({ kind: "same", text })),
    ...middle,
    ...now.slice(now.length - tail).map((text): Piece => ({ kind: "same", text })),
  ];
  return joined(withoutIslands(joined(pieces)));
}

/** How much of what was sent stood in what was shown, in words: 0 to 1. */
export function sharedPart(pieces: readonly Piece[]): number {
  const words = { same: 0, removed: 0, added: 0 };
  for (const { kind, text } of pieces) words[kind] += wordsOf(text).length;
  const sent = words.same + words.added;
  return sent === 0 ? 0 : words.same / sent;
}

/** A word or two that two unlike texts share by chance, between long changes, are not worth a stop of the eye. */
function withoutIslands(pieces: readonly Piece[]): Piece[] {
  const changed = (from: number, step: 1 | -1): number => {
    let words = 0;
    for (let at = from; pieces[at] !== undefined && pieces[at]?.kind !== "same"; at += step) {
      words += wordsOf(pieces[at]?.text ?? "").length;
    }
    return words;
  };
  return pieces.flatMap((piece, at): Piece[] => {
    const length = wordsOf(piece.text).length;
    const isIsland = length <= ISLAND_WORDS && Math.min(changed(at - 1, -1), changed(at + 1, 1)) >= LONG_CHANGE_WORDS;
    if (piece.kind !== "same" || !isIsland) return [piece];
    return [
      { kind: "removed", text: piece.text },
      { kind: "added", text: piece.text },
    ];
  });
}

/** Words with the white space that follows them. White space at the beginning is dropped. */
function wordsOf(text: string): string[] {
  return text.trimStart().match(/\S+\s*/g) ?? [];
}

function isSame(a: string | undefined, b: string | undefined): boolean {
  return a?.trimEnd() === b?.trimEnd();
}

/** The longest common subsequence of words is what stayed. */
function compare(old: readonly string[], now: readonly string[]): Piece[] {
  const removed = old.map((text): Piece => ({ kind: "removed", text }));
  const added = now.map((text): Piece => ({ kind: "added", text }));
  if (old.length === 0 || now.length === 0 || old.length * now.length > COMPARISON_LIMIT) return [...removed, ...added];
  const width = now.length + 1;
  const common = new Uint32Array((old.length + 1) * width);
  const at = (i: number, j: number) => common[i * width + j] ?? 0;
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      common[i * width + j] = isSame(old[i], now[j]) ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const pieces: Piece[] = [];
  let [i, j] = [0, 0];
  while (i < old.length && j < now.length) {
    if (isSame(old[i], now[j])) {
      pieces.push({ kind: "same", text: now[j] ?? "" });
      i += 1;
      j += 1;
    } else if (at(i + 1, j) >= at(i, j + 1)) {
      pieces.push({ kind: "removed", text: old[i] ?? "" });
      i += 1;
    } else {
      pieces.push({ kind: "added", text: now[j] ?? "" });
      j += 1;
    }
  }
  return [...pieces, ...removed.slice(i), ...added.slice(j)];
}

/** Pieces of one kind beside each other become one; between two that stayed, removals come before additions. */
function joined(pieces: readonly Piece[]): Piece[] {
  const out: Piece[] = [];
  let change: Record<"removed" | "added", string> = { removed: "", added: "" };
  const flush = () => {
    for (const kind of ["removed", "added"] as const) if (change[kind] !== "") out.push({ kind, text: change[kind] });
    change = { removed: "", added: "" };
  };
  for (const { kind, text } of pieces) {
    if (kind !== "same") {
      change[kind] += text;
      continue;
    }
    flush();
    const last = out.at(-1);
    if (last?.kind === "same") out[out.length - 1] = { kind, text: last.text + text };
    else out.push({ kind, text });
  }
  flush();
  return out;
}
