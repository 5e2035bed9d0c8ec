import assert from "node:assert/strict";
import { test } from "node:test";
import { sums } from "../bars.ts";
import { NAMES, REPLIED, dayBefore, half, share } from "../numbers.ts";
import type { Counts } from "../wire.ts";

const NONE = Object.fromEntries(Object.keys(NAMES).map((name) => [name, 0])) as unknown as Counts;

test("bars stand on those of the series before", () => {
  const series = [[1, 0], [2, 3], [0, 4]].map((values, at) => ({ name: `${at}`, colour: "--plot-1", values }));
  assert.deepEqual(sums(series).map(({ values }) => values), [[1, 0], [3, 3], [3, 7]]);
});

test("half of the replies are in the first bound that holds so many", () => {
  assert.equal(half(NONE), "–");
  assert.equal(half({ ...NONE, replied_10_s: 1, replied_60_s: 1 }), "≤ 10 s");
  assert.equal(half({ ...NONE, replied_10_s: 1, replied_60_s: 1, replied_later: 1 }), "≤ 1 min");
  assert.equal(half({ ...NONE, replied_later: 3 }), "over 15 min");
  assert.equal(REPLIED.length, 7);
});

test("a share of nothing is none", () => {
  assert.equal(share(1, 3), "33 %");
  assert.equal(share(0, 0), "–");
});

test("a period begins so many days before the day of the service", () => {
  assert.equal(dayBefore(6, new Date("2026-03-02T23:30:00-05:00")), "2026-02-25");
});
