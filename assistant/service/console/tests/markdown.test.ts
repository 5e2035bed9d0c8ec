import assert from "node:assert/strict";
import { test } from "node:test";
import { type Block, readMarkdown, settled } from "../src/markdown.ts";
import { leavesOf } from "../src/spans.ts";

function texts(blocks: readonly Block[]): string[] {
  return leavesOf(blocks).map((runs) => runs.map(({ text }) => text).join(""));
}

test("steps keep their numbers, bold lines are headings, tables have their cells", () => {
  const blocks = readMarkdown("**Steps**\n\n4. Four\n5. **Five** it is\n\n| a | b |\n|---|---|\n| | 2 |\n");
  assert.deepEqual(
    blocks.map(({ kind }) => kind),
    ["heading", "list", "table"],
  );
  const list = blocks[1];
  assert.deepEqual(list?.kind === "list" && list.items.map(({ number }) => number), [4, 5]);
  assert.deepEqual(texts(blocks), ["Steps", "Four", "Five it is", "a", "b", "", "2"]);
});

test("every run says where it stands in the source", () => {
  const source = "# A 😀 head\n\n- one **two** `three`\n\n> four\n> five";
  for (const run of leavesOf(readMarkdown(source)).flat()) {
    assert.equal(source.slice(run.start, run.end), run.text);
  }
});

test("HTML, images and references are text as written", () => {
  const source = '<img src=x onerror=alert(1)> ![i](https://a.example/i.png) [1] <script>x</script>';
  assert.deepEqual(texts(readMarkdown(source)), [source]);
});

test("only links to listed sources are links, others are words with their web address", () => {
  const source = "[a](https://a.example/x) [b](https://b.example/) [c](javascript:alert(1))";
  const runs = leavesOf(readMarkdown(source, { links: new Set(["https://a.example/x"]) })).flat();
  assert.deepEqual(
    runs.filter(({ href }) => href !== null).map(({ text, href }) => [text, href]),
    [["a", "https://a.example/x"]],
  );
  assert.equal(runs.map(({ text }) => text).join(""), "a b (https://b.example/) c");
});

test("stored text keeps its stars and brackets", () => {
  const source = "- Take 2*3*4 of [this](x) and _that_";
  assert.deepEqual(texts(readMarkdown(source, { hasInline: false })), ["Take 2*3*4 of [this](x) and _that_"]);
});

test("no prefix of an answer shows a mark that the whole of it hides", () => {
  const whole =
    "**Steps**\n\n1. Find **the date**.\n\n   | Fill | Share |\n   |---|---|\n   | Mail | 70 |\n\n2. Queue it.\n\n- See [x](https://x.example).\n\nEnd.";
  for (let length = 0; length <= whole.length; length += 1) {
    const shown = texts(readMarkdown(settled(whole.slice(0, length)))).join("\n");
    assert.doesNotMatch(shown, /[*|[\]]|^\d|^-/, `after ${JSON.stringify(whole.slice(0, length))}`);
  }
});

test("no word of an answer that was shown goes away again", () => {
  const whole = "**Steps**\n\n1. Find **the date**.\n2. If 5 * 3 is near:\n\n| Fill | Share |\n|---|---|\n| Mail | 70 |\n\nEnd.";
  let before = 0;
  for (let length = 0; length <= whole.length; length += 1) {
    const now = texts(readMarkdown(settled(whole.slice(0, length)))).join("").replace(/\W/g, "").length;
    assert.equal(now >= before, true, `after ${JSON.stringify(whole.slice(0, length))}`);
    before = now;
  }
});
