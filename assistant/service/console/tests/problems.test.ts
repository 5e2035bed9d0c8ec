import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError, isThisMachine, unreachable, whole } from "../src/problems.ts";

/** Return what a console that was loaded from this host says of a service that does not answer. */
function saidAt(hostname: string): string {
  Object.defineProperty(globalThis, "location", { value: { hostname }, configurable: true });
  try {
    return unreachable().detail;
  } finally {
    Reflect.deleteProperty(globalThis, "location");
  }
}

test("a service on the reader's own machine that stopped says how to start it", () => {
  for (const hostname of ["127.0.0.1", "localhost", "[::1]"]) assert.match(saidAt(hostname), /has stopped.*make demo/);
});

test("elsewhere it is the network that is looked at", () => {
  assert.match(saidAt("assistant.northshop.net"), /Check the network/);
  assert.equal(isThisMachine(undefined), false);
});

test("a body that breaks off is as no answer at all", async () => {
  const cut = new ReadableStream<Uint8Array>({ pull: (body) => body.error(new TypeError("Failed to fetch")) });
  const said = (error: unknown) => error instanceof ApiError && error.problem.code === "unreachable";
  await assert.rejects(whole(new Response(cut).json()), said);
});
