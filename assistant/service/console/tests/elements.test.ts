import assert from "node:assert/strict";
import { test } from "node:test";
import { sentencesOf } from "../src/lines.ts";
import {
  keptElement,
  liveSpans,
  liveTexts,
  sourceAndTime,
  withElement,
  withValues,
  withoutValues,
  wordsOf,
} from "../src/elements.ts";
import { afterEvent, newTurn } from "../src/turn.ts";
import type { Element, ElementUse, LiveText, SentenceEnded } from "../src/wire.ts";

const LABEL = "[order status]";

function said(value: string): LiveText {
  return { element_id: "e1", value, mac: `1.${value.length}` };
}

export function element(text: string, changes: Partial<Element> = {}): Element {
  const before = text.indexOf(LABEL);
  const start = [...text.slice(0, Math.max(0, before))].length;
  return {
    id: "e1",
    name: "orders.status",
    kind: "status",
    state: "ready",
    title: "Order status",
    source: "orders",
    as_of: null,
    about: "order 4471-2208",
    data: { values: [{ name: "status", label: "Status", text: "Shipped" }] },
    problem: null,
    detail: "",
    retryable: false,
    display: { place: "inline", start, end: start + (before === -1 ? 0 : LABEL.length) },
    texts: [said("Shipped")],
    ...changes,
  };
}

function sentence(text: string, part: string): SentenceEnded {
  const start = [...text.slice(0, text.indexOf(part))].length;
  return { index: 0, start, end: start + [...part].length, citations: [1], support: "supported" };
}

test("a later state of an element takes the place of the one before", () => {
  const pending = element("", { state: "pending", data: null });
  const ready = element("");
  const other = element("", { id: "e2" });
  assert.deepEqual(withElement([pending, other], ready), [ready, other]);
  assert.deepEqual(withElement([ready], other), [ready, other]);
});

test("an element event changes the turn and not its text", () => {
  const written = afterEvent(newTurn("key", "Where?"), { event: "token", data: { text: `It is ${LABEL}.` } });
  const turn = afterEvent(written, { event: "element", data: element(written.text) });
  assert.equal(turn.text, written.text);
  assert.deepEqual(turn.elements.map(({ state }) => state), ["ready"]);
});

test("a reply has the values in the places of their labels, counted in code points", () => {
  const text = `😀 The parcel is ${LABEL}. Call the desk.`;
  const sentences = [sentence(text, `😀 The parcel is ${LABEL}.`), sentence(text, "Call the desk.")];
  const filled = withValues({ text, sentences }, [element(text)]);
  assert.equal(filled.text, "😀 The parcel is Shipped. Call the desk.");
  const letters = [...filled.text];
  const parts = filled.sentences.map(({ start, end }) => letters.slice(start, end).join(""));
  assert.deepEqual(parts, ["😀 The parcel is Shipped.", "Call the desk."]);
});

test("the lines say the live value, and leaves out the sentence of one that did not come", () => {
  const text = `The parcel is ${LABEL}. Call the desk.`;
  const turn = {
    ...newTurn("key", "Where?"),
    text,
    sentences: [sentence(text, `The parcel is ${LABEL}.`), sentence(text, "Call the desk.")],
    phase: "finished" as const,
    finishReason: "stop" as const,
  };
  assert.equal(sentencesOf({ ...turn, elements: [element(text)] }), "The parcel is Shipped. Call the desk.");
  const failed = element(text, { state: "failed", data: null });
  assert.equal(sentencesOf({ ...turn, elements: [failed] }), "Call the desk.");
  const asTable = element(text, { kind: "table" });
  assert.equal(sentencesOf({ ...turn, elements: [asTable] }), "Call the desk.");
});

test("two elements that claim the same words do not double them", () => {
  const text = `It is ${LABEL}.`;
  const filled = withValues({ text, sentences: [] }, [element(text), element(text, { id: "e2" })]);
  assert.equal(filled.text, "It is Shipped.");
});

test("an element is one line of words", () => {
  const values = [
    { name: "status", label: "Status", text: "Shipped" },
    { name: "next", label: "Next fill", text: "24 Nov 2026" },
  ];
  assert.equal(wordsOf(element("", { kind: "card", data: { values } })), "Status Shipped, Next fill 24 Nov 2026");
  assert.equal(wordsOf(element("", { data: null, state: "failed" })), "");
});

test("the source stands with its time, a document's with its day", () => {
  assert.match(sourceAndTime(element("", { as_of: "2026-11-21T14:02:00Z" })), /^orders, \d\d:\d\d$/);
  assert.equal(sourceAndTime(element("", { as_of: "2026-11-03", source: "catalogue" })), "catalogue, 3 Nov 2026");
  assert.equal(sourceAndTime(element("")), "orders");
});

test("a record's element has no values, and says that they are not kept", () => {
  const { id, name, kind, title, source, as_of, display } = element("");
  const use: ElementUse = { id, name, kind, title, source, as_of, display, state: "ready", problem: null };
  const kept = keptElement(use);
  assert.deepEqual([kept.state, kept.data, kept.retryable], ["failed", null, false]);
  assert.match(kept.detail, /not kept/);
});

test("a sent text names where it has live values, whole words alone, in code points", () => {
  const words = liveTexts([element("")]);
  const text = "😀 Shipped! It was (Shipped), not Shippedness.";
  const spans = liveSpans(text, words);
  assert.deepEqual(spans, [
    { element_id: "e1", start: 2, end: 9, mac: "1.7" },
    { element_id: "e1", start: 19, end: 26, mac: "1.7" },
  ]);
  assert.equal(withoutValues(text, words, [element("")]), "😀 [Order status]! It was ([Order status]), not Shippedness.");
});

test("a whole card is one place, and its single values are found where they stand alone", () => {
  const texts = ["Status Shipped, Next fill 24 Nov 2026", "Shipped", "24 Nov 2026"].map(said);
  const spans = liveSpans("Status Shipped, Next fill 24 Nov 2026. So on 24 Nov 2026.", texts);
  assert.deepEqual(spans.map(({ start, end, mac }) => [start, end, mac]), [[0, 37, "1.37"], [45, 56, "1.11"]]);
  assert.deepEqual(liveTexts([element("", { data: null, state: "failed" })]), []);
});
