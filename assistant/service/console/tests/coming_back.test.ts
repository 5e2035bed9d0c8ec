import assert from "node:assert/strict";
import { test } from "node:test";
import { ComingBack, type Open, type Place, type Surroundings } from "../src/coming_back.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import type { AnswerEvent } from "../src/wire.ts";

const STARTED = 'id: a:1\nevent: started\ndata: {"answer_id":"a","conversation_id":"c"}\n\n';
const WORDS = ["One ", "two ", "three."].map(
  (text, index) => `id: a:${index + 2}\nevent: token\ndata: ${JSON.stringify({ text })}\n\n`,
);
const DONE = 'id: a:5\nevent: done\ndata: {"finish_reason":"stop","citations":[]}\n\n';
const EVENTS = [STARTED, ...WORDS, DONE];
const INTERRUPTED =
  'event: error\ndata: {"title":"t","status":503,"detail":"d","code":"interrupted","retryable":true}\n\n';

/** What one connection gives: its text, and whether it then breaks instead of closing; or a refusal. */
type Connection = { text: string; breaks?: boolean; lastsMs?: number } | ApiError;

function refusal(status: number, code: string, { retryable = true, retryAfterMs = 0 } = {}): ApiError {
  return new ApiError({ ...unreachable(), status, code, retryable }, { retryAfterMs });
}

/** Reads an answer over the given connections; the last one stands for all that follow. */
function reading(connections: Connection[], { place = null as Place | null, isOffline = false } = {}) {
  const seen = { places: [] as (Place | null)[], pauses: [] as number[], lost: [] as boolean[] };
  const controller = new AbortController();
  let now = 0;
  let text = "";
  let last: AnswerEvent | undefined;
  const open: Open = async (at) => {
    const connection = connections[Math.min(seen.places.length, connections.length - 1)];
    seen.places.push(at);
    if (connection === undefined || connection instanceof ApiError) throw connection;
    return bodyOf(connection, () => void (now += connection.lastsMs ?? 0));
  };
  const surroundings: Surroundings = {
    pause: async (milliseconds, signal) => {
      seen.pauses.push(milliseconds);
      now += milliseconds;
      signal.throwIfAborted();
    },
    untilNetworkChanges: (run) => run(new AbortController().signal),
    isOffline: () => isOffline,
    now: () => now,
  };
  const onEvents = (events: AnswerEvent[]) => {
    for (const event of events) if (event.event === "token") text += event.data.text;
    last = events.at(-1) ?? last;
  };
  const reader = { signal: controller.signal, onEvents, onLost: (isLost: boolean) => void seen.lost.push(isLost) };
  const ended = new ComingBack(open, { reader, place, surroundings }).readToEnd();
  return { ended, seen, controller, text: () => text, last: () => last };
}

function bodyOf({ text, breaks }: { text: string; breaks?: boolean }, onEnd: () => void): ReadableStream<Uint8Array> {
  let isFirst = text !== "";
  return new ReadableStream({
    pull(controller) {
      if (isFirst) {
        controller.enqueue(new TextEncoder().encode(text));
        isFirst = false;
        return;
      }
      onEnd();
      if (breaks) controller.error(new TypeError("network error"));
      else controller.close();
    },
  });
}

function lastIds(places: (Place | null)[]): (string | null)[] {
  return places.map((place) => place?.lastEventId ?? null);
}

test("a stream cut twice at any two characters gives the whole text once", async () => {
  const stream = EVENTS.join("");
  for (let cut = 0; cut < stream.length; cut += 7) {
    const first = stream.slice(0, cut);
    const rest = EVENTS.slice(wholeEvents(first)).join("");
    const second = rest.slice(0, rest.length / 2);
    const third = EVENTS.slice(wholeEvents(first) + wholeEvents(second)).join("");
    const { ended, text } = reading([{ text: first, breaks: true }, { text: second }, { text: third }]);
    await ended;
    assert.equal(text(), "One two three.");
  }
});

test("it comes back after the last event that was whole", async () => {
  const { ended, seen } = reading([{ text: `${STARTED}${WORDS[0]}id: a:3\nevent: tok` }, { text: DONE }]);
  await ended;
  assert.deepEqual(lastIds(seen.places), [null, "a:2"]);
});

test("before the first event the question itself is sent again", async () => {
  const { ended, seen } = reading([refusalOfNetwork(), { text: "" }, { text: EVENTS.join("") }]);
  await ended;
  assert.deepEqual(seen.places, [null, null, null]);
});

