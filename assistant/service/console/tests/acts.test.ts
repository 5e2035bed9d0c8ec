import assert from "node:assert/strict";
import { test } from "node:test";
import { Acts } from "../src/acts.ts";
import type { Api } from "../src/api.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import { type Turn, newTurn } from "../src/turn.ts";
import type { Act } from "../src/wire.ts";

function answered(): Turn {
  return { ...newTurn("key", "Why?"), answerId: "a", phase: "finished" };
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
  acts.opened(answered(), 2);
  acts.opened(answered(), 2);
  acts.opened(answered(), 3);
  await settled();
  assert.deepEqual(arrived, ["a-opened_source-2", "a-opened_source-3"]);
});

test("a report is tried again while it may still be taken", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: [refusal("not_found", false), refusal("unreachable", true)] });
  acts.opened(answered(), 2);
  await settled();
  assert.deepEqual(arrived, ["a-opened_source-2"]);
  assert.deepEqual(pauses, [1_000, 5_000]);
});

test("attempts are bounded, and a report that cannot be delivered is dropped without a word", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: Array<ApiError>(4).fill(refusal("unreachable", true)) });
  acts.opened(answered(), 2);
  await settled();
  assert.deepEqual([arrived, pauses], [[], [1_000, 5_000, 20_000]]);
});

test("a refusal that stays is not tried again", async () => {
  const { acts, arrived, pauses } = actsWith({ refusals: [refusal("invalid_request", false)] });
  acts.opened(answered(), 2);
  await settled();
  assert.deepEqual([arrived, pauses], [[], []]);
});
