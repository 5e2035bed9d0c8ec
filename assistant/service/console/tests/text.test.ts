import assert from "node:assert/strict";
import { test } from "node:test";
import { age, factsLine, inForce, openInstead, phoneIn, safeHref, textAt, utf16Offset } from "../src/text.ts";

test("offsets count code points, not halves of pairs", () => {
  assert.equal(utf16Offset("a😀b", 2), 3);
  assert.equal(utf16Offset("a😀b", 99), 4);
});

test("a span is cut out of a text with characters beyond the first plane", () => {
  assert.equal(textAt("😀 take two pills", [2, 10]), "take two");
});

test("a span beyond the text is empty", () => {
  assert.equal(textAt("short", [10, 20]), "");
});

test("a document is in force since a day that has come, from one that has not", () => {
  const now = new Date(2026, 10, 20, 9);
  assert.equal(inForce("2026-04-13", now), "in force since 13 Apr 2026");
  assert.equal(inForce("2027-01-01", now), "in force from 1 Jan 2027");
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

test("an address of a sample publisher opens what the demo serves", () => {
  openInstead({ "https://procedures.example/": "http://127.0.0.1:1/procedures/" });
  assert.equal(safeHref("https://procedures.example/cold"), "http://127.0.0.1:1/procedures/cold");
  assert.equal(safeHref("https://cancer.example/cold"), "https://cancer.example/cold");
  openInstead({});
});

test("the age of a date is given in days, months and years", () => {
  const now = new Date(2026, 10, 20, 9);
  assert.equal(age("2026-11-20", now), "today");
  assert.equal(age("2026-11-19", now), "yesterday");
  assert.equal(age("2026-03-20", now), "8 months ago");
  assert.equal(age("2023-11-20", now), "3 years ago");
  assert.equal(age(new Date(2026, 10, 19, 23).toISOString(), now), "yesterday");
});

test("a shop's fields are one line, and what is not known is left out", () => {
  const none = { price: null, currency: null, rating: null, ratings: null, helpful_votes: null, verified: null };
  const item = { ...none, price: "59.00", currency: "USD", rating: 4.4, ratings: 11 };
  const review = { ...none, rating: 5, helpful_votes: 3, verified: true };
  assert.equal(factsLine(item), "59.00 USD · 4.4 of 5 stars, 11 ratings");
  assert.equal(factsLine(review), "5 of 5 stars · 3 found it helpful · bought here");
  assert.equal(factsLine({ ...none, helpful_votes: 0, verified: false }), "");
});

test("the first phone number of a text has an address to call, and nothing else of it", () => {
  const addresses = [
    "988 (24/7)",
    "Poison Control 1-800-222-1222 or 911",
    "+1 (800) 222-1222",
    "Pharmacist on duty, ext. 4200, 8 to 17",
    "open 24/7",
  ].map((text) => phoneIn(text)?.href);
  assert.deepEqual(addresses, ["tel:988", "tel:18002221222", "tel:+18002221222", "tel:4200", undefined]);
});
