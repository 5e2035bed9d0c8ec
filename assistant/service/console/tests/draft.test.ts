import assert from "node:assert/strict";
import { test } from "node:test";
import { draftOf, sentencesOf } from "../src/draft.ts";
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

test("what speaks to the patient is the draft, and steps for the agent never are", () => {
  const turn = answered("1. Ask.", [["1. Ask.", "supported"]]);
  assert.equal(draftOf({ ...turn, findings: { ...turn.findings, replyDraft: " Dear patient. " } }), "Dear patient.");
  assert.equal(draftOf(turn), "");
  assert.equal(draftOf({ ...turn, finishReason: "no_evidence" }), "");
});
