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

test("a message that breaks the schema is none", () => {
  const turn = { who: "customer", text: "ATTACK" };
  const chat = { v: 1, id: 50, type: "conversation", ticket: "ATTACK", turns: [turn] };
  const itself: Record<string, unknown> = { ...chat };
  itself["turns"] = [itself];
  const without = (name: string) => Object.fromEntries(Object.entries(chat).filter(([known]) => known !== name));
  const fields: Record<string, unknown>[] = [
    { v: 2 },
    { v: "1" },
    ...[0, -1, 50.5, "50", 2 ** 53, Number.NaN].map((id) => ({ id })),
    ...["eval", "__proto__", "constructor", "toString"].map((type) => ({ type })),
    { html: "<img src=x onerror=alert(1)>" },
    ...["", "A".repeat(129), { toString: "ATTACK" }].map((ticket) => ({ ticket })),
    { turns: { length: 1, 0: turn } },
    { turns: Array(201).fill(turn) },
    { turns: Array(1e8) },
    // a hole among the turns
    { turns: [turn, , turn] },
    { turns: [{ ...turn, text: "A".repeat(4_001) }] },
    { turns: Array(26).fill({ ...turn, text: "A".repeat(4_000) }) },
    { turns: [{ ...turn, who: "assistant" }] },
    { turns: [{ ...turn, html: "<b>" }] },
    { turns: Object.assign([turn], { more: 1 }) },
    { turns: [{ ...turn, text: "" }] },
    { turns: [["customer", "ATTACK"]] },
    { context: "A".repeat(8_193) },
    { context: { customer: "C-2", ids: {} } },
  ];
  const wrong: unknown[] = [
    ...["v", "id", "type"].map(without),
    ...fields.map((changed) => ({ ...chat, ...changed })),
    { v: 1, id: 50, type: "insert", text: "ATTACK" },
    JSON.parse('{"v":1,"id":50,"type":"conversation","ticket":"ATTACK","turns":[],"__proto__":{"a":1}}'),
    ...["A".repeat(24_577), "A".repeat(5e7), ["x"]].map((code) => ({ v: 1, id: 50, type: "code", code })),
    ...[JSON.stringify(chat), null, [chat], Object.assign([], chat), new Map(Object.entries(chat))],
    ...[new Blob([JSON.stringify(chat)]), Object.assign(new Error("ATTACK"), chat), itself],
  ];
  assert.equal(isFromHost(chat), true);
  for (const [at, message] of wrong.entries()) assert.equal(isFromHost(message), false, `message ${at}`);
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
