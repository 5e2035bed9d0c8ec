import assert from "node:assert/strict";
import { test } from "node:test";
import { End, type FromHost, type FromPanel, isFromHost, isFromPanel, isHello, isReady } from "../../package/protocol.ts";
import { turnsOf } from "../../package/zendesk.ts";
import { MemoryStorage } from "../memory_storage.ts";

const CHAT = { v: 1, id: 1, type: "conversation", ticket: "T-1", turns: [{ who: "customer", text: "When?" }] };

test("each message of the page is taken as the protocol says it", () => {
  const longest = { who: "agent", text: "x".repeat(4_000), at: "2026-11-20T08:00:00Z" };
  const good = [
    CHAT,
    { ...CHAT, turns: [], context: "c".repeat(8_192) },
    { ...CHAT, turns: Array(25).fill(longest) },
    { v: 1, id: 2, type: "leave" },
    { v: 1, id: Number.MAX_SAFE_INTEGER, type: "code", code: "c" },
    { v: 1, id: 3, type: "result", of: 1, ok: false },
  ];
  for (const message of good) assert.equal(isFromHost(message), true, JSON.stringify(message).slice(0, 100));
  assert.equal(isFromHost({ ...CHAT, turns: Array(26).fill(longest) }), false);
  for (const message of good) assert.equal(isFromPanel(message), false);
});

test("a list with the fields of a message is none", () => {
  assert.equal(isFromHost(Object.assign([], CHAT)), false);
  assert.equal(isFromHost({ ...CHAT, turns: [Object.assign([], CHAT.turns[0])] }), false);
});

test("the page takes what the panel says, and nothing else", () => {
  const refused = { v: 1, id: 1, type: "refused", of: 4, why: "replay" };
  for (const message of [refused, { v: 1, id: 1, type: "sign_in" }, { v: 1, id: 1, type: "insert", text: "A" }]) {
    assert.equal(isFromPanel(message), true);
    assert.equal(isFromHost(message), false);
  }
  assert.equal(isFromPanel({ ...refused, why: "other" }), false);
  assert.equal(isFromPanel({ v: 1, id: 1, type: "insert", text: "" }), false);
  assert.equal(isFromPanel({ v: 1, id: 1, type: "insert", text: "A", ticket: "T-1" }), true);
  assert.equal(isFromPanel({ v: 1, id: 1, type: "note", text: "A", ticket: "" }), false);
});

test("the two messages between windows are exact", () => {
  assert.equal(isReady({ v: 1, type: "ready" }), true);
  assert.equal(isReady({ v: 1, type: "ready", to: "x" }), false);
  assert.equal(isHello({ v: 1, type: "hello", can: ["insert", "note", "source"] }), true);
  assert.equal(isHello({ v: 1, type: "hello", can: ["insert", "insert", "insert", "insert"] }), false);
});

test("an end takes each id once and in order, and numbers what it sends", () => {
  const sent: unknown[] = [];
  const port = { onmessage: null as unknown, postMessage: (data: unknown) => sent.push(data), close: () => undefined };
  const taken: number[] = [];
  const refused: [number, string][] = [];
  const end = new End<FromPanel, FromHost>(
    port as unknown as MessagePort,
    isFromHost,
    ({ id }) => taken.push(id),
    (...said) => refused.push(said),
  );
  const say = (data: unknown, ports: readonly unknown[] = []) => (port.onmessage as (event: object) => void)({ data, ports });
  for (const id of [1, 5, 5, 4, 6]) say({ ...CHAT, id });
  say({ ...CHAT, id: 7 }, [{}]);
  say({ id: 8 });
  say("text");
  assert.deepEqual(taken, [1, 5, 6]);
  assert.deepEqual(refused, [[5, "replay"], [4, "replay"], [7, "schema"], [8, "schema"], [1, "schema"]]);
  assert.deepEqual([end.send({ type: "sign_in" }), end.send({ type: "insert", text: "A" })], [1, 2]);
  assert.deepEqual(sent, [
    { v: 1, id: 1, type: "sign_in" },
    { v: 1, id: 2, type: "insert", text: "A" },
  ]);
});

test("of a long conversation in Zendesk the newest messages go within the bounds", () => {
  const entry = (text: string, role = "end-user") => ({ author: { role }, message: { content: text, contentType: "text/plain" } });
  const turns = turnsOf([...Array(250).fill(entry("x".repeat(5_000))), entry("Last", "admin")]);
  assert.equal(isFromHost({ ...CHAT, turns }), true);
  assert.equal(turns.length, 25);
  assert.deepEqual(turns.at(-1), { who: "agent", text: "Last" });
  assert.deepEqual(turnsOf("not a list"), []);
});

test("the storage of a panel holds values as the browser's does", () => {
  const storage = new MemoryStorage();
  storage.setItem("a", "1");
  storage.setItem("b", "2");
  storage.removeItem("a");
  assert.deepEqual([storage.length, storage.key(0), storage.getItem("a"), storage.getItem("b")], [1, "b", null, "2"]);
  storage.clear();
  assert.equal(storage.length, 0);
});