test("a first refusal is not tried again", async () => {
  const { ended, seen } = reading([refusal(429, "overloaded", { retryAfterMs: 2_000 })]);
  await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === "overloaded");
  assert.equal(seen.places.length, 1);
});

test("on the way back a refusal is tried again, no sooner than it asks", async () => {
  const busy = refusal(503, "records_unavailable", { retryAfterMs: 2_000 });
  const { ended, seen } = reading([{ text: STARTED }, busy, { text: DONE }]);
  await ended;
  assert.equal(seen.pauses[1], 2_000);
});

test("on the way back too a paused service ends it, and a writer that is gone", async () => {
  for (const code of ["endpoint_paused", "interrupted"]) {
    const { ended, seen } = reading([{ text: "" }, refusal(503, code, { retryAfterMs: 2_000 })]);
    await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === code);
    assert.equal(seen.places.length, 2);
  }
});

test("what cannot be come back to ends it with the reason", async () => {
  const { ended } = reading([{ text: STARTED }, refusal(410, "withdrawn", { retryable: false })]);
  await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === "withdrawn");
});

test("an answer whose writer is gone ends with that", async () => {
  const { ended, last } = reading([{ text: STARTED }, { text: INTERRUPTED }]);
  await ended;
  assert.equal(last()?.event, "error");
});

test("attempts grow apart and end after the window and the lease", async () => {
  const { ended, seen } = reading([{ text: STARTED }, refusalOfNetwork()]);
  await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === "connection_lost");
  const total = seen.pauses.reduce((sum, milliseconds) => sum + milliseconds, 0);
  assert.equal(total > 15_000 && total <= 20_000, true);
  assert.equal(seen.pauses.length < 12, true);
  assert.equal((seen.pauses[0] ?? 0) < (seen.pauses[3] ?? 0), true);
});

test("a question that never got through ends as unreachable", async () => {
  const { ended } = reading([refusalOfNetwork()]);
  await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === "unreachable");
});

test("without any network it waits longer, and not for ever", async () => {
  const { ended, seen } = reading([{ text: STARTED }, refusalOfNetwork()], { isOffline: true });
  await assert.rejects(ended, (error) => error instanceof ApiError);
  const total = seen.pauses.reduce((sum, milliseconds) => sum + milliseconds, 0);
  assert.equal(total > 60_000 && total <= 300_000, true);
});

test("a connection that stood for a while without an event gives it new patience", async () => {
  const silent = { text: ": alive\n\n", lastsMs: 19_000 };
  const { ended, text } = reading([{ text: STARTED }, silent, silent, { text: EVENTS.slice(1).join("") }]);
  await ended;
  assert.equal(text(), "One two three.");
});

test("a service that closes every connection at once ends it", async () => {
  const { ended } = reading([{ text: STARTED }, { text: ": alive\n\n", lastsMs: 100 }]);
  await assert.rejects(ended, (error) => error instanceof ApiError && error.problem.code === "connection_lost");
});

test("every event that comes gives it new patience", async () => {
  const pieces = EVENTS.flatMap((text) => [{ text }, ...Array.from({ length: 5 }, refusalOfNetwork)]);
  const { ended, text } = reading(pieces);
  await ended;
  assert.equal(text(), "One two three.");
});

test("it says when the connection is lost and when it is back", async () => {
  const { ended, seen } = reading([{ text: STARTED }, refusalOfNetwork(), { text: DONE }]);
  await ended;
  assert.deepEqual(seen.lost, [false, true, true, false]);
});

test("stopping ends it while it waits", async () => {
  const { ended, controller } = reading([{ text: STARTED }, refusalOfNetwork()]);
  const reason = new Error("stopped");
  controller.abort(reason);
  await assert.rejects(ended, (error) => error === reason);
});

test("a page that was loaded again reads from the first event on", async () => {
  const { ended, seen, text } = reading([{ text: EVENTS.join("") }], { place: { answerId: "a", lastEventId: "" } });
  await ended;
  assert.deepEqual(lastIds(seen.places), [""]);
  assert.equal(text(), "One two three.");
});

function refusalOfNetwork(): ApiError {
  return new ApiError(unreachable());
}

/** How many events the beginning of a stream holds as a whole. */
function wholeEvents(text: string): number {
  return text.split("\n\n").length - 1;
}
