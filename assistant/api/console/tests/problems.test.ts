import assert from "node:assert/strict";
import { test } from "node:test";

import { isThisMachine, unreachable } from "../src/problems.ts";

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
