/** The conversation on the screen: its turns, the words not sent yet, and all that an agent can do with them. */
import { type ReadonlySignal, type Signal, batch, computed, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { Acts } from "./acts.ts";
import { Answering, type Underway } from "./answering.ts";
import { plainText } from "./lines.ts";
import { liveSpans, liveTexts, textsIn, withElement, withoutValues } from "./elements.ts";
import { Marking, type VerdictDraft } from "./marking.ts";
import type { QuestionContext } from "./options.ts";
import { ApiError } from "./problems.ts";
import type { Guarded } from "./replying.ts";
import { Snippets } from "./snippets.ts";
import { textAt } from "./text.ts";
import { type Began, clearTab, isUnfinished, type KeptDraft, readTab, writeTab } from "./tab_state.ts";
import { type Turn, changeTurn, findTurn, newTurn, storedTurn } from "./turn.ts";
import type { ChatTurn, Element, LiveText, Problem, Source, Started } from "./wire.ts";

/** Messages of a chat that the service reads. */
const MOST_READ = 40;

interface Parts {
  readonly api: Api;
  readonly storage: Storage;
  /** Who writes, as `issuer tenant subject`. */
  readonly author: string;
  /** A question has its place in a conversation. */
  readonly onAsked?: (conversationId: string, question: string) => void;
  readonly context?: QuestionContext | undefined;
}

export class Conversation {
  readonly turns: Signal<readonly Turn[]> = signal([]);
  readonly selectedKey: Signal<string | null> = signal(null);
  readonly question: Signal<string> = signal("");
  /** Whether the next question stays in this conversation; false again after each. */
  readonly isFollowUp: Signal<boolean> = signal(false);
  /** Answer id → the edited reply that was not sent yet. */
  readonly replies: Signal<Readonly<Record<string, string>>> = signal({});
  /** Answer id → what its reply is an edit of. */
  readonly drafts: Signal<Readonly<Record<string, KeptDraft>>> = signal({});
  /** Why the conversation could not be restored. */
  readonly restoreProblem: Signal<Problem | null> = signal(null);
  readonly underway: ReadonlySignal<Underway | null>;
  /** The connection of the answer that is underway is lost and being tried again. */
  readonly isLost: ReadonlySignal<boolean>;
  readonly selected: ReadonlySignal<Turn | null> = computed(
    () => this.#turn(this.selectedKey.value),
  );

  /** Null before the first question of a conversation. */
  readonly id: ReadonlySignal<string | null> = computed(() => this.#conversationId.value);

  readonly #api: Api;
  readonly #storage: Storage;
  readonly #author: string;
  readonly #answering: Answering;
  readonly #marking: Marking;
  readonly #acts: Acts;
  readonly #snippets: Snippets;
  readonly #context: QuestionContext | undefined;
  readonly #onAsked: (conversationId: string, question: string) => void;
  readonly #conversationId: Signal<string | null> = signal(null);
  /** Answer id → live values in its reply. */
  #liveTexts: Readonly<Record<string, readonly LiveText[]>> = {};
  /** Turn → the token of its question: a reply goes to that chat, whichever is open by then. */
  readonly #contextOf = new Map<string, string>();
  #pending: string | null = null;
  #runningId: string | null = null;
  /** The conversation that the service was found not to keep. */
  #goneId: string | null = null;
  #isLeaving = false;

  constructor({ api, storage, author, onAsked = () => undefined, context }: Parts) {
    this.#context = context;
    this.#api = api;
    this.#storage = storage;
    this.#author = author;
    this.#onAsked = onAsked;
    this.#answering = new Answering({ api, turns: this.turns, onStarted: (key, ids) => this.#enter(key, ids) });
    this.underway = this.#answering.underway;
    this.isLost = this.#answering.isLost;
    this.#marking = new Marking(api);
    this.#acts = new Acts(api);
    this.#snippets = new Snippets(api);
  }

  /** Bring back what this tab had open, if the same agent wrote it. Returns the turn that was still being answered. */
  async restore(): Promise<Turn | null> {
    const kept = readTab(this.#storage);
    if (kept === null || kept.author !== this.#author) {
      this.#keep();
      return null;
    }
    this.#conversationId.value = kept.conversationId;
    this.#pending = kept.pending;
    this.#runningId = kept.runningId ?? null;
    this.question.value = kept.question;
    this.replies.value = kept.replies;
    this.drafts.value = kept.drafts ?? {};
    this.#liveTexts = kept.liveTexts ?? {};
    return await this.reload();
  }

  /** Read the conversation from the service again, and come back to the answer that was being written. */
  async reload(): Promise<Turn | null> {
    this.restoreProblem.value = null;
    const conversationId = this.#conversationId.value;
    const [pending, runningId] = [this.#pending, this.#runningId];
    try {
      const stored = await this.#storedTurns(conversationId);
      if (this.#conversationId.peek() !== conversationId && stored.length > 0) return null; // another one was opened
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
      // of a chat's turns the record has the customer's last words, and the agent's
      const isStored = stored.at(-1)?.question === pending || (runningId !== null && isKnown.has(runningId));
      if (!isStored) this.#giveBack(pending);
      if (isFree) this.#setPending(null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.#conversationId.peek() === conversationId) this.restoreProblem.value = error.problem;
    }
    return null;
  }

  /**
   * Leave this conversation for an empty one, and its customer: nobody's data are read for the next question.
   * Replies that were not sent stay until they are.
   */
  begin(): void {
    this.#leaveThread();
    this.#context?.forget();
    this.question.value = "";
    this.#keep();
  }

  /** Read an earlier conversation in the place of this one. `gone`: the service does not keep it any more; `left`: the
   * agent went on to another one before it was read. */
  async openEarlier(id: string): Promise<"open" | "gone" | "left"> {
    this.#leaveThread();
    this.#context?.forget();
    this.#conversationId.value = id;
    this.#keep();
    this.#goneId = null;
    await this.reload();
    if (this.#goneId === id) return "gone";
    return this.#conversationId.peek() === id ? "open" : "left";
  }

  setQuestion(text: string): void {
    this.question.value = text;
    this.#keep();
  }

  setReply(answerId: string, text: string | null): void {
    const { [answerId]: _, ...others } = this.replies.value;
    this.replies.value = text === null ? others : { ...others, [answerId]: text };
    if (text === null) this.setDraft(answerId, null);
    const { [answerId]: __, ...live } = this.#liveTexts;
    const turn = this.turns.value.find((other) => other.answerId === answerId);
    const known = turn === undefined ? (this.#liveTexts[answerId] ?? []) : this.#liveOf(turn);
    const own = text === null ? [] : textsIn(text, known);
    this.#liveTexts = own.length === 0 ? live : { ...live, [answerId]: own };
    this.#keep();
  }

  /** What the agent's text is an edit of; null with the text. */
  setDraft(answerId: string, draft: KeptDraft | null): void {
    const { [answerId]: _, ...others } = this.drafts.value;
    this.drafts.value = draft === null ? others : { ...others, [answerId]: draft };
    this.#keep();
  }

  /** Put words into the reply, after what is written there; the first ones are what the agent began with. */
  insert(answerId: string, text: string, began: Began): void {
    const written = this.replies.value[answerId]?.trim() ?? "";
    if (!written.includes(text)) this.setReply(answerId, [written, text].filter(Boolean).join("\n\n"));
    const draft = this.drafts.value[answerId];
    if (draft === undefined || isUnfinished(draft)) this.setDraft(answerId, { text: "", replyId: null, began });
  }

  /** The agent has read the message, whose language is not checked for emergencies. */
  readForEmergency({ key }: Turn): void {
    this.#change(key, (turn) => ({ ...turn, uncheckedLanguage: null, isRead: true }));
  }

  /** Put the offered answer into the reply. */
  takeOffered(turn: Turn): void {
    if (turn.offered === null || turn.answerId === null) return;
    this.insert(turn.answerId, plainText(turn.offered.text), { began_with: "approved" });
    this.#acts.usedOffered(turn);
  }

  /** Ask, in a fresh conversation unless it follows up, to the answer's end. Returns the turn as it ended. */
  async ask(words: string, { isFollowUp = false }: { isFollowUp?: boolean } = {}): Promise<Turn | null> {
    return await this.#ask(words.trim(), isFollowUp, { question: words.trim() });
  }

  /** Ask what is open in a chat; its last message of the customer stands for the question. */
  async askChat(chat: readonly ChatTurn[]): Promise<Turn | null> {
    const last = chat.findLast(({ who }) => who === "customer")?.text ?? "";
    return await this.#ask(last, false, { question: "", turns: chat.slice(-MOST_READ) });
  }

  async #ask(
    asked: string,
    isFollowUp: boolean,
    request: { readonly question: string; readonly turns?: readonly ChatTurn[] },
  ): Promise<Turn | null> {
    if (asked === "" || this.underway.value !== null) return null;
    if (!isFollowUp) this.#leaveThread();
    this.isFollowUp.value = false;
    const turn = newTurn(crypto.randomUUID(), asked, request.turns);
    this.selectedKey.value = turn.key;
    this.#setPending(asked);
    const context = this.#context?.unused() ?? null;
    if (context !== null) this.#contextOf.set(turn.key, context);
    const question = { key: turn.key, ...request, conversationId: this.#conversationId.value, context };
    const problem = await this.#answering.answer(turn, (reader) => this.#api.ask(question, reader));
    if (problem?.code === "context_used") this.#countContext(turn.key);
    // who has to sign in again finds the question again
    if (this.underway.value === null && problem?.status !== 401) this.#setPending(null);
    return this.#turn(turn.key);
  }

  /** Ask the question of a turn again; a turn that never became an answer gives way to the new one. */
  async retry(turn: Turn): Promise<Turn | null> {
    if (this.underway.value !== null) return null;
    if (turn.answerId === null) this.turns.value = this.turns.value.filter(({ key }) => key !== turn.key);
    return await this.ask(turn.question, { isFollowUp: true });
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
  async send(
    turn: Turn,
    text: string,
    { isDelivered, began, guarded }: { isDelivered: boolean; began?: Began; guarded?: Guarded },
  ): Promise<void> {
    if (turn.answerId === null) return;
    const live = liveSpans(text, this.#liveOf(turn));
    const context = this.#contextOf.get(turn.key);
    const stored = await this.#marking.send(turn, turn.answerId, text, { live, context, guarded, ...(began && { began }) });
    const sent = { ...stored, isDelivered };
    this.#change(turn.key, (current) => ({ ...current, isRecorded: true, sends: [...current.sends, sent] }));
    this.setReply(turn.answerId, null);
  }

  /** An edited reply as a better answer: of one customer's values it has the names alone. */
  betterText(turn: Turn, reply: string): string {
    return withoutValues(reply, this.#liveOf(turn), turn.elements);
  }

  /** Put a verdict on record; earlier ones are kept, the last counts. Throws ApiError. */
  async judge(turn: Turn, draft: VerdictDraft): Promise<void> {
    if (turn.answerId === null) return;
    const stored = await this.#marking.judge(turn, turn.answerId, draft);
    this.#change(turn.key, (current) => ({ ...current, isRecorded: true, verdicts: [...current.verdicts, stored] }));
  }

  /** Show a newer state of an element. */
  show(turn: Turn, element: Element): void {
    this.#change(turn.key, (current) => ({ ...current, elements: withElement(current.elements, element) }));
  }

  /** The agent opened a source of a turn. */
  noteOpened(turnKey: string, n: number): void {
    const turn = this.#turn(turnKey);
    if (turn !== null) this.#acts.opened(turn, n);
  }

  /** The page goes away: calls that break off from now on say nothing about what was asked. */
  leave(): void {
    this.#isLeaving = true;
  }

  /** Forget everything on this side, for good: the agent signs out. */
  forget(): void {
    this.stop();
    this.leave();
    this.#context?.forget();
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
  async #storedTurns(conversationId: string | null): Promise<readonly Turn[]> {
    if (conversationId === null) return [];
    try {
      const { answers } = await this.#api.conversation(conversationId);
      return answers.map(storedTurn);
    } catch (error) {
      if (!(error instanceof ApiError) || error.problem.code !== "not_found") throw error;
      this.#goneId = conversationId;
      const isStill = this.#conversationId.peek() === conversationId;
      if (isStill && this.underway.value === null) this.#conversationId.value = null;
      return [];
    }
  }

  #leaveThread(): void {
    this.stop();
    this.#pending = this.#runningId = null;
    this.#contextOf.clear();
    batch(() => {
      this.#conversationId.value = null;
      this.turns.value = [];
      this.selectedKey.value = null;
      this.restoreProblem.value = null;
      this.isFollowUp.value = false;
    });
  }

  /** What the turn's elements say now, and what its replies had of them before the page was loaded again. */
  #liveOf(turn: Turn): readonly LiveText[] {
    const sent = turn.sends.flatMap(({ sent: { text, live = [] } }) =>
      live.flatMap(({ element_id, start, end, mac }) =>
        mac === undefined ? [] : [{ element_id, value: textAt(text, [start, end]), mac }],
      ),
    );
    // what was read last counts longest
    const all = [...sent, ...(this.#liveTexts[turn.answerId ?? ""] ?? []), ...liveTexts(turn.elements)];
    return [...new Map(all.map((one) => [`${one.element_id} ${one.value}`, one])).values()];
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

  /** The question of a turn has used its token: the next one, also after a stop, goes without. */
  #countContext(key: string): void {
    const context = this.#contextOf.get(key);
    if (context !== undefined && this.#context?.unused() === context) this.#context.count(context);
  }

  /** The answer and its conversation have ids; one that a new conversation left behind has no say in it. */
  #enter(key: string, { answer_id, conversation_id }: Started): void {
    this.#countContext(key);
    const turn = this.#turn(key);
    if (turn === null) return;
    this.#conversationId.value = conversation_id;
    this.#runningId = answer_id;
    this.#keep();
    this.#onAsked(conversation_id, turn.question);
  }

  #change(key: string, change: (turn: Turn) => Turn): void {
    changeTurn(this.turns, key, change);
  }

  #keep(): void {
    if (this.#isLeaving) return;
    writeTab(this.#storage, {
      author: this.#author,
      conversationId: this.#conversationId.peek(),
      question: this.question.value,
      pending: this.#pending,
      runningId: this.#runningId,
      replies: this.replies.value,
      drafts: this.drafts.value,
      liveTexts: this.#liveTexts,
    });
  }
}
