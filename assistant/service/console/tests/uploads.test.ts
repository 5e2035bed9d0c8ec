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

function ended(uploads: Uploads, count: number): Promise<void> {
  return new Promise((resolve) => {
    uploads.rows.subscribe((rows) => rows.length === count && rows.every(({ phase }) => phase === "done" || phase === "refused") && resolve());
  });
}

test("after a broken connection a file is sent again, and its share is shown", async () => {
  const sent: number[] = [];
  const api = {
    upload: async ({ file }: { file: Blob }, onShare: (share: number) => void) => {
      sent.push(file.size);
      onShare(0.5);
      if (sent.length === 1) throw new ApiError(unreachable());
      return { upload_id: "u1", result: null };
    },
    uploadResults: async (ids: readonly string[]) => ({ uploads: ids.map((upload_id) => ({ upload_id, result: READ })) }),
  };
  const uploads = new Uploads(api as unknown as Api);
  const shares: number[] = [];
  uploads.rows.subscribe((rows) => rows.forEach(({ share }) => shares.push(share)));
  uploads.add([{ path: "wiki/long.md", file: new Blob([new Uint8Array(7)]) }], "wiki");
  await ended(uploads, 1);
  assert.deepEqual(sent, [7, 7]);
  assert.equal(shares.includes(0.5), true);
});

test("a refused file can be sent again", async () => {
  const refusal = { ...unreachable(), status: 422, detail: "a.md: the file is empty.", code: "document_invalid", retryable: false };
  let tries = 0;
  const api = {
    upload: async () => {
      if ((tries += 1) === 1) throw new ApiError(refusal);
      return { upload_id: "u1", result: null };
    },
    uploadResults: async (ids: readonly string[]) => ({ uploads: ids.map((upload_id) => ({ upload_id, result: READ })) }),
  };
  const uploads = new Uploads(api as unknown as Api);
  uploads.add([{ path: "a.md", file: new Blob(["text"]) }], "wiki");
  await ended(uploads, 1);
  assert.equal(uploads.rows.value[0]?.reason, "a.md: the file is empty.");
  const read = new Promise<void>((resolve) => (uploads.onRead = resolve));
  uploads.resend(uploads.rows.value);
  await read;
  assert.equal(tries, 2);
});

test("a refusal has its reason, and stops no other file", async () => {
  const refusal = { ...unreachable(), status: 422, detail: "photos.zip: not one of .md", code: "document_invalid", retryable: false };
  const api = {
    upload: async ({ path }: { path: string }) => {
      if (path === "photos.zip") throw new ApiError(refusal);
      return { upload_id: path, result: null };
    },
    uploadResults: async (ids: readonly string[]) => ({ uploads: ids.map((upload_id) => ({ upload_id, result: READ })) }),
  };
  const uploads = new Uploads(api as unknown as Api);
  uploads.add(["photos.zip", "a.md"].map((path) => ({ path, file: new Blob(["text"]) })), "wiki");
  await ended(uploads, 2);
  assert.deepEqual(
    uploads.rows.value.map(({ phase, reason }) => [phase, reason]),
    [
      ["refused", "photos.zip: not one of .md"],
      ["done", null],
    ],
  );
});

test("when no result can be read, the files behind the first fifty have an end too", async ({ mock }) => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const api = {
    upload: async ({ path }: { path: string }) => ({ upload_id: path, result: null }),
    uploadResults: () => Promise.reject(new ApiError(unreachable())),
  };
  const uploads = new Uploads(api as unknown as Api);
  uploads.add(Array.from({ length: 51 }, (_, n) => ({ path: `${n}.md`, file: new Blob(["text"]) })), "wiki");
  for (let steps = 0; steps < 40; steps += 1) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    mock.timers.tick(2_000);
  }
  assert.deepEqual(uploads.rows.value.filter(({ phase }) => phase !== "refused").map(({ path }) => path), []);
});
