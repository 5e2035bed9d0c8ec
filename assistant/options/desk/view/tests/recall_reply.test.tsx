import assert from "node:assert/strict";
import { test } from "node:test";
import { renderToString } from "preact-render-to-string";
import type { Api } from "@console/api.ts";
import { Reply } from "../recall_reply.tsx";
import type { Recall, RecallLine } from "../wire.ts";

const STATES = { open: "Open", told: "Told", not_needed: "Not needed" };

function drawn(line: RecallLine, more: Partial<Recall> = {}): string {
  const reply = { answer_id: "a1", conversation_id: "c1", agent: "ann", customer: null, chat: null, sent_at: "2026-11-20T08:00:00Z", document_id: "wait" };
  const item = { reply, revision: 1, at: reply.sent_at, by: "recall", note: "", state: "open", owner: null, due_on: "2026-11-23" } as const;
  const recall: Recall = { item_id: "i1", item, title: "Waiting", is_gone: false, lines: [line], conversation_url: null, ...more };
  const api = {} as unknown as Api;
  return renderToString(<Reply {...{ api, recall }} states={STATES} onChanged={() => {}} onConflict={() => {}} />);
}

test("a line then has the removed words, and the line now the added ones", () => {
  const [before = "", now = ""] = drawn({ old: "Two days.", new: "Three days." }).split("<dt>Now</dt>");
  assert.match(before, /<del>.*Two</);
  assert.doesNotMatch(before, /Three/);
  assert.match(now, /<ins>.*Three/);
  assert.doesNotMatch(now, /Two/);
});

test("words that are gone are named as gone", () => {
  const html = drawn({ old: null, new: null }, { is_gone: true });
  assert.match(html, /not stored any more/);
  assert.match(html, /Withdrawn: no line stands in its place/);
});

test("an address of a conversation that runs a script is no link", () => {
  assert.doesNotMatch(drawn({ old: "a", new: "b" }, { conversation_url: "javascript:alert(1)" }), /<a /);
});
