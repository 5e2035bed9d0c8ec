/** The conversation on the screen: its turns, the words not sent yet, and all that an agent can do with them. */
import { type ReadonlySignal, type Signal, batch, computed, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { Answering, type Underway } from "./answering.ts";
import { Marking, type VerdictDraft } from "./marking.ts";
import { ApiError } from "./problems.ts";
import { Snippets } from "./snippets.ts";
import { clearTab, readTab, writeTab } from "./tab_state.ts";
import { type Turn, changeTurn, findTurn, newTurn, storedTurn } from "./turn.ts";
import type { Problem, Source, Started } from "./wire.ts";

export class Conversation {
  readonly turns: Signal<readonly Turn[]> = signal([]);
  readonly selectedKey: Signal<string | null> = signal(null);
  readonly question: Signal<string> = signal("");
  /** Answer id → the edited reply that was not sent yet. */
  readonly replies: Signal<Readonly<Record<string, string>>> = signal({});
  /** Why the conversation could not be restored. */
  readonly restoreProblem: Signal<Problem | null> = signal(null);
  readonly underway: ReadonlySignal<Underway | null>;
  /** The connection of the answer that is underway is lost and being tried again. */
  readonly isLost: ReadonlySignal<boolean>;
  readonly selected: ReadonlySignal<Turn | null> = computed(
    () => this.#turn(this.selectedKey.value),
  );

  readonly #api: Api;
  readonly #storage: Storage;
  readonly #author: string;
  readonly #answering: Answering;
  readonly #marking: Marking;
  readonly #snippets: Snippets;
  #conversationId: string | null = null;
  #pending: string | null = null;
  #runningId: string | null = null;
  #isLeaving = false;

  constructor({ api, storage, author }: { api: Api; storage: Storage; author: string }) {
    this.#api = api;
    this.#storage = storage;
    this.#author = author;
    this.#answering = new Answering({ api, turns: this.turns, onStarted: (key, ids) => this.#enter(key, ids) });
    this.underway = this.#answering.underway;
    this.isLost = this.#answering.isLost;
    this.#marking = new Marking(api);
    this.#snippets = new Snippets(api);
  }

  /** Bring back what this tab had open, if the same agent wrote it. Returns the turn that was still being answered. */
  async restore(): Promise<Turn | null> {
    const kept = readTab(this.#storage);
    if (kept === null || kept.author !== this.#author) {
      this.#keep();
      return null;
    }
    this.#conversationId = kept.conversationId;
    this.#pending = kept.pending;
    this.#runningId = kept.runningId ?? null;
    this.question.value = kept.question;
    this.replies.value = kept.replies;
    return await this.reload();
  }

  /** Read the conversation from the service again, and come back to the answer that was being written. */
  async reload(): Promise<Turn | null> {
    this.restoreProblem.value = null;
    const [pending, runningId] = [this.#pending, this.#runningId];
    try {
      const stored = await this.#storedTurns();
      const isKnown = new Set(stored.map(({ answerId }) => answerId));
      batch(() => {
        // what was asked meanwhile stays
        const asked = this.turns.value.filter(({ answerId }) => answerId === null || !isKnown.has(answerId));
        this.turns.value = [...stored, ...asked];
        if (asked.length === 0) this.selectedKey.value = stored.at(-1)?.key ?? null;
      });
      if (pending === null) return null;
      const isFree = this.underway.value === null;
      if (isFree && runningId !== null && !isKnown.has(runningId)) return await this.#comeBack(pending, runningId);
      if (stored.at(-1)?.question !== pending) this.#giveBack(pending);
      if (isFree) this.#setPending(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.restoreProblem.value = error.problem;
    }
    return null;
  }

  begin(): void {
    this.stop();
    this.#conversationId = null;
    this.#pending = this.#runningId = null;
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
  async ask(words: string): Promise<Turn | null> {
    const asked = words.trim();
    if (asked === "" || this.underway.value !== null) return null;
    const turn = newTurn(crypto.randomUUID(), asked);
    this.selectedKey.value = turn.key;
    this.#setPending(asked);
    const question = { key: turn.key, question: asked, conversationId: this.#conversationId };
    const problem = await this.#answering.answer(turn, (reader) => this.#api.ask(question, reader));
    // who has to sign in again finds the question again
    if (this.underway.value === null && problem?.status !== 401) this.#setPending(null);
    return this.#turn(turn.key);
  }

  /** Ask the question of a turn again; a turn that never became an answer gives way to the new one. */
  async retry(turn: Turn): Promise<Turn | null> {
    if (this.underway.value !== null) return null;
    if (turn.answerId === null) this.turns.value = this.turns.value.filter(({ key }) => key !== turn.key);
    return await this.ask(turn.question);
  }

  /** End the answer that is being written; what has arrived stays. */
  stop(): void {
    this.#answering.stop();
  }

  /** A restored source comes without its snippet: read the cited passage itself, once. */
  async readSnippet(turn: Turn, n: number): Promise<void> {
    const source = turn.sources.find((other) => other.n === n);
    const snippet = source === undefined ? null : await this.#snippets.of(source);
    if (snippet === null) return;
    const change = (other: Source) => (other.n === n ? { ...other, snippet } : other);
    this.#change(turn.key, (current) => ({ ...current, sources: current.sources.map(change) }));
  }

  /** Put the reply on record as sent. Throws ApiError; trying again with the same text is the same record. */
  async send(turn: Turn, text: string): Promise<void> {
    if (turn.answerId === null) return;
    const stored = await this.#marking.send(turn, turn.answerId, text);
    this.#change(turn.key, (current) => ({ ...current, isRecorded: true, sends: [...current.sends, stored] }));
    this.setReply(turn.answerId, null);
  }

  /** Put a verdict on record; earlier ones are kept, the last counts. Throws ApiError. */
  async judge(turn: Turn, draft: VerdictDraft): Promise<void> {
    if (turn.answerId === null) return;
    const stored = await this.#marking.judge(turn, turn.answerId, draft);
    this.#change(turn.key, (current) => ({ ...current, isRecorded: true, verdicts: [...current.verdicts, stored] }));
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

  /** Come back to an answer that the page was left by; where that is impossible its question is in the box again. */
  async #comeBack(question: string, answerId: string): Promise<Turn | null> {
    const turn: Turn = { ...newTurn(crypto.randomUUID(), question), answerId, phase: "searching" };
    this.selectedKey.value = turn.key;
    await this.#answering.answer(turn, (reader) => this.#api.follow(answerId, reader));
    const ended = this.#turn(turn.key);
    if (ended?.phase === "failed" && ended.text === "") {
      this.turns.value = this.turns.value.filter(({ key }) => key !== turn.key);
      this.#giveBack(question);
    }
    if (this.underway.value === null) this.#setPending(null);
    return ended;
  }

  /** Empty when nothing was on record before the page was reloaded. */
  async #storedTurns(): Promise<readonly Turn[]> {
    if (this.#conversationId === null) return [];
    try {
      const { answers } = await this.#api.conversation(this.#conversationId);
      return answers.map(storedTurn);
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.code !== "not_found") throw error;
      if (this.underway.value === null) this.#conversationId = null;
      return [];
    }
  }

  #turn(key: string | null): Turn | null {
    return findTurn(this.turns, key);
  }

  /** A question that was not answered is in the box again, unless another one is. */
  #giveBack(question: string): void {
    if (this.question.value === "") this.setQuestion(question);
  }

  #setPending(question: string | null): void {
    this.#pending = question;
    this.#runningId = null;
    this.#keep();
  }

  /** The answer and its conversation have ids; one that a new conversation left behind has no say in it. */
  #enter(key: string, { answer_id, conversation_id }: Started): void {
    if (this.#turn(key) === null) return;
    this.#conversationId = conversation_id;
    this.#runningId = answer_id;
    this.#keep();
  }

  #change(key: string, change: (turn: Turn) => Turn): void {
    changeTurn(this.turns, key, change);
  }

  #keep(): void {
    if (this.#isLeaving) return;
    writeTab(this.#storage, {
      author: this.#author,
      conversationId: this.#conversationId,
      question: this.question.value,
      pending: this.#pending,
      runningId: this.#runningId,
      replies: this.replies.value,
    });
  }
}
