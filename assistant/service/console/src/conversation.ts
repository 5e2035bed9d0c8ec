/** The conversation on the screen: its turns, the words not sent yet, and all that an agent can do with them. */
import { type ReadonlySignal, type Signal, batch, computed, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { ApiError } from "./problems.ts";
import { aroundSpan } from "./text.ts";
import { clearTab, readTab, writeTab } from "./tab_state.ts";
import { type Turn, afterEvent, afterProblem, afterStop, newTurn, storedTurn } from "./turn.ts";
import type { AnswerEvent, Problem, Source, VerdictLabel } from "./wire.ts";

/** Stands for a passage whose document was withdrawn or changed. */
const GONE = "This passage is no longer in the knowledge base.";

/** How long a cancelled answer's connection stays open for the service to hear of it. */
const CANCEL_LIMIT_MS = 2_000;

export interface VerdictDraft {
  readonly label: VerdictLabel;
  readonly reasons: readonly string[];
  readonly betterText: string;
  readonly wrongCitations: readonly number[];
}

interface Underway {
  readonly key: string;
  readonly startedAt: number;
  readonly controller: AbortController;
}

export class Conversation {
  readonly turns: Signal<readonly Turn[]> = signal([]);
  readonly selectedKey: Signal<string | null> = signal(null);
  readonly question: Signal<string> = signal("");
  /** Answer id → the edited reply that was not sent yet. */
  readonly replies: Signal<Readonly<Record<string, string>>> = signal({});
  /** Why the conversation could not be restored. */
  readonly restoreProblem: Signal<Problem | null> = signal(null);
  readonly underway: Signal<Underway | null> = signal(null);
  readonly selected: ReadonlySignal<Turn | null> = computed(
    () => this.turns.value.find((turn) => turn.key === this.selectedKey.value) ?? null,
  );

  readonly #api: Api;
  readonly #storage: Storage;
  readonly #author: string;
  readonly #attempts = new Map<string, { text: string; id: string }>();
  readonly #reading = new WeakSet<Source>();
  #conversationId: string | null = null;
  #pending: string | null = null;
  #isLeaving = false;

  constructor({ api, storage, author }: { api: Api; storage: Storage; author: string }) {
    this.#api = api;
    this.#storage = storage;
    this.#author = author;
  }

  /** Bring back what this tab had open, if the same agent wrote it. */
  async restore(): Promise<void> {
    const kept = readTab(this.#storage);
    if (kept === null || kept.author !== this.#author) {
      this.#keep();
      return;
    }
    this.#conversationId = kept.conversationId;
    this.#pending = kept.pending;
    this.question.value = kept.question;
    this.replies.value = kept.replies;
    await this.reload();
  }

  /** Read the conversation from the service again. */
  async reload(): Promise<void> {
    this.restoreProblem.value = null;
    try {
      const turns = await this.#storedTurns();
      batch(() => {
        this.turns.value = turns;
        this.selectedKey.value = turns.at(-1)?.key ?? null;
      });
      const isOnRecord = turns.at(-1)?.question === this.#pending;
      if (this.#pending !== null && !isOnRecord && this.question.value === "") this.question.value = this.#pending;
      this.#setPending(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.restoreProblem.value = error.problem;
    }
  }

  begin(): void {
    this.stop();
    this.#conversationId = null;
    this.#pending = null;
    batch(() => {
      this.turns.value = [];
      this.selectedKey.value = null;
      this.replies.value = {};
      this.question.value = "";
      this.restoreProblem.value = null;
    });
    this.#keep();
  }

  setQuestion(text: string): void {
    this.question.value = text;
    this.#keep();
  }

  setReply(answerId: string, text: string | null): void {
    const { [answerId]: _, ...others } = this.replies.value;
    this.replies.value = text === null ? others : { ...others, [answerId]: text };
    this.#keep();
  }

  /** Ask, and follow the answer to its end. Returns the turn as it ended. */
  async ask(question: string): Promise<Turn | null> {
    const asked = question.trim();
    if (asked === "" || this.underway.value !== null) return null;
    const turn = newTurn(crypto.randomUUID(), asked);
    const underway = { key: turn.key, startedAt: performance.now(), controller: new AbortController() };
    batch(() => {
      this.turns.value = [...this.turns.value, turn];
      this.selectedKey.value = turn.key;
      this.underway.value = underway;
    });
    this.#setPending(asked);
    await this.#follow(underway, asked);
    if (this.underway.value === null) this.#setPending(null);
    return this.turns.value.find(({ key }) => key === turn.key) ?? null;
  }

  /** Ask the question of a turn again; a turn that never became an answer gives way to the new one. */
  async retry(turn: Turn): Promise<Turn | null> {
    if (this.underway.value !== null) return null;
    if (turn.answerId === null) this.turns.value = this.turns.value.filter(({ key }) => key !== turn.key);
    return await this.ask(turn.question);
  }

  /** End the answer that is being written; what has arrived stays. */
  stop(): void {
    const underway = this.underway.value;
    if (underway === null) return;
    const turn = this.turns.value.find(({ key }) => key === underway.key);
    batch(() => {
      this.underway.value = null;
      this.#change(underway.key, (current) => afterStop({ ...current, elapsedMs: elapsedSince(underway) }));
    });
    void this.#cancel(turn?.answerId ?? null).finally(() => underway.controller.abort());
  }

  /** A restored source comes without its snippet: read the cited passage itself, once. */
  async readSnippet(turn: Turn, n: number): Promise<void> {
    const source = turn.sources.find((other) => other.n === n);
    if (source === undefined || source.snippet !== "" || this.#reading.has(source)) return;
    this.#reading.add(source);
    const snippet = await this.#passageOf(source);
    if (snippet === null) return;
    const change = (other: Source) => (other.n === n ? { ...other, snippet } : other);
    this.#change(turn.key, (current) => ({ ...current, sources: current.sources.map(change) }));
  }

  /** Put the reply on record as sent. Throws ApiError; trying again with the same text is the same record. */
  async send(turn: Turn, text: string): Promise<void> {
    if (turn.answerId === null) return;
    const attempt = `sent ${turn.answerId}`;
    const sent = { send_id: this.#attemptId(attempt, text), text };
    const stored = await this.#api.send(turn.answerId, sent);
    this.#attempts.delete(attempt);
    this.#change(turn.key, (current) => ({ ...current, sends: [...current.sends, stored] }));
    this.setReply(turn.answerId, null);
  }

  /** Put a verdict on record; earlier ones are kept, the last counts. Throws ApiError. */
  async judge(turn: Turn, draft: VerdictDraft): Promise<void> {
    if (turn.answerId === null) return;
    const attempt = `verdict ${turn.answerId}`;
    const verdict = {
      verdict_id: this.#attemptId(attempt, JSON.stringify(draft)),
      label: draft.label,
      reasons: draft.reasons,
      better_text: draft.betterText.trim() === "" ? null : draft.betterText,
      wrong_citations: draft.wrongCitations,
    };
    const stored = await this.#api.giveVerdict(turn.answerId, verdict);
    this.#attempts.delete(attempt);
    this.#change(turn.key, (current) => ({ ...current, verdicts: [...current.verdicts, stored] }));
  }

  /** The page goes away: calls that break off from now on say nothing about what was asked. */
  leave(): void {
    this.#isLeaving = true;
  }

  /** Forget everything on this side, for good: the agent signs out. */
  forget(): void {
    this.stop();
    this.leave();
    clearTab(this.#storage);
  }

  /** Tell the service to cancel, so that the record says so; it sees the connection close in any case. */
  async #cancel(answerId: string | null): Promise<void> {
    if (answerId === null) return;
    const limit = new Promise((resolve) => setTimeout(resolve, CANCEL_LIMIT_MS));
    await Promise.race([this.#api.cancel(answerId).catch(() => undefined), limit]);
  }

  async #follow(underway: Underway, question: string): Promise<void> {
    const { key, controller } = underway;
    const onEvents = (events: AnswerEvent[]) => {
      for (const { event, data } of events) if (event === "started") this.#enter(key, data.conversation_id);
      this.#change(key, (turn) => events.reduce(afterEvent, turn));
    };
    try {
      const asked = { question, conversationId: this.#conversationId };
      await this.#api.ask(asked, { signal: controller.signal, onEvents });
    } catch (error) {
      if (!(error instanceof ApiError)) {
        if (!controller.signal.aborted) throw error;
      } else this.#change(key, (turn) => afterProblem(turn, error.problem));
    } finally {
      if (this.underway.value?.key === key) {
        batch(() => {
          this.underway.value = null;
          this.#change(key, (turn) => ({ ...turn, elapsedMs: elapsedSince(underway) }));
        });
      }
    }
  }

  /** Empty when nothing was on record before the page was reloaded. */
  async #storedTurns(): Promise<readonly Turn[]> {
    if (this.#conversationId === null) return [];
    try {
      const { answers } = await this.#api.conversation(this.#conversationId);
      return answers.map(storedTurn);
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.code !== "not_found") throw error;
      this.#conversationId = null;
      return [];
    }
  }

  /** Null when it could not be read just now. */
  async #passageOf(source: Source): Promise<string | null> {
    try {
      const { text, span } = await this.#api.documentText(source.document_url);
      return span === null ? GONE : aroundSpan(text, span).marked;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#reading.delete(source);
      return error.problem.code === "not_found" ? GONE : null;
    }
  }

  #setPending(question: string | null): void {
    this.#pending = question;
    this.#keep();
  }

  /** The conversation has its id; an answer that a new conversation left behind has no say in it. */
  #enter(key: string, conversationId: string): void {
    if (!this.turns.value.some((turn) => turn.key === key)) return;
    this.#conversationId = conversationId;
    this.#keep();
  }

  #change(key: string, change: (turn: Turn) => Turn): void {
    this.turns.value = this.turns.value.map((turn) => (turn.key === key ? change(turn) : turn));
  }

  /** One id an attempt: the same until the record is kept or its content changes. */
  #attemptId(attempt: string, text: string): string {
    const before = this.#attempts.get(attempt);
    if (before?.text === text) return before.id;
    const id = crypto.randomUUID();
    this.#attempts.set(attempt, { text, id });
    return id;
  }

  #keep(): void {
    if (this.#isLeaving) return;
    writeTab(this.#storage, {
      author: this.#author,
      conversationId: this.#conversationId,
      question: this.question.value,
      pending: this.#pending,
      replies: this.replies.value,
    });
  }
}

function elapsedSince({ startedAt }: Underway): number {
  return performance.now() - startedAt;
}
