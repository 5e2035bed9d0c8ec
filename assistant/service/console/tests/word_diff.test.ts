import assert from "node:assert/strict";
import { test } from "node:test";
import { sharedPart, wordDiff } from "../src/word_diff.ts";

/** "stays -removed- +added+". */
function drawn(before: string, after: string): string {
  const marks = { same: "", removed: "-", added: "+" };
  return wordDiff(before, after)
    .map(({ kind, text }) => `${marks[kind]}${text.trim()}${marks[kind]}`)
    .join(" ");
}

test("a changed word is removed and added in its place", () => {
  assert.equal(drawn("Take 5 mg a day.", "Take 10 mg a day."), "Take -5- +10+ mg a day.");
});

test("words before, between and after changes stay", () => {
  assert.equal(drawn("a b c d e", "x a c d y"), "+x+ a -b- c d -e- +y+");
});

test("another spacing is no change", () => {
  assert.deepEqual(wordDiff("one  two\nthree", "one two three"), [{ kind: "same", text: "one two three" }]);
});

test("changes beside each other are one removal and one addition", () => {
  assert.equal(drawn("keep old words here", "keep new things here"), "keep -old words- +new things+ here");
});

test("empty texts have no words", () => {
  assert.equal(drawn("", "all new"), "+all new+");
  assert.equal(drawn("all gone", ""), "-all gone-");
  assert.deepEqual(wordDiff("", ""), []);
});

test("the pieces that stay or are added make the text that was sent", () => {
  const sent = "First line.\n\n- a point\n- another";
  const pieces = wordDiff("First line.\n\n- a dot\n- another one", sent);
  assert.equal(pieces.filter(({ kind }) => kind !== "removed").map(({ text }) => text).join(""), sent);
});

test("a middle too long to compare is replaced whole", () => {
  const long = (word: string) => Array.from({ length: 3_000 }, (_, n) => `${word}${n}`).join(" ");
  const kinds = wordDiff(`same ${long("a")}`, `same ${long("b")}`).map(({ kind }) => kind);
  assert.deepEqual(kinds, ["same", "removed", "added"]);
});

test("a word that stays between long changes is part of them", () => {
  const before = "one two three four the five six seven eight";
  const after = "uno due tre quattro the cinque sei sette otto";
  assert.deepEqual(wordDiff(before, after).map(({ kind }) => kind), ["removed", "added"]);
});

test("the shared part counts words of what was sent", () => {
  assert.equal(sharedPart(wordDiff("a b c d", "a b x y")), 0.5);
  assert.equal(sharedPart(wordDiff("a", "")), 0);
});
