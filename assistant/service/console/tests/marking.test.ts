import assert from "node:assert/strict";
import { test } from "node:test";
import { onceRecorded } from "../src/marking.ts";
import { ApiError, unreachable } from "../src/problems.ts";

function refusal(status: number, code: string, retryAfterMs = 0): ApiError {
  return new ApiError({ ...unreachable(), status, code }, { retryAfterMs });
}

/** A call that is refused so many times, and the pauses that were made. */
function refused(error: ApiError, times: number) {
  const pauses: number[] = [];
  let calls = 0;
  const call = async () => {
    calls += 1;
    if (calls <= times) throw error;
    return calls;
  };
  return { pauses, kept: onceRecorded(call, async (milliseconds) => void pauses.push(milliseconds)) };
}

test("what comes before the record is tried again until that has followed", async () => {
  for (const error of [refusal(404, "not_found"), refusal(503, "records_unavailable", 1_000)]) {
    assert.equal(await refused(error, 3).kept, 4);
  }
});

test("tries are bounded", async () => {
  const { kept, pauses } = refused(refusal(404, "not_found"), 100);
  await assert.rejects(kept, (error) => error instanceof ApiError);
  assert.deepEqual(pauses, [500, 1_000, 2_000, 4_000, 8_000]);
});

test("a pause that the service asks for is kept, within bounds", async () => {
  const { kept, pauses } = refused(refusal(503, "records_unavailable", 60_000), 1);
  await kept;
  assert.deepEqual(pauses, [5_000]);
});

test("a refusal that no record will change is not tried again", async () => {
  for (const error of [refusal(422, "invalid_request"), refusal(401, "unauthenticated"), refusal(0, "unreachable")]) {
    await assert.rejects(refused(error, 1).kept, (thrown) => thrown === error);
  }
});
