import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "../src/api.ts";
import type { Reader } from "../src/coming_back.ts";
import { Conversation } from "../src/conversation.ts";
import { Replying } from "../src/replying.ts";
import { ApiError } from "../src/problems.ts";
import { newTurn } from "../src/turn.ts";
import type { AnswerEvent, CheckBody, ReplyBody, ReplyCheck } from "../src/wire.ts";

const SEEN = { isGuarded: false };
const TURN = { ...newTurn("k", "How long?"), answerId: "a" };
const STARTED: AnswerEvent = { event: "started", data: { answer_id: "r", conversation_id: "a" } };
const TOKEN: AnswerEvent = { event: "token", data: { text: "Two days." } };
const FOUND: ReplyCheck = { kind: "contradicts", start: 0, end: 9, values: [], line: "Wait: three days." };

function done(checks: readonly ReplyCheck[] = [], degraded: readonly string[] = []): AnswerEvent {
  return { event: "done", data: { finish_reason: "stop", citations: [], checks, degraded } };
}

function storage(): Storage {
  const items = new Map<string, string>();
  return {
    getItem: (key: string) => items.get(key) ?? null,
    setItem: (key: string, value: string) => void items.set(key, value),
    removeItem: (key: string) => void items.delete(key),
  } as unknown as Storage;
}

function tab(routes: Partial<Record<keyof Api, unknown>>, kept = storage()) {
  const api = { reply: writes([STARTED, TOKEN, done()]), ...routes } as unknown as Api;
  const conversation = new Conversation({ api, storage: kept, author: "i t amira" });
  return { conversation, replying: new Replying({ api, kept: conversation }), kept };
}

function writes(events: AnswerEvent[]) {
  return async (_: string, __: string, ___: ReplyBody, { onEvents }: Reader) => onEvents(events);
}

test("what the agent's text is an edit of is known after the page is loaded again", async () => {
  const { conversation, replying, kept } = tab({});
  await replying.write(TURN, "a", null, "");
  conversation.setReply("a", "Two days. Bye.");
  conversation.leave();
  const again = tab({}, kept);
  await again.conversation.restore();
  assert.deepEqual(again.replying.draftOf("a"), { text: "Two days.", replyId: "r" });
  again.conversation.setReply("a", null);
  assert.deepEqual(again.replying.draftOf("a"), { text: "", replyId: null });
});

test("a reply that was being written is read on after the page is loaded again", async () => {
  const { conversation, replying, kept } = tab({ reply: writes([STARTED]) });
  conversation.setReply("a", "");
  await replying.write(TURN, "a", null, "");
  conversation.leave();
  const followed: string[] = [];
  const follow = async (replyId: string, { onEvents }: Reader) => {
    followed.push(replyId);
    onEvents([STARTED, TOKEN, done()]);
  };
  const again = tab({ follow }, kept);
  await again.conversation.restore();
  await again.replying.comeBack(TURN, "a");
  await again.replying.comeBack(TURN, "a");
  assert.deepEqual(followed, ["r"]);
  assert.equal(again.conversation.replies.value["a"], "Two days.");
  assert.deepEqual(again.replying.draftOf("a"), { text: "Two days.", replyId: "r" });
});

test("what code finds is shown while the model reads, and what both found then", async () => {
  const seen: unknown[] = [];
  const byCode: ReplyCheck = { kind: "not_held", start: 0, end: 9, values: ["3 day"] };
  const { replying } = tab({
    reply: async (_: string, __: string, ___: ReplyBody, { onEvents }: Reader) => {
      onEvents([STARTED, TOKEN, { event: "checks", data: { checks: [byCode] } }]);
      seen.push(replying.checked.value["a"]?.checks, replying.checked.value["a"]?.reading);
      onEvents([done([byCode, FOUND])]);
    },
  });
  await replying.write(TURN, "a", null, "");
  assert.deepEqual(seen, [[byCode], "none"]);
  assert.deepEqual(replying.checked.value["a"]?.checks, [byCode, FOUND]);
  assert.equal(replying.checked.value["a"]?.reading, "read");
});

test("a reply is asked for with the conversation of its answer, and tells its language", async () => {
  const bodies: ReplyBody[] = [];
  const reply = async (_: string, __: string, body: ReplyBody, { onEvents }: Reader) => {
    bodies.push(body);
    onEvents([{ event: "started", data: { answer_id: "r", conversation_id: "a", language: "es" } }, TOKEN, done()]);
  };
  const { conversation, replying } = tab({ reply });
  const chat = [{ who: "customer", text: "How long?" }] as const;
  await replying.write({ ...TURN, chat }, "a", null, "");
  conversation.setReply("a", "");
  await replying.write(TURN, "a", null, "");
  assert.deepEqual(bodies.map(({ question, turns }) => question ?? turns), [chat, "How long?"]);
  assert.equal(replying.drafts.value["a"]?.language, "es");
});

