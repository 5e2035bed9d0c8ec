import assert from "node:assert/strict";
import { test } from "node:test";
import { leavesOf } from "../src/spans.ts";
import { blocksOf, fullestOf, quotesIn, whereabouts } from "../src/stored_text.ts";
import { type Turn, newTurn } from "../src/turn.ts";
import type { CitedUnit, DocumentText, SentenceEnded } from "../src/wire.ts";

const STORED: DocumentText = {
  document_id: "pay",
  title: "Pay",
  url: null,
  source: "",
  owner: null,
  effective_date: null,
  question: null,
  text: "😀 Pay\n\n- See leave now\nA: forms; B: x",
  sections: [{ headings: ["😀 Pay"], start: 7, end: 37 }],
  span: null,
  is_cited_version: true,
  tables: [{ header: ["A", "B"], rows: [[[26, 31], [36, 37]]] }],
  original: null,
  links: [
    { start: 2, end: 5, document_id: null, url: "javascript:alert(1)" },
    { start: 13, end: 18, document_id: "leave", url: null },
    { start: 26, end: 31, document_id: null, url: "https://forms.example/" },
  ],
};

test("words of a stored text link to documents and web pages, in lists and tables too", () => {
  const linked = leavesOf(blocksOf(STORED))
    .flat()
    .filter(({ href, opens }) => href !== null || opens !== undefined)
    .map(({ text, href, opens }) => [text, opens ?? href]);
  assert.deepEqual(linked, [
    ["leave", "leave"],
    ["forms", "https://forms.example/"],
  ]);
});

test("the units of the pressed sentences are marked, and name the section; those of an older record are found by their words", () => {
  const sections = [
    { headings: ["Pay"], start: 0, end: 6 },
    { headings: ["Pay", "Leave"], start: 9, end: 24 },
  ];
  const stored: DocumentText = { ...STORED, links: [], tables: [], span: [0, 24], sections };
  const sentence = (index: number, start: number, cited: readonly CitedUnit[]): SentenceEnded => ({
    index, start, end: start + 3, citations: [1], support: "supported", cited,
  });
  const text = "A a. 😀 Pay";
  const turn = (...sentences: SentenceEnded[]): Turn => ({ ...newTurn("t", "?"), text, sentences });
  const written = turn(sentence(0, 0, [{ n: 1, start: 9, end: 12 }]), sentence(1, 4, [{ n: 1, start: 2, end: 5 }]));
  assert.deepEqual(quotesIn(stored, written, 1, [0]), [[10, 13]]);
  assert.equal(whereabouts(stored, quotesIn(stored, written, 1, [0])[0]), "Section 2 of 2: Leave");
  assert.deepEqual(quotesIn(stored, written, 1, null), [[3, 6], [10, 13]]);
  assert.deepEqual(quotesIn(stored, turn({ ...sentence(0, 5, []), end: 10 }), 1, null), [[3, 6]]);
  assert.deepEqual(quotesIn({ ...stored, span: null }, written, 1, null), []);
});

test("a source opens at the mark that says most of the pressed sentence, else at the first", () => {
  const text = "To pay, bring all of these:\nA form of leave\nA letter";
  const stored: DocumentText = { ...STORED, text, links: [], tables: [], span: [0, text.length], sections: [] };
  const said = "Bring a form of leave.";
  const turn: Turn = {
    ...newTurn("t", "?"),
    text: said,
    sentences: [{ index: 0, start: 0, end: said.length, citations: [1], support: "supported", cited: [] }],
  };
  const marks: [number, number][] = [[0, 27], [28, 43], [44, 52]];
  assert.equal(fullestOf(marks, stored, turn, [0]), 1);
  assert.equal(fullestOf(marks, stored, turn, null), 0);
  assert.equal(fullestOf([], stored, null, [0]), 0);
});
