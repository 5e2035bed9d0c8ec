import assert from "node:assert/strict";
import { test } from "node:test";
import { renderToString } from "preact-render-to-string";
import { Compared } from "../src/views/release_dialog.tsx";
import type { WaitingContent } from "../src/wire.ts";

const CONTENT: WaitingContent = {
  ...{ title: "Refill", content: "Wait two days.", labels: [], url: null, source: "handbook", questions: [] },
};
const WAITING = { content_hash: "a", brought_by: "olga", document: CONTENT, answered: null };

test("what waits is shown whole where nothing answered before", () => {
  const html = renderToString(<Compared waiting={WAITING} />);
  assert.match(html, /Nothing of it answered before.*readable for every agent/);
  assert.match(html, /Refill\nhandbook\n\nWait two days\./);
});

test("what changed of the content that answered is marked, its address too", () => {
  const before = { ...CONTENT, labels: ["hr"], content: "Wait five days.", url: "https://a.example/x" };
  const html = renderToString(<Compared waiting={{ ...WAITING, answered: before }} />);
  assert.match(html, /readable for every agent, and was for hr/);
  assert.match(html, /<del>.*https:\/\/a\.example\/x/);
  assert.match(html, /<del>.*five<.*<ins>.*two</s);
});
