import assert from "node:assert/strict";
import { test } from "node:test";
import { markedLines, sentencesOf } from "../src/lines.ts";
import { type Turn, newTurn } from "../src/turn.ts";
import type { SentenceEnded } from "../src/wire.ts";

function answered(text: string, parts: readonly (readonly [string, SentenceEnded["support"]])[]): Turn {
  const sentences = parts.map(([part, support], index) => {
    const start = [...text.slice(0, text.indexOf(part))].length;
    return { index, start, end: start + [...part].length, citations: [], support };
  });
  return { ...newTurn("key", "Why?"), text, sentences, phase: "finished", finishReason: "stop" };
}

test("the lines to copy are the supported sentences, as plain text", () => {
  const text = "**Steps** 😀\n\n1. Ask **her**. Never guess.\n2. Call.\n\nUnheard of. The end.";
  const turn = answered(text, [
    ["1. Ask **her**.", "supported"],
    ["Never guess.", "unsupported"],
    ["2. Call.", "supported"],
    ["Unheard of.", "unsupported"],
    ["The end.", "supported"],
  ]);
  assert.equal(sentencesOf(turn), "1. Ask her.\n2. Call.\n\nThe end.");
});

test("a withheld sentence leaves nothing in the lines", () => {
  const turn = answered("Wait. Ask.", [["Wait.", "supported"], ["Ask.", "supported"]]);
  const withheld = { index: 1, start: 5, end: 5, citations: [], support: "unsupported", detail: "withheld" } as const;
  const [first, second] = turn.sentences as [SentenceEnded, SentenceEnded];
  assert.equal(sentencesOf({ ...turn, sentences: [first, { ...withheld, values: ["17 mg"] }, second] }), "Wait. Ask.");
});

test("a reply begins with the marked lines; without marks with all that is open, and never with a refusal", () => {
  const turn = answered("Ask. Wait. Call.", [["Ask.", "supported"], ["Wait.", "supported"], ["Call.", "supported"]]);
  const marked = turn.sentences.map((one, index) => ({ ...one, is_key: index === 1, quote: "shown" }) as const);
  assert.deepEqual(markedLines({ ...turn, sentences: marked }), { text: "Wait.", sentences: [1] });
  const folded = turn.sentences.map((one, index) => ({ ...one, quote: index === 0 ? "folded" : "shown" }) as const);
  assert.deepEqual(markedLines({ ...turn, sentences: folded }), { text: "Wait. Call.", sentences: [1, 2] });
  assert.equal(markedLines({ ...turn, finishReason: "no_evidence" }).text, "");
});
