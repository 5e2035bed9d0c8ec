/** The review desk on the screen: which cases are listed, which one is open, and what is typed and not saved yet. */
import { type ReadonlySignal, type Signal, batch, computed, signal } from "@preact/signals";
import { ApiError } from "@console/problems.ts";
import type { Problem } from "@console/wire.ts";
import type { DeskApi } from "./api.ts";
import { type ResolutionDraft, ReviewDrafts, emptyDraft, requestOf } from "./drafts.ts";
import type { DeskCase, CaseFilters, DeskCasePage, CaseRow, Gap } from "./wire.ts";

export type View = "queue" | "emergencies" | "gaps" | "items";

export const NO_FILTERS: CaseFilters = { state: null, reason: null, gap: null, document_id: null };

interface Parts {
  readonly api: DeskApi;
  readonly storage: Storage;
  /** Who reviews, as `issuer tenant subject`. */
  readonly author: string;
  /** The token's `sub`. */
  readonly reviewer: string;
}

export class Review {
  readonly view: Signal<View> = signal("queue");
  readonly filters: Signal<CaseFilters> = signal({ ...NO_FILTERS, state: "open" });
  /** Cases under the filters, as far as they were read; null before the first page. */
  readonly cases: Signal<readonly CaseRow[] | null> = signal(null);
  readonly hasMore: ReadonlySignal<boolean> = computed(() => this.#nextAfter.value !== null);
  readonly gaps: Signal<readonly Gap[] | null> = signal(null);
  readonly selectedId: Signal<string | null> = signal(null);
  readonly detail: Signal<DeskCase | null> = signal(null);
  /** Why the list or the case could not be read. */
  readonly problem: Signal<Problem | null> = signal(null);
  readonly drafts: Signal<Readonly<Record<string, ResolutionDraft>>>;
  readonly api: DeskApi;
  readonly reviewer: string;

  readonly #kept: ReviewDrafts;
  readonly #nextAfter: Signal<string | null> = signal(null);

  constructor({ api, storage, author, reviewer }: Parts) {
    this.api = api;
    this.reviewer = reviewer;
    this.#kept = new ReviewDrafts({ storage, author });
    this.drafts = signal(this.#kept.read());
  }

  /** Read the queue's first page under the filters. */
  async load(): Promise<void> {
    const filters = this.filters.peek();
    await this.#reading(async () => {
      const page = await this.api.cases(filters, null);
      if (this.filters.peek() === filters) this.#take(page, []);
    }, () => this.filters.peek() === filters);
  }

