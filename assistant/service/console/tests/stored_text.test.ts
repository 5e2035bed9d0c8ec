import assert from "node:assert/strict";
import { test } from "node:test";
import { leavesOf } from "../src/spans.ts";
import { blocksOf } from "../src/stored_text.ts";
import type { DocumentText } from "../src/wire.ts";

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
