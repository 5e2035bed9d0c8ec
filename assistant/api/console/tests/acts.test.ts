import assert from "node:assert/strict";
import { test } from "node:test";
import { Acts } from "../src/acts.ts";
import type { Api } from "../src/api.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import { type Turn, newTurn, storedTurn } from "../src/turn.ts";
import type { Act, StoredAnswer, StoredVerdict, VerdictLabel } from "../src/wire.ts";

function possible(changes: Partial<Turn> = {}): Turn {
  const turn = newTurn("key", "Why?");
  const findings = { ...turn.findings, certainty: "possibly" as const };
  return { ...turn, answerId: "a", phase: "finished", findings, ...changes };
}

function verdict(label: VerdictLabel): StoredVerdict {
  return { at: "", verdict: { verdict_id: "v", label, reasons: [], better_text: null, wrong_citations: [] } };
}

/** The acts that arrived, at a service that refuses the first `refusals` of them, and the pauses between attempts. */
function actsWith({ refusals = [] as ApiError[] } = {}) {
  const arrived: string[] = [];
  const pauses: number[] = [];
  const left = [...refusals];
  const report = async (_: string, { act_id }: Act) => {
    const refusal = left.shift();
    if (refusal !== undefined) throw refusal;
    arrived.push(act_id);
  };
  const acts = new Acts({ report } as unknown as Api, { wait: async (ms) => void pauses.push(ms) });
  return { acts, arrived, pauses };
}

const refusal = (code: string, retryable: boolean) => new ApiError({ ...unreachable(), code, retryable });
const settled = () => new Promise((resolve) => setTimeout(resolve));

test("an opened source is reported once, under an id that follows from the act", async () => {
  const { acts, arrived } = actsWith();
  acts.opened(possible(), 2);
  acts.opened(possible(), 2);
  acts.opened(possible(), 3);
  await settled();
  assert.deepEqual(arrived, ["a-opened_source-2", "a-opened_source-3"]);
});

test("a possible answer that is neither sent nor marked good is passed over", async () => {
  const { acts, arrived } = actsWith();
  acts.left(possible({ verdicts: [verdict("bad")] }));
  await settled();
  assert.deepEqual(arrived, ["a-possibly_passed_over"]);
});

test("a possible answer that was sent, marked good or copied from is not passed over", async () => {
  const { acts, arrived } = actsWith();
  acts.left(possible({ sends: [{ at: "", sent: { send_id: "s", text: "t" } }] }));
  acts.left(possible({ verdicts: [verdict("bad"), verdict("good")] }));
  acts.copied(possible());
  acts.left(possible());
  await settled();
  assert.deepEqual(arrived, []);
});

test("an answer that is certain is neither taken nor passed over", async () => {
  const { acts, arrived } = actsWith();
  const record = { certainty: "answered", outcome: "done", answer_id: "a", sentences: [], gate: null };
  const certain = storedTurn({ record, sources: [], verdicts: [], sent: [] } as unknown as StoredAnswer);
  acts.taken(certain);
  acts.left(certain);
  await settled();
  assert.deepEqual(arrived, []);
});

test("a report is tried again while it may still be taken", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: [refusal("not_found", false), refusal("unreachable", true)] });
  acts.taken(possible());
  await settled();
  assert.deepEqual(arrived, ["a-possibly_taken"]);
  assert.deepEqual(pauses, [1_000, 5_000]);
});

test("attempts are bounded, and a report that cannot be delivered is dropped without a word", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: Array<ApiError>(4).fill(refusal("unreachable", true)) });
  acts.taken(possible());
  await settled();
  assert.deepEqual([arrived, pauses], [[], [1_000, 5_000, 20_000]]);
});

test("a refusal that stays is not tried again", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: [refusal("invalid_request", false)] });
  acts.taken(possible());
  await settled();
  assert.deepEqual([arrived, pauses], [[], []]);
});
