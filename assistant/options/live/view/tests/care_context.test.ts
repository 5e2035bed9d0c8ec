import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "@console/api.ts";
import type { Reader } from "@console/coming_back.ts";
import { Conversation } from "@console/conversation.ts";
import { ApiError, unreachable } from "@console/problems.ts";
import type { SendRequest } from "@console/wire.ts";
import { refill } from "../api.ts";
import { CareContexts, contextOf } from "../care_context.ts";

function token(claims: object): string {
  const payload = btoa(JSON.stringify(claims)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `e30.${payload}.signature`;
}

class Past {
  readonly state = null;
  address = "";

  replaceState(_state: unknown, _title: string, address: string): void {
    this.address = address;
  }
}

const STORAGE = { getItem: () => null, setItem: () => undefined, removeItem: () => undefined } as unknown as Storage;

/** Begins an answer and ends it. */
async function answered(_: unknown, { onEvents }: Reader): Promise<void> {
  onEvents([{ event: "started", data: { answer_id: "a", conversation_id: "c" } }]);
  onEvents([{ event: "done", data: { finish_reason: "stop", citations: [] } }]);
}

function conversationWith(contexts: CareContexts, routes: Partial<Record<keyof Api, unknown>>): Conversation {
  const api = { ask: answered, ...routes } as unknown as Api;
  return new Conversation({ api, storage: STORAGE, author: "i t amira", context: contexts });
}

function take(contexts: CareContexts, hash: string): Past {
  const past = new Past();
  contexts.takeFrom({ hash, pathname: "/", search: "?x=1" } as Location, past as unknown as History);
  return past;
}

test("the token in the address is taken out of it and sent with the next question", () => {
  const contexts = new CareContexts();
  const signed = token({ customer: "C-1042", exp: 1_790_000_000 });
  assert.equal(take(contexts, `#context=${signed}`).address, "/?x=1");
  assert.equal(contexts.token(), signed);
  assert.equal(contexts.current.value?.customer, "C-1042");
  assert.equal(contexts.current.value?.expiresAt, 1_790_000_000_000);
});

test("another fragment is no context, and leaves the one before", () => {
  const contexts = new CareContexts();
  take(contexts, `#context=${token({ customer: "C-1" })}`);
  for (const hash of ["#/review", "#context=", "#context=<script>", `#context=${"a".repeat(8193)}`]) {
    assert.equal(take(contexts, hash).address, "");
  }
  assert.equal(contexts.current.value?.customer, "C-1");
});

test("a token that cannot be read is sent as it is: the service says what is wrong with it", () => {
  assert.deepEqual(contextOf("x.%%%.y"), { token: "x.%%%.y", customer: null, expiresAt: null, isUsed: false });
  assert.deepEqual(contextOf(token({ customer: 7, exp: "soon" })), {
    token: token({ customer: 7, exp: "soon" }),
    customer: null,
    expiresAt: null,
    isUsed: false,
  });
});

test("a forgotten context is not sent any more", () => {
  const contexts = new CareContexts();
  take(contexts, `#context=${token({ customer: "C-1" })}`);
  contexts.forget();
  assert.equal(contexts.token(), null);
});

test("a reply goes with the context of its own question, whichever chat is open by then", async () => {
  const sent: unknown[] = [];
  const send = async (_: string, one: SendRequest) => {
    sent.push(one.context);
    return { at: "2026-11-20T08:00:00Z", sent: one };
  };
  const contexts = new CareContexts();
  const conversation = conversationWith(contexts, { send });
  contexts.current.value = contextOf("first.chat.token");
  const first = await conversation.ask("Why?");
  contexts.current.value = contextOf("other.chat.token");
  if (first === null) throw new Error("no turn");
  await conversation.send(first, "Dear patient", { isDelivered: false });
  const second = await conversation.ask("And?", { isFollowUp: true });
  if (second === null) throw new Error("no turn");
  await conversation.send(second, "Dear other patient", { isDelivered: false });
  const third = await conversation.ask("Without?", { isFollowUp: true });
  if (third === null) throw new Error("no turn");
  await conversation.send(third, "Dear patient of no chat", { isDelivered: false });
  assert.deepEqual(sent, ["first.chat.token", "other.chat.token", undefined]);
});

test("a context goes with one question; elements of its answer are read again with it", async () => {
  const sent: unknown[] = [];
  const refilled: unknown[] = [];
  const ask = async ({ context }: { context: unknown }, reader: Reader) => {
    sent.push(context);
    await answered(null, reader);
  };
  const write = async (path: string, body: unknown) => refilled.push([path, body]);
  const contexts = new CareContexts();
  const conversation = conversationWith(contexts, { ask });
  contexts.current.value = contextOf("a.b.c");
  await conversation.ask("Where is it?");
  await refill({ write } as unknown as Api, "a", "e1", contexts.token());
  await conversation.ask("And now?", { isFollowUp: true });
  contexts.current.value = contextOf("d.e.f");
  await conversation.ask("And now?", { isFollowUp: true });
  assert.deepEqual(sent, ["a.b.c", null, "d.e.f"]);
  assert.deepEqual(refilled, [["/v1/answers/a/elements/e1", { context: "a.b.c" }]]);
});

test("a context stays for the next try when no answer began, unless it was used elsewhere", async () => {
  const sent: unknown[] = [];
  const codes = ["dependency_unavailable", "context_used"];
  const ask = async ({ context }: { context: unknown }) => {
    sent.push(context);
    throw new ApiError({ ...unreachable(), status: 503, code: codes.shift() ?? "" });
  };
  const contexts = new CareContexts();
  const conversation = conversationWith(contexts, { ask });
  contexts.current.value = contextOf("a.b.c");
  for (const words of ["one", "two", "three"]) await conversation.ask(words);
  assert.deepEqual(sent, ["a.b.c", "a.b.c", null]);
});
