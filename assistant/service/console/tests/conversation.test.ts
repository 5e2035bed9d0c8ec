import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "../src/api.ts";
import type { Reader } from "../src/coming_back.ts";
import { Conversation } from "../src/conversation.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import { readTab } from "../src/tab_state.ts";
import { type Turn, newTurn } from "../src/turn.ts";
import { element } from "./elements.test.ts";
import type { AnswerEvent, Sent } from "../src/wire.ts";

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

test("a chat whose record has other words than its last message does not come back into the box", async () => {
  const { storage } = begunAndLeft();
  const record = { answer_id: "a", question: "Why", outcome: "done", text: "", sentences: [], finish_reason: "stop" };
  const answers = [{ record, sources: [], verdicts: [], sent: [] }];
  const { conversation } = conversationWith({ conversation: async () => ({ answers }) }, storage);
  await conversation.restore();
  assert.deepEqual([conversation.question.value, conversation.turns.value.length], ["", 1]);
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
  const context = { unused: () => null, take: () => undefined, count: () => undefined, forget: () => (left += 1) };
  const conversation = new Conversation({ api, storage, author: "i t amira", context });
  conversation.begin();
  assert.equal(left, 1);
  await conversation.openEarlier("c2");
  assert.equal(left, 2);
});

test("a question after a stopped one goes without the token that the stopped one used", async () => {
  const sent: (string | null | undefined)[] = [];
  const ask = ({ context }: { context?: string | null }, { onEvents }: Reader) => {
    sent.push(context);
    onEvents([STARTED]);
    return new Promise<void>(() => undefined); // a slow network: its end has not come yet
  };
  let token: string | null = "t";
  const context = { unused: () => token, take: () => undefined, count: () => (token = null), forget: () => undefined };
  const api = { ask, cancel: () => new Promise(() => undefined) } as unknown as Api;
  const conversation = new Conversation({ api, storage: new TabStorage() as unknown as Storage, author: "i t amira", context });
  void conversation.ask("Why?");
  conversation.stop();
  void conversation.ask("How?", { isFollowUp: true });
  assert.deepEqual(sent, ["t", null]);
});

test("an earlier conversation that is left before it was read counts as left, and not as gone", async () => {
  const answers: ((stored: object) => void)[] = [];
  const { conversation } = conversationWith({ conversation: () => new Promise((resolve) => answers.push(resolve)) });
  const first = conversation.openEarlier("c1");
  const second = conversation.openEarlier("c2");
  conversation.begin();
  for (const answer of answers) answer({ answers: [] });
  assert.deepEqual([await first, await second], ["left", "left"]);
  assert.equal(await conversationWith({}).conversation.openEarlier("c3"), "gone");
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
  assert.deepEqual(sent[0]?.live, [{ element_id: "e1", start: 7, end: 14, mac: "1.7" }]);
  assert.equal(after.betterText({ ...turn, sends: [{ at: "", sent: sent[0] }] } as Turn, "It has Shipped."), "It has [live data].");
});
