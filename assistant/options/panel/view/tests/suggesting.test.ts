import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "@console/api.ts";
import { ApiError, unreachable } from "@console/problems.ts";
import type { Host } from "@console/options.ts";
import { signal } from "@preact/signals";
import { OPTION } from "../option.tsx";
import { Suggesting } from "../suggesting.ts";

const SUGGESTION = { suggestion_id: "s1", document_id: "wait", title: "Wait", heading: "", lines: ["Two days."], document_url: "/d", step: 17 };
const READ = { red_flags: [], suggestion: SUGGESTION };
const TURNS = [
  { who: "agent", text: "Hello" },
  { who: "customer", text: "Hi." },
  { who: "customer", text: "How long is the wait?" },
] as const;

function apiOf(write: (path: string, body: object) => Promise<unknown>): Pick<Api, "write"> {
  return { write: write as Api["write"] };
}

test("what the customer wrote last is read, and one suggestion kept", async () => {
  const suggesting = new Suggesting(apiOf(async () => READ));
  await suggesting.follow(TURNS);
  assert.deepEqual(suggesting.suggestion.value, SUGGESTION);
  assert.deepEqual(suggesting.turns, TURNS);
});

test("a turn of the agent ends the suggestion, without a request", async () => {
  const asked: string[] = [];
  const suggesting = new Suggesting(apiOf(async (path) => (asked.push(path), READ)));
  await suggesting.follow(TURNS);
  await suggesting.follow([...TURNS, { who: "agent", text: "Two days." }]);
  assert.equal(suggesting.suggestion.value, null);
  assert.deepEqual(asked, ["/v1/turns"]);
});

test("a late answer for an earlier turn is dropped", async () => {
  const waiting: ((read: unknown) => void)[] = [];
  const suggesting = new Suggesting(apiOf(async () => await new Promise((resolve) => waiting.push(resolve))));
  const follow = (text: string) => suggesting.follow([...TURNS, { who: "customer", text }]);
  const first = suggesting.follow(TURNS);
  await settled();
  const followed = [first, follow("Thanks"), follow("Bye")];
  await settled();
  assert.equal(waiting.length, 1);
  waiting[0]?.(READ);
  await followed[0];
  await followed[1];
  await settled();
  assert.equal(waiting.length, 2); // of those that waited the newest alone
  waiting[1]?.({ red_flags: [] });
  await followed[2];
  assert.equal(suggesting.suggestion.value, null);
});

test("nobody asked, so a failure shows nothing", async () => {
  const suggesting = new Suggesting(apiOf(async () => Promise.reject(new ApiError(unreachable()))));
  await suggesting.follow(TURNS);
  assert.equal(suggesting.suggestion.value, null);
});

test("what became of it is reported with its certainty", async () => {
  const asked: unknown[] = [];
  const suggesting = new Suggesting(apiOf(async (...call) => (asked.push(call), READ)));
  await suggesting.follow(TURNS);
  await suggesting.opened(SUGGESTION, "a1");
  assert.equal(suggesting.answerId.value, "a1");
  assert.deepEqual(asked[1], ["/v1/turns/s1/acts", { answer_id: "a1", kind: "opened", step: 17 }]);
});

test("an answer to a suggestion that another took the place of is not the other's", async () => {
  const asked: string[] = [];
  const newer = { ...READ, suggestion: { ...SUGGESTION, suggestion_id: "s2" } };
  const suggesting = new Suggesting(apiOf(async (path) => (asked.push(path), asked.length === 1 ? READ : newer)));
  await suggesting.follow(TURNS);
  await suggesting.follow([...TURNS, { who: "customer", text: "And parking?" }]);
  await suggesting.opened(SUGGESTION, "a1");
  assert.equal(suggesting.answerId.value, null);
  assert.equal(asked.at(-1), "/v1/turns/s1/acts");
});

test("an emergency in a newer turn comes though the suggestion before it is dismissed", async () => {
  const flag = { name: "chest pain", text: "This may be an emergency.", call: "911" };
  const waiting: ((read: unknown) => void)[] = [];
  const suggesting = new Suggesting(apiOf(async () => await new Promise((resolve) => waiting.push(resolve))));
  const following = suggesting.follow(TURNS);
  await settled();
  suggesting.dismiss();
  waiting[0]?.({ red_flags: [flag] });
  await following;
  assert.deepEqual(suggesting.redFlags.value, [flag]);
});

test("a new context of the same turns asks for no other suggestion", async () => {
  const asked: string[] = [];
  const chat = signal({ number: 1, ticket: "t", turns: TURNS, context: null as string | null });
  const api = apiOf(async (path) => (asked.push(path), READ));
  const { listen } = OPTION({ api, host: { chat } as unknown as Host } as unknown as Parameters<typeof OPTION>[0]);
  listen?.();
  await settled();
  chat.value = { ...chat.value, context: "c2" };
  await settled();
  assert.equal(asked.length, 1);
  chat.value = { ...chat.value, number: 2, ticket: "t2" };
  await settled();
  assert.equal(asked.length, 2);
});

/** After all that waits for nothing outside. */
const settled = () => new Promise<void>((resolve) => setTimeout(resolve));