  async loadMore(): Promise<void> {
    const [filters, after] = [this.filters.peek(), this.#nextAfter.peek()];
    if (after === null) return;
    await this.#reading(async () => {
      const page = await this.api.cases(filters, after);
      const isStill = this.filters.peek() === filters && this.#nextAfter.peek() === after;
      if (isStill) this.#take(page, this.cases.peek() ?? []);
    }, () => this.filters.peek() === filters);
  }

  async loadGaps(): Promise<void> {
    await this.#reading(async () => {
      const { gaps } = await this.api.gaps();
      this.gaps.value = [...gaps].sort((a, b) => b.count - a.count);
    });
  }

  /** List other cases; the open one is closed, and those of the filters before can no longer be opened. */
  async filter(change: Partial<CaseFilters>): Promise<void> {
    batch(() => {
      this.filters.value = { ...this.filters.peek(), ...change };
      this.cases.value = null;
      this.#nextAfter.value = null;
      this.view.value = this.filters.peek().reason === "emergency" ? "emergencies" : "queue";
      this.close();
    });
    await this.load();
  }

  async open(caseId: string): Promise<void> {
    batch(() => {
      if (this.detail.peek()?.case_id !== caseId) this.detail.value = null;
      this.selectedId.value = caseId;
    });
    const isStill = () => this.selectedId.peek() === caseId;
    await this.#reading(async () => this.#show(await this.api.case(caseId)), isStill);
  }

  close(): void {
    batch(() => {
      this.selectedId.value = null;
      this.detail.value = null;
    });
  }

  /** A gap's title, as far as the gaps were read. */
  gapTitle(gap: string): string {
    return this.gaps.value?.find((one) => one.gap === gap)?.title ?? gap;
  }

  /** A document's title, as far as a listed case names it. */
  documentTitle(documentId: string): string {
    const documents = this.cases.value?.flatMap((row) => row.documents) ?? [];
    return documents.find(({ document_id }) => document_id === documentId)?.title ?? documentId;
  }

  /** What was typed for a case, or what it offers to begin with. */
  draftOf(detail: DeskCase): ResolutionDraft {
    return this.drafts.value[detail.case_id] ?? emptyDraft(detail, new Date());
  }

  setDraft(caseId: string, draft: ResolutionDraft | null): void {
    const { [caseId]: _, ...others } = this.drafts.peek();
    this.drafts.value = draft === null ? others : { ...others, [caseId]: draft };
    this.#kept.write(this.drafts.peek());
  }

  /** Resolve the case as its draft says. The draft goes once that is saved. Throws ApiError. */
  async resolve(detail: DeskCase): Promise<void> {
    const draft = this.draftOf(detail);
    await this.#change(detail, () => this.api.resolve(detail.case_id, requestOf(draft, detail.revision)));
    this.setDraft(detail.case_id, null);
  }

  /** Approve a proposed resolution, or send it back. Throws ApiError. */
  async approve(detail: DeskCase, { isApproved, note }: { isApproved: boolean; note: string }): Promise<void> {
    const request = { revision: detail.revision, approve: isApproved, note };
    await this.#change(detail, () => this.api.approve(detail.case_id, request));
  }

  /** Take a case up again that was resolved, dismissed or proposed. Throws ApiError. */
  async reopen(detail: DeskCase, note: string): Promise<void> {
    await this.#change(detail, () => this.api.reopen(detail.case_id, { revision: detail.revision, note }));
  }

  /** Show the case as it is after a change; after a conflict, as somebody else has changed it meanwhile. */
  async #change({ case_id }: DeskCase, call: () => Promise<DeskCase>): Promise<void> {
    try {
      this.#show(await call());
    } catch (error) {
      const isStill = this.selectedId.peek() === case_id; // else another case was opened meanwhile
      if (isStill && error instanceof ApiError && error.problem.status === 409) await this.open(case_id);
      throw error;
    }
  }

  /** Show a case in its line of the list, and in whole if it is the open one. */
  #show(detail: DeskCase): void {
    const caseId = detail.case_id;
    const { state, resolved_by } = detail.case;
    const change = (row: CaseRow) =>
      row.case_id === caseId ? { ...row, revision: detail.revision, state, resolved_by } : row;
    batch(() => {
      if (this.selectedId.peek() === caseId) this.detail.value = detail;
      this.cases.value = this.cases.peek()?.map(change) ?? null;
    });
  }

  #take({ cases, next_after }: DeskCasePage, before: readonly CaseRow[]): void {
    const known = new Set(before.map(({ case_id }) => case_id));
    batch(() => {
      this.cases.value = [...before, ...cases.filter(({ case_id }) => !known.has(case_id))];
      this.#nextAfter.value = next_after;
    });
  }

  /** Read, and show a failure unless something else was chosen meanwhile. */
  async #reading(read: () => Promise<void>, isStill = () => true): Promise<void> {
    this.problem.value = null;
    try {
      await read();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (isStill()) this.problem.value = error.problem;
    }
  }
}

/** What a refused change means for the reviewer, and what to do. Whatever was typed is kept in each case. */
export function refusalWords({ status, detail }: Problem): string {
  switch (status) {
    case 409:
      return `${detail} The newest state is shown now. Your text is kept: check it, then save again.`;
    case 403:
      return `You may not do this. ${detail} Your text is kept: ask somebody who may.`;
    case 422:
      return `This was not accepted. ${detail} Correct it and save again.`;
    case 401:
      return "Your sign-in has ended. Sign in again at the top of the page: your text is kept in this tab.";
    default:
      return `This was not saved. ${detail} Your text is kept: try again.`;
  }
}