test("an edited text is read by the model before it is used, once", async () => {
  const asked: CheckBody[] = [];
  const checkReply = async (_: string, body: CheckBody) => {
    asked.push(body);
    return body.by_model === true ? { checks: [FOUND], degraded: [] } : { checks: [], degraded: [] };
  };
  const { replying } = tab({ checkReply });
  await replying.check(TURN, "a", "Two days.", { byModel: false });
  assert.equal(await replying.mayUse(TURN, "a", "Two days.", SEEN), false);
  assert.equal(await replying.mayUse(TURN, "a", "Two days.", SEEN), false);
  replying.accept("a");
  assert.equal(await replying.mayUse(TURN, "a", "Two days.", SEEN), true);
  assert.deepEqual(asked.map(({ by_model }) => by_model), [false, true]);
});

test("a text that could not be checked may be used, but for a guarded one", async () => {
  const problem = { title: "", status: 429, detail: "slow", code: "overloaded", retryable: true };
  const { replying } = tab({ checkReply: () => Promise.reject(new ApiError(problem)) });
  assert.equal(await replying.mayUse(TURN, "a", "Two days.", SEEN), true);
  await assert.rejects(replying.mayUse(TURN, "a", "Two days.", { isGuarded: true }), (error) => error instanceof ApiError);
  const never = tab({ checkReply: () => Promise.reject(new ApiError({ ...problem, status: 409, retryable: false })) });
  assert.equal(await never.replying.mayUse(TURN, "a", "Two days.", { isGuarded: true }), true);
});

test("a text that the model did not read says so, and may be used", async () => {
  const { replying } = tab({ reply: writes([STARTED, TOKEN, done([], ["reply_check"])]) });
  await replying.write(TURN, "a", null, "");
  assert.equal(replying.checked.value["a"]?.reading, "failed");
  assert.equal(await replying.mayUse(TURN, "a", "Two days.", SEEN), true);
});

test("a reply that fails leaves the text as it was", async () => {
  const { conversation, replying } = tab({
    reply: writes([STARTED, TOKEN, { event: "error", data: { title: "", status: 503, detail: "down", code: "x", retryable: true } }]),
  });
  conversation.setReply("a", "Mine.");
  await replying.write(TURN, "a", "shorter", "Mine.");
  assert.equal(conversation.replies.value["a"], "Mine.");
  assert.deepEqual(replying.beganWith("a"), { began_with: "nothing" });
  assert.equal(replying.drafts.value["a"]?.problem?.code, "x");
});

test("a reply that cannot be written opens with the lines of the answer, and says so when it is sent", async () => {
  const { conversation, replying } = tab({
    reply: writes([STARTED, { event: "error", data: { title: "", status: 503, detail: "down", code: "x", retryable: true } }]),
  });
  const sentence = { index: 0, start: 0, end: 5, citations: [1], support: "supported", is_key: true } as const;
  conversation.setReply("a", "");
  await replying.write({ ...TURN, text: "Wait.", sentences: [sentence] }, "a", null, "");
  assert.equal(conversation.replies.value["a"], "Wait.");
  assert.deepEqual(replying.beganWith("a"), { began_with: "lines", lines: [0] });
});

/** A tab whose model has begun a reply to the answer `a`, and what reads more of it. */
function tabThatWrites() {
  let reader: Reader | undefined;
  const made = tab({
    reply: (_: string, __: string, ___: ReplyBody, given: Reader) =>
      new Promise((_, reject) => {
        reader = given;
        given.signal.addEventListener("abort", () => reject(given.signal.reason));
      }),
  });
  const writing = made.replying.write(TURN, "a", null, "");
  reader?.onEvents([STARTED, TOKEN]);
  return { ...made, writing, reader };
}

test("nothing more of a reply comes into the editor once it is discarded", async () => {
  const { conversation, replying, writing, reader } = tabThatWrites();
  replying.stop("a");
  conversation.setReply("a", null);
  reader?.onEvents([TOKEN, done()]);
  await writing;
  assert.equal(conversation.replies.value["a"], undefined);
  assert.equal(replying.drafts.value["a"]?.isWriting, false);
});

test("words that the agent puts into the reply end the writing and stay", async () => {
  const { conversation, replying, writing, reader } = tabThatWrites();
  conversation.setReply("a", "The approved answer.");
  reader?.onEvents([TOKEN, done()]);
  assert.equal(conversation.replies.value["a"], "The approved answer.");
  await writing;
  assert.equal(replying.drafts.value["a"]?.isWriting, false);
});

test("a check by code that comes late does not hide what the model found", async () => {
  const answers: ((checks: object) => void)[] = [];
  const { replying } = tab({ checkReply: () => new Promise((resolve) => answers.push(resolve)) });
  const typed = replying.check(TURN, "a", "Two days.", { byModel: false });
  const used = replying.mayUse(TURN, "a", "Two days.", SEEN);
  answers[1]?.({ checks: [FOUND], degraded: [] });
  assert.equal(await used, false);
  answers[0]?.({ checks: [], degraded: [] });
  await typed;
  assert.deepEqual(replying.checked.value["a"]?.checks, [FOUND]);
});
