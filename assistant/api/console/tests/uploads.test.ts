import assert from "node:assert/strict";
import { test } from "node:test";
import type { Api } from "../src/api.ts";
import { ApiError, unreachable } from "../src/problems.ts";
import { Uploads, placed, readable } from "../src/uploads.ts";
import type { UploadResult } from "../src/wire.ts";

const READ: UploadResult = {
  ...{ added: 1, changed: 0, unchanged: 0, withdrawn: 0, waiting: 0, refused: 0 },
  ...{ refusals: [], notes: [] },
};
const PART = 5 * 1024 * 1024;

globalThis.addEventListener ??= () => {};
globalThis.removeEventListener ??= () => {};

test("files come below the chosen folder: the name of what was dropped chooses none", () => {
  const paths = (folder: string, ...dropped: string[]) =>
    placed(dropped.map((path) => ({ path, file: new Blob() })), folder).map(({ path }) => path);
  assert.deepEqual(paths("pay", "intranet/desk/a.md", "intranet/b.md"), ["pay/desk/a.md", "pay/b.md"]);
  assert.deepEqual(paths("", "pay/a.md"), ["a.md"]);
  assert.deepEqual(paths("pay", "a.md"), ["pay/a.md"]);
  assert.deepEqual(paths("", "north/a.md", "south/a.md"), ["north/a.md", "south/a.md"]);
});

test("files of other kinds and hidden ones are left out and counted", () => {
  const paths = ["a.MD", ".git/b.md", "logo.png", "photo.PNG", "Makefile", "notes.md.gz", "c.js", "d.css", "e.svg", "f.ico"];
  const [read, others] = readable(paths.map((path) => ({ path, file: new Blob() })), [".md", ".pdf"]);
  assert.deepEqual(read.map(({ path }) => path), ["a.MD"]);
  assert.equal(others, "2 .png, 1 hidden, 1 without an ending, 1 .gz, 1 .js, 1 .css, 2 others");
});

test("a file goes on at the offset that the service tells after a broken connection", async () => {
  const sent: (readonly [number, number])[] = [];
  let isBroken = false;
  const api = {
    beginUpload: async () => ({ upload_id: "u1", result: null }),
    appendToUpload: async (_id: string, part: Blob, offset: number) => {
      if (offset === PART && !isBroken) {
        isBroken = true;
        throw new ApiError(unreachable());
      }
      sent.push([offset, part.size]);
      return offset + part.size;
    },
    uploadOffset: async () => PART,
    uploadResults: async (ids: readonly string[]) => ({ uploads: ids.map((upload_id) => ({ upload_id, result: READ })) }),
  };
  await new Promise<void>((resolve) => {
    const uploads = new Uploads(api as unknown as Api);
    uploads.onRead = resolve;
    uploads.add([{ path: "wiki/long.md", file: new Blob([new Uint8Array(PART + 7)]) }], "wiki");
  });
  assert.deepEqual(sent, [
    [0, PART],
    [PART, 7],
  ]);
});

test("a refusal has its reason, and stops no other file", async () => {
  const refusal = { ...unreachable(), status: 422, detail: "photos.zip: not one of .md", code: "document_invalid", retryable: false };
  const api = {
    beginUpload: async ({ path }: { path: string }) => {
      if (path === "photos.zip") throw new ApiError(refusal);
      return { upload_id: path, result: null };
    },
    appendToUpload: async (_id: string, part: Blob, offset: number) => offset + part.size,
    uploadResults: async (ids: readonly string[]) => ({ uploads: ids.map((upload_id) => ({ upload_id, result: READ })) }),
  };
  const uploads = new Uploads(api as unknown as Api);
  uploads.add(["photos.zip", "a.md"].map((path) => ({ path, file: new Blob(["text"]) })), "wiki");
  await new Promise<void>((resolve) => {
    uploads.rows.subscribe((rows) => rows.length === 2 && rows.every(({ phase }) => phase === "done" || phase === "refused") && resolve());
  });
  assert.deepEqual(
    uploads.rows.value.map(({ phase, reason }) => [phase, reason]),
    [
      ["refused", "photos.zip: not one of .md"],
      ["done", null],
    ],
  );
});
