import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "../src/api.ts";
import type { Reader } from "../src/coming_back.ts";
import { CareContexts, contextOf } from "../src/care_context.ts";
import { Conversation } from "../src/conversation.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import { readTab } from "../src/tab_state.ts";
import { type Turn, newTurn } from "../src/turn.ts";
import { element } from "./elements.test.ts";
import type { AnswerEvent, SendRequest, Sent } from "../src/wire.ts";

const STARTED: AnswerEvent = { event: "started", data: { answer_id: "a", conversation_id: "c" } };
const DONE: AnswerEvent = { event: "done", data: { finish_reason: "stop", citations: [] } };
const NOT_FOUND = { ...unreachable(), status: 404, code: "not_found" };

const RECORDED = { isDelivered: false };

/** A tab's storage in memory. */
class TabStorage {
  readonly #items = new Map<string, string>();
  getItem = (key: string) => this.#items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.#items.set(key, value);
  removeItem = (key: string) => void this.#items.delete(key);
}

/** A service that answers at once; each test replaces what it is about. */
function conversationWith(
  routes: Partial<Record<keyof Api, unknown>>,
  storage = new TabStorage(),
  author = "i t amira",
  contexts = new CareContexts(),
) {
  const api = {
    ask: async (_: unknown, { onEvents }: { onEvents: (events: AnswerEvent[]) => void }) => onEvents([STARTED, DONE]),
    conversation: async () => {
      throw new ApiError(NOT_FOUND);
    },
    ...routes,
  };
  const conversation = new Conversation({
    api: api as unknown as Api,
    storage: storage as unknown as Storage,
    author,
    contexts,
  });
  return { conversation, storage };
}

test("sending again after a failure uses the same id, another text another one", async () => {
  const ids: string[] = [];
  const send = async (_: string, sent: Sent) => {
    ids.push(sent.send_id);
    throw new ApiError(unreachable());
  };
  const { conversation } = conversationWith({ send });
  const turn = await conversation.ask("Why?");
  if (turn === null) throw new Error("no turn");
  for (const text of ["Dear patient", "Dear patient", "Dear Sir"]) {
    await assert.rejects(conversation.send(turn, text, RECORDED), (error) => error instanceof ApiError);
  }
  assert.equal(ids[0], ids[1]);
  assert.equal(ids[1] === ids[2], false);
});

test("a sent reply is no longer kept in the tab", async () => {
  const send = async (_: string, sent: Sent) => ({ at: "2026-11-20T08:00:00Z", sent });
  const { conversation, storage } = conversationWith({ send });
  const turn = await conversation.ask("Why?");
  if (turn === null) throw new Error("no turn");
  conversation.setReply("a", "Dear patient");
  assert.deepEqual(readTab(storage as unknown as Storage)?.replies, { a: "Dear patient" });
  await conversation.send(turn, "Dear patient", RECORDED);
  assert.deepEqual(readTab(storage as unknown as Storage)?.replies, {});
});

test("a reply goes with the context of its own question, whichever chat is open by then", async () => {
  const sent: unknown[] = [];
  const send = async (_: string, one: SendRequest) => {
    sent.push(one.context);
    return { at: "2026-11-20T08:00:00Z", sent: one };
  };
  const contexts = new CareContexts();
  const { conversation } = conversationWith({ send }, undefined, undefined, contexts);
  contexts.current.value = contextOf("first.chat.token");
  const first = await conversation.ask("Why?");
  contexts.current.value = contextOf("other.chat.token");
  if (first === null) throw new Error("no turn");
  await conversation.send(first, "Dear patient", RECORDED);
  const second = await conversation.ask("And?", { isFollowUp: true });
  if (second === null) throw new Error("no turn");
  await conversation.send(second, "Dear other patient", RECORDED);
  const third = await conversation.ask("Without?", { isFollowUp: true });
  if (third === null) throw new Error("no turn");
  await conversation.send(third, "Dear patient of no chat", RECORDED);
  assert.deepEqual(sent, ["first.chat.token", "other.chat.token", undefined]);
});

test("a question whose answer is not on record comes back into the box", async () => {
  const never = () => new Promise(() => undefined);
  const { conversation, storage } = conversationWith({ ask: never });
  void conversation.ask("Why?");
  conversation.leave();
  const { conversation: reloaded } = conversationWith({}, storage);
  await reloaded.restore();
  assert.equal(reloaded.question.value, "Why?");
});

