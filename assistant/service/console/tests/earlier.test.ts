import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "../src/api.ts";
import { Earlier } from "../src/earlier.ts";
import { ApiError, unreachable } from "../src/problems.ts";

class BrowserStorage {
  readonly items = new Map<string, string>();
  getItem = (key: string) => this.items.get(key) ?? null;
  setItem = (key: string, value: string) => void this.items.set(key, value);
  removeItem = (key: string) => void this.items.delete(key);
}

function earlierOf(storage: BrowserStorage, { author = "i pharmacy amira", conversation = missing as unknown } = {}) {
  const api = { conversation } as unknown as Api;
  return new Earlier({ api, storage: storage as unknown as Storage, author });
}

async function missing(): Promise<never> {
  throw new ApiError({ ...unreachable(), code: "not_found" });
}

test("the browser keeps ids and times, no word of a question, no name", async () => {
  const storage = new BrowserStorage();
  await earlierOf(storage).note("c", "What about patient 4711?");
  const [[key = "", value = ""] = []] = [...storage.items];
  assert.match(key, /^care-console\.earlier\.[0-9a-f]{32}$/);
  assert.deepEqual(Object.keys(JSON.parse(value)[0]), ["id", "at"]);
});

test("another agent has a list of their own", async () => {
  const storage = new BrowserStorage();
  await earlierOf(storage).note("c", "Why?");
  const other = earlierOf(storage, { author: "i pharmacy ben" });
  await other.restore();
  assert.deepEqual(other.list.value, []);
});

test("the newest comes first, once, and fifty are kept", async () => {
  const earlier = earlierOf(new BrowserStorage());
  for (let n = 0; n < 52; n += 1) await earlier.note(`c${n}`, "Why?");
  await earlier.note("c10", "And?");
  assert.deepEqual([earlier.list.value.length, earlier.list.value[0]?.id, earlier.list.value[1]?.id], [50, "c10", "c51"]);
});

test("removing and clearing leave nothing behind", async () => {
  const storage = new BrowserStorage();
  const earlier = earlierOf(storage);
  await earlier.note("a", "Why?");
  await earlier.note("b", "Why?");
  await earlier.remove("a");
  assert.deepEqual(earlier.list.value.map(({ id }) => id), ["b"]);
  await earlier.clear();
  assert.equal(storage.items.size, 0);
});

test("a conversation that the service has deleted goes off the list, a new one stays", async () => {
  const storage = new BrowserStorage();
  const earlier = earlierOf(storage);
  await earlier.note("new", "Why?");
  const [key = ""] = storage.items.keys();
  const fresh = JSON.parse(storage.items.get(key) ?? "[]")[0];
  const stale = { id: "old", at: "2020-01-01T00:00:00Z" };
  storage.setItem(key, JSON.stringify([fresh, stale, "nonsense"]));
  const reloaded = earlierOf(storage);
  await reloaded.restore();
  for (const item of reloaded.list.value) await reloaded.readQuestion(item);
  assert.deepEqual(reloaded.list.value.map(({ id }) => id), ["new"]);
});
