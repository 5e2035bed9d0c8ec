import assert from "node:assert/strict";
import { test } from "node:test";
import { pause, untilNetworkChanges } from "../src/network.ts";

const LONG_MS = 60_000;
const browserWindow = new EventTarget();
Object.assign(globalThis, {
  addEventListener: browserWindow.addEventListener.bind(browserWindow),
  removeEventListener: browserWindow.removeEventListener.bind(browserWindow),
});

test("a pause ends when the network comes or goes", async () => {
  for (const name of ["online", "offline"]) {
    const over = pause(LONG_MS, new AbortController().signal);
    browserWindow.dispatchEvent(new Event(name));
    await over;
  }
});

test("a pause ends with the reason when the agent stops", async () => {
  const controller = new AbortController();
  const reason = new Error("stopped");
  const over = pause(LONG_MS, controller.signal);
  controller.abort(reason);
  await assert.rejects(over, (error) => error === reason);
});

test("a pause ends by itself", async () => {
  await pause(1, new AbortController().signal);
});

test("a connection from before the network came back counts as dead", async () => {
  const wasDead = untilNetworkChanges(async (changed) => {
    browserWindow.dispatchEvent(new Event("online"));
    return changed.aborted;
  });
  assert.equal(await wasDead, true);
});
