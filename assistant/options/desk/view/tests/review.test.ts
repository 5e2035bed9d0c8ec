import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, unreachable } from "@console/problems.ts";
import type { DeskApi } from "../api.ts";
import { emptyDraft, missingIn, questionsOf, requestOf } from "../drafts.ts";
import { Review, refusalWords } from "../review.ts";
import type { DeskCase, DeskCasePage, CaseRow } from "../wire.ts";

const NOW = new Date("2026-11-20T08:00:00Z");

class TabStorage {
  readonly #items = new Map<string, string>();
  getItem = (key: string) => this.#items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.#items.set(key, value);
  removeItem = (key: string) => void this.#items.delete(key);
}

function detail(changes: Partial<DeskCase> = {}): DeskCase {
  const about = { case_id: "c", revision: 1, asked: "Why?", better_text: "Because.", sources: [] };
  const of = { state: "open", documents: ["d1", "d2"], resolved_by: null };
  return { ...about, case: of, ...changes } as unknown as DeskCase;
}

function reviewWith(routes: Partial<Record<keyof DeskApi, unknown>>, storage = new TabStorage(), author = "i t rosa") {
  const api = { case: async () => detail(), ...routes } as unknown as DeskApi;
  return new Review({ api, storage: storage as unknown as Storage, author, reviewer: "rosa" });
}

const conflict = () => new ApiError({ ...unreachable(), status: 409, code: "conflict" });
const row = (case_id: string) => ({ case_id, documents: [] }) as unknown as CaseRow;

test("a case begins with the agent's own words", () => {
  const draft = emptyDraft(detail(), NOW);
  assert.deepEqual([draft.text, draft.questions, draft.documentIds], ["Because.", "Why?", ["d1"]]);
  assert.equal(draft.expiresOn, "2027-05-19");
});

test("each line is a wording, once", () => {
  const draft = { ...emptyDraft(detail(), NOW), questions: " Why?\n\nWhat for?\nWhy? " };
  assert.deepEqual(questionsOf(draft), ["Why?", "What for?"]);
});

test("what is missing is named before anything is sent", () => {
  const draft = emptyDraft(detail({ better_text: null }), NOW);
  assert.equal(missingIn(draft)?.field, "kind-approved_answer");
  assert.equal(missingIn({ ...draft, kind: "approved_answer" })?.field, "approved-text");
  assert.equal(missingIn({ ...draft, kind: "dismissed" })?.field, "resolution-note");
});

test("a request holds the fields of its kind alone", () => {
  const draft = { ...emptyDraft(detail(), NOW), kind: "glossary_entry" as const, said: " BP ", means: "blood pressure" };
  const glossary_entry = { said: "BP", means: "blood pressure" };
  assert.deepEqual(requestOf(draft, 3), { revision: 3, kind: "glossary_entry", note: "", glossary_entry });
});

test("a conflict shows the newer revision and keeps what was typed", async () => {
  let revision = 1;
  const review = reviewWith({
    case: async () => detail({ revision }),
    resolve: async () => {
      revision = 2;
      throw conflict();
    },
  });
  await review.open("c");
  review.setDraft("c", { ...emptyDraft(detail(), NOW), kind: "dismissed", note: "No." });
  await assert.rejects(review.resolve(detail()), (error) => error instanceof ApiError);
  assert.equal(review.detail.value?.revision, 2);
  assert.equal(review.drafts.value["c"]?.note, "No.");
});

test("what was typed goes once it is saved", async () => {
  const review = reviewWith({ resolve: async () => detail({ revision: 2 }) });
  await review.open("c");
  review.setDraft("c", { ...emptyDraft(detail(), NOW), kind: "dismissed", note: "No." });
  await review.resolve(detail());
  assert.deepEqual(review.drafts.value, {});
});

test("another reviewer who signs in to the tab does not see what was typed", () => {
  const storage = new TabStorage();
  reviewWith({}, storage).setDraft("c", emptyDraft(detail(), NOW));
  assert.deepEqual(Object.keys(reviewWith({}, storage).drafts.value), ["c"]);
  assert.deepEqual(reviewWith({}, storage, "i t samuel").drafts.value, {});
});