test("a page that is loaded again comes back to the answer that is being written", async () => {
  const { storage } = begunAndLeft();
  const follow = async (answerId: string, { onEvents }: Reader) => {
    assert.equal(answerId, "a");
    onEvents([STARTED, { event: "token", data: { text: "Yes" } }, DONE]);
  };
  const { conversation } = conversationWith({ follow }, storage);
  const turn = await conversation.restore();
  assert.deepEqual([turn?.question, turn?.text, turn?.phase], ["Why?", "Yes", "finished"]);
  assert.equal(conversation.question.value, "");
  assert.equal(readTab(storage as unknown as Storage)?.pending, null);
});

test("an answer that cannot be come back to gives its question back", async () => {
  const { storage } = begunAndLeft();
  const gone = async () => {
    throw new ApiError(NOT_FOUND);
  };
  const { conversation } = conversationWith({ follow: gone, answer: gone }, storage);
  await conversation.restore();
  assert.equal(conversation.question.value, "Why?");
  assert.deepEqual(conversation.turns.value, []);
});

test("the tab keeps no word of an answer that is being written", async () => {
  const { storage } = begunAndLeft();
  assert.equal(storage.getItem("care-console.tab")?.includes("half an answer"), false);
});

test("what was asked while the conversation was read back stays", async () => {
  const { conversation: before, storage } = conversationWith({});
  await before.ask("Why?");
  let arrive = (_: unknown): void => undefined;
  const conversation = () => new Promise((resolve) => (arrive = resolve));
  const { conversation: reloaded } = conversationWith({ conversation }, storage);
  const restored = reloaded.restore();
  await reloaded.ask("And now?");
  arrive({ conversation_id: "c", answers: [] });
  await restored;
  assert.deepEqual(reloaded.turns.value.map(({ question }) => question), ["And now?"]);
});

test("a question that a lost sign-in refused is kept for the way back", async () => {
  const ask = async () => {
    throw new ApiError({ ...unreachable(), status: 401, code: "unauthenticated" });
  };
  const { conversation, storage } = conversationWith({ ask });
  await conversation.ask("Why?");
  assert.equal(readTab(storage as unknown as Storage)?.pending, "Why?");
});

test("another agent in the same tab sees nothing of the one before", async () => {
  const { conversation, storage } = conversationWith({});
  await conversation.ask("Why?");
  conversation.setReply("a", "Dear patient");
  const { conversation: other } = conversationWith({}, storage, "i t ben");
  await other.restore();
  assert.deepEqual(other.replies.value, {});
  assert.equal(storage.getItem("care-console.tab")?.includes("patient"), false);
});

test("a conversation that cannot be read now is kept for another try", async () => {
  const unavailable = async () => {
    throw new ApiError({ ...unreachable(), status: 503, code: "records_unavailable" });
  };
  const { conversation, storage } = conversationWith({});
  await conversation.ask("Why?");
  const { conversation: reloaded } = conversationWith({ conversation: unavailable }, storage);
  await reloaded.restore();
  assert.equal(reloaded.restoreProblem.value?.code, "records_unavailable");
  assert.equal(readTab(storage as unknown as Storage)?.conversationId, "c");
});

test("stopping keeps what has come and cancels before it leaves", async () => {
  const calls: string[] = [];
  const ask = (_: unknown, { signal, onEvents }: { signal: AbortSignal; onEvents: (events: AnswerEvent[]) => void }) => {
    onEvents([STARTED, { event: "token", data: { text: "Yes" } }]);
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        calls.push("left");
        reject(signal.reason);
      });
    });
  };
  const cancel = async () => void calls.push("cancelled");
  const { conversation } = conversationWith({ ask, cancel });
  const asked = conversation.ask("Why?");
  conversation.stop();
  const turn = await asked;
  assert.equal(turn?.phase, "stopped");
  assert.equal(turn?.text, "Yes");
  assert.deepEqual(calls, ["cancelled", "left"]);
});

