import assert from "node:assert/strict";
import { test } from "node:test";
import { renderToString } from "preact-render-to-string";
import { Receipt } from "../src/views/receipt.tsx";
import type { ReceiptPlace } from "../src/wire.ts";

const PLACE: ReceiptPlace = {
  ...{ place: "index", title: "Live index", state: "pending", found: 2 },
  ...{ what: "rows <removed>", until: null, rule: "the worker" },
};

test("a receipt shows each place with its state, its limit and its rule", () => {
  const places: ReceiptPlace[] = [
    PLACE,
    { ...PLACE, place: "snapshots", state: "remains", until: "2026-12-07T09:30:00Z" },
    { ...PLACE, place: "records", state: "remains" },
  ];
  const at = { withdrawn_at: "2026-11-23T09:30:00Z", made_at: "2026-11-23T09:31:00Z" };
  const html = renderToString(
    <Receipt receipt={{ document_id: "refill", title: "Refill", ...at, is_complete: false, places }} />,
  );
  assert.match(html, /Refill is withdrawn and answers nothing. The removal goes on./);
  assert.match(html, /Live index<\/th><td>being removed<\/td><td>rows &lt;removed> <span class="hint">the worker/);
  assert.match(html, /<td>remains until 7 Dec 2026, \d\d:30<\/td>/);
  assert.match(html, /<td>remains, no end date<\/td>/);
});