test("a page that comes after the filters have changed is dropped", async () => {
  const answers: ((page: DeskCasePage) => void)[] = [];
  const review = reviewWith({ cases: () => new Promise<DeskCasePage>((resolve) => answers.push(resolve)) });
  const first = review.load();
  const second = review.filter({ state: null });
  answers[1]?.({ cases: [row("new")], next_after: null });
  answers[0]?.({ cases: [row("old")], next_after: null });
  await Promise.all([first, second]);
  assert.deepEqual(review.cases.value?.map(({ case_id }) => case_id), ["new"]);
});

test("cases of the filters before can't be opened while others are read", async () => {
  const pages: DeskCasePage[] = [{ cases: [row("open")], next_after: "open" }, { cases: [row("proposed")], next_after: null }];
  const review = reviewWith({ cases: async () => pages.shift() });
  await review.load();
  const reading = review.filter({ state: "proposed" });
  assert.deepEqual([review.cases.value, review.hasMore.value], [null, false]);
  await reading;
  assert.deepEqual(review.cases.value?.map(({ case_id }) => case_id), ["proposed"]);
});

test("a case that is left before it was read is not shown", async () => {
  const answers: ((found: DeskCase) => void)[] = [];
  const review = reviewWith({ case: () => new Promise<DeskCase>((resolve) => answers.push(resolve)) });
  const opening = review.open("c");
  review.close();
  answers[0]?.(detail());
  await opening;
  assert.equal(review.detail.value, null);
});

test("a failure of what was left is not shown under what was chosen since", async () => {
  const failures: ((error: ApiError) => void)[] = [];
  const review = reviewWith({ case: () => new Promise((_, reject) => failures.push(reject)), cases: async () => ({ cases: [], next_after: null }) });
  const opening = review.open("c");
  await review.filter({ state: null });
  failures[0]?.(new ApiError(unreachable()));
  await opening;
  assert.equal(review.problem.value, null);
});

test("a case that is saved while another one is open changes its line and opens nothing", async () => {
  let answer: (now: DeskCase) => void = () => {};
  const listed = { cases: [row("c"), row("d")], next_after: null };
  const review = reviewWith({
    cases: async () => listed,
    case: async (case_id: string) => detail({ case_id }),
    resolve: () => new Promise<DeskCase>((resolve) => (answer = resolve)),
  });
  await review.load();
  await review.open("c");
  review.setDraft("c", { ...emptyDraft(detail(), NOW), kind: "dismissed", note: "No." });
  const saving = review.resolve(detail());
  await review.open("d");
  answer(detail({ revision: 2, case: { ...detail().case, state: "dismissed" } }));
  await saving;
  assert.equal(review.detail.value?.case_id, "d");
  assert.equal(review.cases.value?.[0]?.state, "dismissed");
});

test("a conflict on a case that was left does not open it again", async () => {
  let refuse: (error: ApiError) => void = () => {};
  const review = reviewWith({
    case: async (case_id: string) => detail({ case_id }),
    resolve: () => new Promise((_, reject) => (refuse = reject)),
  });
  await review.open("c");
  const saving = review.resolve(detail());
  await review.open("d");
  refuse(conflict());
  await assert.rejects(saving, (error) => error instanceof ApiError);
  assert.equal(review.selectedId.value, "d");
});

test("each refusal says what to do, and that nothing is lost", () => {
  const words = (status: number) => refusalWords({ ...unreachable(), status, detail: "The reason." });
  assert.match(words(409), /The reason\. The newest state is shown now.*text is kept/);
  assert.match(words(403), /The reason\..*text is kept: ask somebody who may/);
  assert.match(words(422), /The reason\. Correct it and save again/);
  assert.match(words(401), /Sign in again.*text is kept/);
  assert.match(words(503), /The reason\..*text is kept: try again/);
});
