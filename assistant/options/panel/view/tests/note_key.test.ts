import assert from "node:assert/strict";
import { test } from "node:test";
import { noteOf } from "../note_key.tsx";

test("the note of a conversation is asked for as text", async () => {
  const asked: unknown[] = [];
  const file = async (...call: unknown[]) => {
    asked.push(call);
    return new Blob(["the note"]);
  };
  assert.equal(await noteOf({ file }, "c/1"), "the note");
  const zone = encodeURIComponent(Intl.DateTimeFormat().resolvedOptions().timeZone);
  assert.deepEqual(asked, [[`/v1/conversations/c%2F1/note?zone=${zone}`, "text/plain"]]);
});
