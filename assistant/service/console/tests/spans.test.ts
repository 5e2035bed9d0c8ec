import assert from "node:assert/strict";
import { test } from "node:test";
import { readMarkdown } from "../src/markdown.ts";
import { findQuotes, groupBySpan, leavesOf } from "../src/spans.ts";

test("a sentence over several blocks ends in the last of them", () => {
  const source = "One.\n\n- Two **bold**\n- three. Four";
  const blocks = readMarkdown(source);
  const groups = groupBySpan(blocks, [[0, 4], [6, source.indexOf(" Four")]]);
  const found = leavesOf(blocks).flatMap((runs) => groups.get(runs) ?? []);
  assert.deepEqual(
    found.map(({ runs, span, isLast }) => [runs.map(({ text }) => text).join(""), span, isLast]),
    [
      ["One.", 0, true],
      ["Two bold", 1, false],
      ["three.", 1, true],
      [" Four", null, false],
    ],
  );
});

test("a quote is found whatever its marks and white space, within the passage only", () => {
  const text = "Call us.\nCall the desk (ext. 4200).\n\nThen wait.";
  const find = (quote: string) => findQuotes(text, [quote], [9, text.length]).map((span) => text.slice(...span));
  assert.deepEqual(find("**Call the  desk** (ext. 4200)"), ["Call the desk (ext. 4200)."]);
  assert.deepEqual(find("Call us."), []);
  assert.deepEqual(find("…"), []);
});

test("quotes that overlap are marked once", () => {
  assert.deepEqual(findQuotes("one two three", ["two three", "one two"], [0, 13]), [[0, 13]]);
});
