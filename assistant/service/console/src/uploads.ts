/** Files on their way into the knowledge base, three at a time. */
import { type Signal, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { pause } from "./network.ts";
import { ApiError } from "./problems.ts";
import type { UploadResult } from "./wire.ts";

/** A file with its path as it was dropped: `handbook/pay/leave.pdf` of the folder `handbook`. */
export interface Picked {
  readonly path: string;
  readonly file: Blob;
}

export type Phase = "waiting" | "sending" | "reading" | "done" | "refused";

export interface UploadRow {
  readonly id: number;
  readonly path: string;
  readonly phase: Phase;
  /** Share of the bytes that have left, 0 to 1. */
  readonly share: number;
  readonly result: UploadResult | null;
  /** Why it was refused. */
  readonly reason: string | null;
}

export const MOST_FILES = 5_000;
const AT_ONCE = 3;
const MOST_TRIES = 8;
const ASKED_AT_ONCE = 50;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
const POLL_MS = 2_000;
const DRAWN_EVERY_MS = 500;

const NEW = { phase: "waiting", share: 0, result: null, reason: null } as const;

interface Task {
  row: UploadRow;
  readonly file: Blob;
  readonly source: string;
  readonly replaces: string | null;
  uploadId: string | null;
}

const MOST_KINDS = 6;
const OPEN_FILE = "~$ of a file that is open in Office";

/** The files that are read, and the others as a list: "53 .png, 23 .js, 6 hidden, 9 others". */
export function readable(picked: readonly Picked[], kinds: readonly string[]): readonly [Picked[], string] {
  const counts = new Map<string, number>();
  const read: Picked[] = [];
  for (const one of picked) {
    const name = one.path.slice(one.path.lastIndexOf("/") + 1).toLowerCase();
    const isLock = name.startsWith("~$"); // Office keeps it beside a file that is open
    const kind = /(^|\/)\./.test(one.path) ? "hidden" : isLock ? OPEN_FILE : (/\.[^.]+$/.exec(name)?.[0] ?? "without an ending");
    if (kind !== "hidden" && !isLock && kinds.some((ending) => name.endsWith(ending))) read.push(one);
    else counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const most = [...counts].sort(([, one], [, other]) => other - one);
  const others = most.slice(MOST_KINDS).reduce((sum, [, n]) => sum + n, 0);
  const words = most.slice(0, MOST_KINDS).map(([kind, n]) => `${n} ${kind}`);
  return [read, [...words, ...(others > 0 ? [`${others} others`] : [])].join(", ")];
}

/** Files with their paths below their source: in `folder` of it, without the name of the one folder that was dropped. */
export function placed(picked: readonly Picked[], folder: string): Picked[] {
  const root = `${picked[0]?.path.split("/")[0]}/`;
  const isOneFolder = picked.every(({ path }) => path.startsWith(root));
  const below = folder === "" ? "" : `${folder}/`;
  return picked.map(({ path, file }) => ({ path: below + (isOneFolder ? path.slice(root.length) : path), file }));
}

/** The uploads of this tab. Rows change together, twice a second at most. */
export class Uploads {
  readonly rows: Signal<readonly UploadRow[]> = signal([]);
  /** Files that were dropped and are not sent, by kind. */
  readonly leftOut: Signal<string> = signal("");
  /** Called when documents were added. */
  onRead: () => void = () => {};
  readonly #api: Api;
  readonly #tasks: Task[] = [];
  #waiting: Task[] = [];
  #added = 0;
  #running = 0;
  #isPolling = false;
  #isDrawn = true;

  constructor(api: Api) {
    this.#api = api;
  }

  /** Send files to the paths that they have below the source. */
  add(picked: readonly Picked[], source: string, { replaces = null }: { replaces?: string | null } = {}): void {
    const tasks = picked.map(({ path, file }): Task => {
      this.#added += 1;
      return { row: { id: this.#added, path, ...NEW }, file, source, replaces, uploadId: null };
    });
    this.#tasks.push(...tasks);
    this.#start(tasks);
  }

  /** Send files that were refused once more. */
  resend(rows: readonly UploadRow[]): void {
    const tasks = this.#tasks.filter(({ row }) => rows.includes(row));
    for (const task of tasks) task.row = { ...task.row, ...NEW };
    this.#start(tasks);
  }

  /** Forget what has ended. */
  clear(): void {
    const isOver = ({ row }: Task) => row.phase === "done" || row.phase === "refused";
    this.leftOut.value = "";
    this.#tasks.splice(0, this.#tasks.length, ...this.#tasks.filter((task) => !isOver(task)));
    this.#draw();
  }

  #start(tasks: readonly Task[]): void {
    this.#waiting.push(...tasks);
    this.#draw();
    addEventListener("beforeunload", stay);
    while (this.#running < AT_ONCE && this.#waiting.length > 0) void this.#work();
  }

  async #work(): Promise<void> {
    this.#running += 1;
    for (let task = this.#waiting.shift(); task !== undefined; task = this.#waiting.shift()) {
      try {
        await this.#send(task);
        this.#set(task, { phase: "reading", share: 1 });
        void this.#poll();
      } catch (error) {
        this.#refuse(task, error);
      }
    }
    this.#running -= 1;
    if (this.#running === 0) removeEventListener("beforeunload", stay);
  }

  async #send(task: Task): Promise<void> {
    const { file, source, replaces, row: { path } } = task;
    this.#set(task, { phase: "sending" });
    const send = () => this.#api.upload({ path, file, source, replaces }, (share) => this.#set(task, { share }));
    task.uploadId = (await again(send)).upload_id;
  }

  async #poll(): Promise<void> {
    if (this.#isPolling) return;
    this.#isPolling = true;
    for (let tries = 0; ; ) {
      const unread = this.#tasks.filter(({ row }) => row.phase === "reading").slice(0, ASKED_AT_ONCE);
      if (unread.length === 0) break;
      await pause(POLL_MS, new AbortController().signal);
      try {
        const { uploads } = await this.#api.uploadResults(unread.map(({ uploadId }) => uploadId ?? ""));
        const results = new Map(uploads.map(({ upload_id, result }) => [upload_id, result]));
        for (const task of unread) this.#take(task, results.get(task.uploadId ?? ""));
        if (uploads.some(({ result }) => result !== null)) this.onRead();
        tries = 0;
      } catch (error) {
        if (isTemporary(error) && (tries += 1) < MOST_TRIES) continue;
        tries = 0; // the files behind these are asked for too
        for (const task of unread) this.#refuse(task, error);
      }
    }
    this.#isPolling = false;
  }

  #take(task: Task, result: UploadResult | null | undefined): void {
    if (result === null) return;
    if (result === undefined) this.#set(task, { phase: "refused", reason: "The service no longer has it. Send it again." });
    else this.#set(task, { phase: isRefused(result) ? "refused" : "done", result, reason: result.refusals[0]?.reason ?? null });
  }

  #refuse(task: Task, error: unknown): void {
    const reason = error instanceof ApiError ? error.problem.detail : "The file cannot be read. Choose it again.";
    this.#set(task, { phase: "refused", reason });
  }

  #set(task: Task, change: Partial<UploadRow>): void {
    task.row = { ...task.row, ...change };
    this.#draw();
  }

  #draw(): void {
    if (!this.#isDrawn) return;
    this.#isDrawn = false;
    setTimeout(() => {
      this.#isDrawn = true;
      this.rows.value = this.#tasks.map(({ row }) => row);
    }, DRAWN_EVERY_MS);
  }
}

