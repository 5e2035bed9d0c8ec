import assert from "node:assert/strict";
import { test } from "node:test";
import { age, answerPieces, aroundSpan, safeHref, utf16Offset } from "../src/text.ts";
import type { Sentence } from "../src/wire.ts";

function sentence(index: number, start: number, end: number): Sentence {
  return { index, start, end, citations: [], support: "supported" };
}

test("offsets count code points, not halves of pairs", () => {
  assert.equal(utf16Offset("a😀b", 2), 3);
  assert.equal(utf16Offset("a😀b", 99), 4);
});

test("a span is cut out of a text with characters beyond the first plane", () => {
  assert.deepEqual(aroundSpan("😀 take two pills", [2, 10]), {
    before: "😀 ",
    marked: "take two",
    after: " pills",
  });
});

test("a span beyond the text marks nothing", () => {
  assert.deepEqual(aroundSpan("short", [10, 20]), { before: "short", marked: "", after: "" });
});

test("an answer falls into its sentences and what is still being written", () => {
  const pieces = answerPieces("One 😀. Two.\nThr", [sentence(0, 0, 6), sentence(1, 7, 11)]);
  assert.deepEqual(
    pieces.map(({ text, sentence: found }) => [text, found?.index ?? null]),
    [
      ["One 😀.", 0],
      [" ", null],
      ["Two.", 1],
      ["\nThr", null],
    ],
  );
});

test("pieces put together are the answer, whatever the offsets", () => {
  const text = "Some answer.";
  for (const sentences of [[sentence(0, 5, 3)], [sentence(0, 0, 99)], [sentence(0, 4, 8), sentence(1, 2, 6)]]) {
    assert.equal(answerPieces(text, sentences).map((piece) => piece.text).join(""), text);
  }
});

test("only addresses of web pages become links", () => {
  assert.equal(safeHref("https://intranet.example/a?b"), "https://intranet.example/a?b");
  for (const url of [
    null,
    "",
    "/relative",
    "javascript:alert(1)",
    " javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "blob:https://a/b",
  ]) {
    assert.equal(safeHref(url), null);
  }
});

test("the age of a date is told in days, months and years", () => {
  const now = new Date(2026, 10, 20, 9);
  assert.equal(age("2026-11-20", now), "today");
  assert.equal(age("2026-11-19", now), "yesterday");
  assert.equal(age("2026-03-20", now), "8 months ago");
  assert.equal(age("2023-11-20", now), "3 years ago");
  assert.equal(age(new Date(2026, 10, 19, 23).toISOString(), now), "yesterday");
});
