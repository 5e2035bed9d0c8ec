import assert from "node:assert/strict";
import { test } from "node:test";
import { EVENT_LIMIT, EventParser, type ServerEvent, readEvents } from "../src/sse.ts";

const STREAM = [
  "\uFEFF: alive\r\n\r\n",
  'id: a:1\r\nevent: token\r\ndata: {"text":"Grüße "}\r\n\r\n',
  "event: unknown\rdata:one\rdata: two\r\r",
  "data\n\nretry: 10\nignored: field\n\n",
  "id: a:2\nevent: done\ndata: {}\n\n",
  "event: unfinished\ndata: never\n",
].join("");
const EVENTS: ServerEvent[] = [
  { id: "a:1", event: "token", data: '{"text":"Grüße "}' },
  { id: "a:1", event: "unknown", data: "one\ntwo" },
  { id: "a:1", event: "message", data: "" },
  { id: "a:2", event: "done", data: "{}" },
];

test("a stream cut at any character gives the same events", () => {
  for (let cut = 0; cut <= STREAM.length; cut += 1) {
    const parser = new EventParser();
    assert.deepEqual([...parser.push(STREAM.slice(0, cut)), ...parser.push(STREAM.slice(cut))], EVENTS);
  }
});

test("a stream that comes character by character gives the same events", () => {
  const parser = new EventParser();
  assert.deepEqual([...STREAM].flatMap((character) => parser.push(character)), EVENTS);
});

test("an event is given as soon as its empty line has come", () => {
  const parser = new EventParser();
  assert.deepEqual(parser.push("data: now\n"), []);
  assert.equal(parser.push("\n").length, 1);
});

test("an event without end is refused", () => {
  const parser = new EventParser();
  assert.throws(() => parser.push(`data: ${"x".repeat(EVENT_LIMIT)}`), RangeError);
  const lines = new EventParser();
  assert.throws(() => lines.push(`data: ${"x".repeat(1000)}\n`.repeat(1100)), RangeError);
});

test("bytes cut inside a character are put together again", async () => {
  const bytes = new TextEncoder().encode("data: ä😀\n\n");
  for (let cut = 0; cut <= bytes.length; cut += 1) {
    const seen: ServerEvent[] = [];
    await readEvents(bodyOf(bytes.slice(0, cut), bytes.slice(cut)), (events) => seen.push(...events));
    assert.deepEqual(seen.map(({ data }) => data), ["ä😀"]);
  }
});

test("a comment is a sign of life without events", async () => {
  const pieces: number[] = [];
  await readEvents(bodyOf(new TextEncoder().encode(": alive\n\n")), (events) => pieces.push(events.length));
  assert.deepEqual(pieces, [0]);
});

function bodyOf(...pieces: Uint8Array[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces) if (piece.length > 0) controller.enqueue(piece);
      controller.close();
    },
  });
}