test("a retried question that never became an answer is not listed twice", async () => {
  let calls = 0;
  const ask = async (_: unknown, { onEvents }: { onEvents: (events: AnswerEvent[]) => void }) => {
    calls += 1;
    if (calls === 1) throw new ApiError(unreachable());
    onEvents([STARTED, DONE]);
  };
  const { conversation } = conversationWith({ ask });
  const failed = await conversation.ask("Why?");
  if (failed === null) throw new Error("no turn");
  await conversation.retry(failed);
  assert.deepEqual(conversation.turns.value.map(({ phase }) => phase), ["finished"]);
});

/** A tab whose page went away in the middle of an answer. */
function begunAndLeft() {
  const ask = (_: unknown, { onEvents }: Reader) => {
    onEvents([STARTED, { event: "token", data: { text: "half an answer" } }]);
    return new Promise(() => undefined);
  };
  const { conversation, storage } = conversationWith({ ask });
  void conversation.ask("Why?");
  conversation.leave();
  return { storage };
}
test("a new conversation and an earlier one leave the customer of this one", async () => {
  let left = 0;
  const api = { conversation: async () => ({ answers: [] }) } as unknown as Api;
  const storage = new TabStorage() as unknown as Storage;
  const conversation = new Conversation({ api, storage, author: "i t amira", onLeft: () => (left += 1) });
  conversation.begin();
  assert.equal(left, 1);
  await conversation.openEarlier("c2");
  assert.equal(left, 2);
});

test("a reply that was begun before a reload still says where its live values are", async () => {
  const sent: Sent[] = [];
  const send = async (_: string, one: Sent) => {
    sent.push(one);
    return { at: "2026-11-20T08:00:00Z", sent: one };
  };
  const shown = element("It is [order status].");
  const ask = async (_: unknown, { onEvents }: { onEvents: (events: AnswerEvent[]) => void }) =>
    onEvents([STARTED, { event: "element", data: shown }, DONE]);
  const { conversation, storage } = conversationWith({ send, ask });
  await conversation.ask("Where?");
  conversation.setReply("a", "It has Shipped.");
  const { conversation: after } = conversationWith({ send, ask: undefined }, storage);
  await after.restore();
  const turn = { ...newTurn("a", "Where?"), answerId: "a", isRecorded: true };
  await after.send(turn, "It has Shipped.", RECORDED);
  assert.deepEqual(sent[0]?.live, [{ element_id: "e1", start: 7, end: 14 }]);
  assert.equal(after.betterText({ ...turn, sends: [{ at: "", sent: sent[0] }] } as Turn, "It has Shipped."), "It has [live data].");
});

test("a context goes with one question; elements of its answer are read again with it", async () => {
  const sent: unknown[] = [];
  const refilled: unknown[] = [];
  const ask = async ({ context }: { context: unknown }, { onEvents }: Reader) => {
    sent.push(context);
    onEvents([STARTED, DONE]);
  };
  const refill = async (_: string, id: string, context: unknown) => {
    refilled.push(context);
    return { ...element("Where?"), id };
  };
  const contexts = new CareContexts();
  contexts.current.value = contextOf("a.b.c");
  const { conversation } = conversationWith({ ask, refill }, undefined, undefined, contexts);
  const turn = await conversation.ask("Where is it?");
  if (turn === null) throw new Error("no turn");
  await conversation.refill(turn, element("Where?"));
  await conversation.ask("And now?", { isFollowUp: true });
  contexts.current.value = contextOf("d.e.f");
  await conversation.ask("And now?", { isFollowUp: true });
  assert.deepEqual(sent, ["a.b.c", null, "d.e.f"]);
  assert.deepEqual(refilled, ["a.b.c"]);
});

test("a context stays for the next try when no answer began, unless it was used elsewhere", async () => {
  const sent: unknown[] = [];
  const codes = ["dependency_unavailable", "context_used"];
  const ask = async ({ context }: { context: unknown }) => {
    sent.push(context);
    throw new ApiError({ ...unreachable(), status: 503, code: codes.shift() ?? "" });
  };
  const contexts = new CareContexts();
  contexts.current.value = contextOf("a.b.c");
  const { conversation } = conversationWith({ ask }, undefined, undefined, contexts);
  for (const words of ["one", "two", "three"]) await conversation.ask(words);
  assert.deepEqual(sent, ["a.b.c", "a.b.c", null]);
});
