import assert from "node:assert/strict";
import { test } from "node:test";
import { sentencesOf } from "../src/lines.ts";
import { readMarkdown } from "../src/markdown.ts";
import { withTables } from "../src/tables.ts";
import { afterEvent, newTurn } from "../src/turn.ts";
import type { QuotedRow, SentenceEnded } from "../src/wire.ts";

const LINES = ["Northern plans", "Plan: 😀 Basic; Days: 3", "Plan: Gold; Limit: none", "Ask a pharmacist."];
const TEXT = LINES.map((line) => `- ${line}`).join("\n");

/** The row on a line of `TEXT`, its cells by what they say; offsets in code points. */
function row(n: number, cells: readonly (readonly [string, string])[], is_key = false): QuotedRow {
  const letters = (text: string) => [...text].length;
  const start = letters(LINES.slice(0, n).map((line) => `- ${line}\n`).join("")) + 2;
  const line = LINES[n] ?? "";
  const at = (part: string): [number, number] => {
    const first = start + letters(line.slice(0, line.indexOf(part)));
    return [first, first + letters(part)];
  };
  const placed = cells.map(([name, value]) => ({ name: name === "" ? ([start, start] as const) : at(name), value: at(value), is_key }));
  return { start, end: start + letters(line), is_key, cells: placed };
}

const ROWS = [
  row(0, [["", "Northern plans"]]),
  row(1, [["Plan", "😀 Basic"], ["Days", "3"]], true),
  row(2, [["Plan", "Gold"], ["Limit", "none"]]),
];

test("rows are a table by their columns' names, with titles across and other lines as a list", () => {
  const [table, list] = withTables(readMarkdown(TEXT, { hasInline: false }), TEXT, ROWS);
  assert.equal(table?.kind, "table");
  if (table?.kind !== "table") return;
  const words = (cells: readonly (readonly { text: string }[])[]) => cells.map((runs) => runs.map(({ text }) => text).join(""));
  assert.deepEqual(words(table.head), ["Plan", "Days", "Limit"]);
  assert.deepEqual(table.rows.map(words), [["Northern plans"], ["😀 Basic", "3", ""], ["Gold", "", "none"]]);
  assert.deepEqual(table.keys?.map((keys) => [keys.row, ...keys.cells]), [[false, false], [true, true, true, false], [false, false, false, false]]);
  assert.equal(list?.kind, "list");
});

test("a table is copied as lines below its columns' names", () => {
  const sentences = ROWS.map((one, index): SentenceEnded => ({ ...one, index, citations: [1], support: "supported", quote: "shown" }));
  const turn = { ...afterEvent(newTurn("t", "?"), { event: "token", data: { text: TEXT } }), sentences };
  assert.equal(sentencesOf(turn), "Plan | Days | Limit\nNorthern plans\n😀 Basic | 3 | \nGold |  | none");
});
