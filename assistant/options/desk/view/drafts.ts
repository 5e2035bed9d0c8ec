/**
 * What a reviewer has typed and not saved yet, by case: kept by this tab alone (sessionStorage) until it is saved, so
 * that no refusal, reload or sign-in loses it.
 */
import { readStored, writeStored } from "@console/stored_values.ts";
import type { CaseResolution, DeskCase, ResolutionKind } from "./wire.ts";

const KEY = "care-console.review";
const LIFE_DAYS = 180;
const DAY_MS = 86_400_000;

/** The fields of all kinds of resolution: changing the kind loses nothing. */
export interface ResolutionDraft {
  readonly kind: ResolutionKind | null;
  readonly note: string;
  readonly text: string;
  /** The question and its other wordings, one a line. */
  readonly questions: string;
  /** An ISO date. */
  readonly expiresOn: string;
  readonly documentIds: readonly string[];
  readonly question: string;
  readonly said: string;
  readonly means: string;
}

/** What a case offers to begin with. */
export function emptyDraft({ asked, shown, better_text, case: { documents } }: DeskCase, now: Date): ResolutionDraft {
  return {
    kind: null,
    note: "",
    text: better_text ?? "",
    questions: asked,
    expiresOn: new Date(now.getTime() + LIFE_DAYS * DAY_MS).toISOString().slice(0, 10),
    // the documents of an answer that was not there are only the nearest ones
    documentIds: shown === "" ? [] : documents.slice(0, 1),
    question: asked,
    said: "",
    means: "",
  };
}

export function questionsOf({ questions }: ResolutionDraft): string[] {
  const lines = questions.split("\n").map((line) => line.trim());
  return [...new Set(lines.filter((line) => line !== ""))];
}

/** The field that must be filled in first, with words for the reviewer; null when nothing is missing. */
export function missingIn(draft: ResolutionDraft): { readonly field: string; readonly words: string } | null {
  const wanted = REQUIRED[draft.kind ?? "none"];
  return wanted.find(({ isThere }) => !isThere(draft)) ?? null;
}

interface Wanted {
  readonly field: string;
  readonly words: string;
  readonly isThere: (draft: ResolutionDraft) => boolean;
}

const NOTE: Wanted = {
  field: "resolution-note",
  words: "Say why: the note goes into the history.",
  isThere: ({ note }) => note.trim() !== "",
};
const REQUIRED: Readonly<Record<ResolutionKind | "none", readonly Wanted[]>> = {
  none: [{ field: "kind-approved_answer", words: "Choose how to resolve it.", isThere: () => false }],
  approved_answer: [
    { field: "approved-questions", words: "Enter at least one question.", isThere: (it) => questionsOf(it).length > 0 },
    { field: "approved-text", words: "Enter the answer.", isThere: ({ text }) => text.trim() !== "" },
    { field: "approved-expiry", words: "Enter the day on which it expires.", isThere: ({ expiresOn }) => expiresOn !== "" },
  ],
  glossary_entry: [
    { field: "glossary-said", words: "Enter what callers say.", isThere: ({ said }) => said.trim() !== "" },
    { field: "glossary-means", words: "Enter what the documents call it.", isThere: ({ means }) => means.trim() !== "" },
  ],
  correction: [{ ...NOTE, words: "Say what is wrong in the document: its owner reads it." }],
  dismissed: [NOTE],
};

/** The request that a complete draft makes. */
export function requestOf(draft: ResolutionDraft, revision: number): CaseResolution {
  const kind = draft.kind ?? "dismissed";
  const request = { revision, kind, note: draft.note.trim() };
  switch (kind) {
    case "approved_answer": {
      const { text, expiresOn: expires_on, documentIds: document_ids } = draft;
      return { ...request, approved_answer: { questions: questionsOf(draft), text, expires_on, document_ids } };
    }
    case "glossary_entry":
      return { ...request, glossary_entry: { said: draft.said.trim(), means: draft.means.trim() } };
    default:
      return request;
  }
}

/** Drafts of one author by case id. What another author left in the tab is dropped. */
export class ReviewDrafts {
  readonly #storage: Storage;
  readonly #author: string;

  constructor({ storage, author }: { storage: Storage; author: string }) {
    this.#storage = storage;
    this.#author = author;
  }

  read(): Readonly<Record<string, ResolutionDraft>> {
    const stored = readStored(this.#storage, KEY);
    if (typeof stored !== "object" || stored === null || !("author" in stored) || !("drafts" in stored)) return {};
    const { author, drafts } = stored;
    if (author !== this.#author) ReviewDrafts.clear(this.#storage);
    if (author !== this.#author || typeof drafts !== "object" || drafts === null) return {};
    return Object.fromEntries(Object.entries(drafts).filter(([, draft]) => isDraft(draft)));
  }

  write(drafts: Readonly<Record<string, ResolutionDraft>>): void {
    writeStored(this.#storage, KEY, { author: this.#author, drafts });
  }

  static clear(storage: Storage): void {
    storage.removeItem(KEY);
  }
}

function isDraft(draft: unknown): draft is ResolutionDraft {
  if (typeof draft !== "object" || draft === null) return false;
  const texts = ["note", "text", "questions", "expiresOn", "said", "means"];
  const fields = new Map(Object.entries(draft));
  return texts.every((name) => typeof fields.get(name) === "string") && Array.isArray(fields.get("documentIds"));
}