/** Have the browser ask before it leaves the page: files that are not sent yet would not come. */
function stay(event: Event): void {
  event.preventDefault();
}

function isRefused({ refused, added, changed, unchanged, withdrawn }: UploadResult): boolean {
  return refused > 0 && added + changed + unchanged + withdrawn === 0;
}

function isTemporary(error: unknown): boolean {
  return error instanceof ApiError && error.problem.retryable;
}

async function again<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await call();
    } catch (error) {
      if (!isTemporary(error) || tries >= MOST_TRIES) throw error;
      await rest(tries);
    }
  }
}

async function rest(tries: number): Promise<void> {
  await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** tries), new AbortController().signal);
}

/** The files of a drop, those of folders included but not of hidden ones. Reads no more than MOST_FILES and one. */
export async function droppedFiles(items: DataTransferItemList): Promise<Picked[]> {
  const entries = [...items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const picked: Picked[] = [];
  while (entries.length > 0 && picked.length <= MOST_FILES) {
    const entry = entries.shift();
    if (entry?.isFile) picked.push({ path: entry.fullPath.replace(/^\//, ""), file: await fileOf(entry as FileSystemFileEntry) });
    else if (entry?.isDirectory && !entry.name.startsWith(".")) entries.push(...(await entriesIn((entry as FileSystemDirectoryEntry).createReader())));
  }
  return picked;
}

/** The files of an `<input type="file">`, with or without `webkitdirectory`. */
export function chosenFiles(files: FileList): Picked[] {
  return [...files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

async function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return await new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** A reader gives a hundred at a time. */
async function entriesIn(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}
