/** Tables whose rows are lines of a text, each cell named by its column: of a quote, and of a stored text. */
import { groups } from "./folding.ts";
import type { Block, ListItem, Run, Runs } from "./markdown.ts";
import { leavesOf } from "./spans.ts";
import type { Cell, QuotedRow } from "./wire.ts";

/** What turns offsets in code points, which the service counts, into UTF-16 offsets of the text. */
export function placesIn(text: string): (codePoint: number) => number {
  const places: number[] = [];
  let length = 0;
  for (const letter of text) {
    places.push(length);
    length += letter.length;
  }
  return (codePoint) => places[codePoint] ?? text.length;
}

export function runOf(text: string, start: number, end: number): Run {
  return { text, start, end, isStrong: false, isEmphasis: false, isCode: false, href: null };
}

/** The name of a column. It has no place of its own: each line of the text repeats it. */
export function nameOf(text: string): Runs {
  return text === "" ? [] : [runOf(text, -1, -1)];
}

/** The blocks with a table in place of the items of a list that are rows of one. `rows`: those of the text. */
export function withTables(blocks: readonly Block[], text: string, rows: readonly QuotedRow[]): Block[] {
  if (!rows.some(({ cells }) => cells !== undefined)) return [...blocks];
  const at = placesIn(text);
  const read = ([start, end]: Cell["value"]) => runOf(text.slice(at(start), at(end)), at(start), at(end));
  const rowOf = (item: ListItem) => {
    const place = leavesOf(item.blocks)[0]?.[0]?.start ?? -1;
    return rows.find(({ cells, start, end }) => cells !== undefined && at(start) <= place && place < at(end));
  };
  return blocks.flatMap((block): Block[] => {
    if (block.kind !== "list") return [block];
    return groups(block.items, (item) => rowOf(item) !== undefined).map((items) => {
      const found = items.flatMap((item) => rowOf(item) ?? []);
      return found.some(({ cells = [] }) => cells.length > 1) ? tableOf(found, read) : { ...block, items };
    });
  });
}

/** Cells of one name are one column; a row of one cell without a name spans all of them. */
function tableOf(rows: readonly QuotedRow[], read: (span: Cell["value"]) => Run): Block {
  const names = new Map<string, string>();
  const keyed = rows.map(({ cells = [] }) => {
    const own = new Map<string, Cell>();
    for (const [index, cell] of cells.entries()) {
      const name = read(cell.name).text;
      let key = name || `${index}`;
      while (own.has(key)) key += "'";
      own.set(key, cell);
      if (name !== "" || cells.length > 1) names.set(key, name);
    }
    return own;
  });
  const columns = [...names.keys()];
  const cellsOf = (own: Map<string, Cell>) => {
    const [first] = own.keys();
    return first !== undefined && own.size === 1 && !names.get(first) ? [own.get(first)] : columns.map((key) => own.get(key));
  };
  return {
    kind: "table",
    head: [...names.values()].map(nameOf),
    rows: keyed.map((own) => cellsOf(own).map((cell) => (cell === undefined ? [] : [read(cell.value)]))),
    keys: keyed.map((own, n) => ({ row: rows[n]?.is_key ?? false, cells: cellsOf(own).map((cell) => cell?.is_key ?? false) })),
  };
}
