/** Replies that a model writes from answers, and what the check finds in the texts that agents edit. */
import { type Signal, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { RESUME_WINDOW_S, type Reader } from "./coming_back.ts";
import { liveTexts } from "./elements.ts";
import { ApiError } from "./problems.ts";
import { markedLines } from "./lines.ts";
import { type Began, isUnfinished, type KeptDraft } from "./tab_state.ts";
import type { Turn } from "./turn.ts";
import type { LiveText, OfConversation, Problem, ReplyCheck, ReplyChecks, ReplyStyle } from "./wire.ts";

export interface Drafted {
  readonly isWriting: boolean;
  readonly problem: Problem | null;
  /** ISO 639-1 code of what is written, where the service says it. */
  readonly language: string | null;
}

export interface Checked {
  readonly text: string;
  readonly checks: readonly ReplyCheck[];
  /** Whether the model that writes read it, `failed` where it should have; code alone checks while it is typed. */
  readonly reading: "read" | "failed" | "none";
  /** The agent looked at what was found, and uses the text. */
  readonly isAccepted: boolean;
  /** Why the text is right in spite of it. */
  readonly reason: string;
}

/** What goes with a text that is sent, for the check that stands before it. */
export interface Guarded extends OfConversation {
  readonly shown: readonly LiveText[];
  readonly confirmed?: readonly string[];
  readonly reason?: string;
}

/** What this tab keeps of replies: a `Conversation`. */
interface Kept {
  readonly replies: By<string>;
  readonly drafts: By<KeptDraft>;
  setReply(answerId: string, text: string): void;
  setDraft(answerId: string, draft: KeptDraft | null): void;
  insert(answerId: string, text: string, began: Began): void;
}

type By<T> = Signal<Readonly<Record<string, T>>>;

export class Replying {
  /** By answer id, as `checked`. */
  readonly drafts: By<Drafted> = signal({});
  readonly checked: By<Checked> = signal({});
  readonly #api: Api;
  readonly #kept: Kept;
  /** By answer id. */
  readonly #writing = new Map<string, AbortController>();

  constructor({ api, kept }: { api: Api; kept: Kept }) {
    this.#api = api;
    this.#kept = kept;
  }

  /** What the agent's text is an edit of, also after the page was loaded again. */
  draftOf(answerId: string): KeptDraft {
    return this.#kept.drafts.value[answerId] ?? { text: "", replyId: null };
  }

  beganWith(answerId: string): Began {
    const draft = this.draftOf(answerId);
    if (draft.replyId !== null && !isUnfinished(draft)) return { reply_id: draft.replyId };
    return draft.began ?? { began_with: "nothing" };
  }

  /** Write a reply, or write the present one anew; its text grows in the editor. A failure leaves it as it was; an
   * empty one gets the marked lines. */
  async write(turn: Turn, answerId: string, style: ReplyStyle | null, draft: string): Promise<void> {
    const more = { ...(style === null ? {} : { style }), ...(draft === "" ? {} : { draft }) };
    const body = { ...conversationOf(turn), live: shownBy(turn), resume_window_s: RESUME_WINDOW_S, ...more };
    await this.#read(turn, answerId, draft, (reader) => this.#api.reply(answerId, crypto.randomUUID(), body, reader));
  }

  /** Come back to a reply that was being written when the page was left. */
  async comeBack(turn: Turn, answerId: string): Promise<void> {
    const { replyId } = this.draftOf(answerId);
    if (replyId === null || !isUnfinished(this.draftOf(answerId)) || this.drafts.value[answerId] !== undefined) return;
    const shown = this.#kept.replies.value[answerId] ?? "";
    await this.#read(turn, answerId, shown, (reader) => this.#api.follow(replyId, reader));
  }

  /** End the writing of a reply: nothing more of it goes into the editor. */
  stop(answerId: string): void {
    this.#writing.get(answerId)?.abort();
    put(this.drafts, answerId, { isWriting: false, problem: null, language: this.drafts.value[answerId]?.language ?? null });
  }

  async #read(turn: Turn, answerId: string, draft: string, open: (reader: Reader) => Promise<void>): Promise<void> {
    const kept = this.#kept.drafts.value[answerId];
    const before = kept === undefined || isUnfinished(kept) ? null : kept;
    let [text, replyId, language]: [string, string | null, string | null] = ["", null, null];
    let shown = draft;
    const isReplaced = () => (this.#kept.replies.value[answerId] ?? "") !== shown; // by what the agent put there
    const show = (isWriting: boolean, problem: Problem | null = null) =>
      put(this.drafts, answerId, { isWriting, problem, language });
    const controller = new AbortController();
    this.#writing.set(answerId, controller);
    show(true);
    const fail = (problem: Problem) => {
      show(false, problem);
      const lines = markedLines(turn);
      this.#kept.setDraft(answerId, before);
      this.#kept.setReply(answerId, draft);
      if (draft === "" && lines.text !== "") this.#kept.insert(answerId, lines.text, { began_with: "lines", lines: lines.sentences });
    };
    const onEvents: Reader["onEvents"] = (events) => {
      for (const { event, data } of events) {
        if (!controller.signal.aborted && isReplaced()) this.stop(answerId);
        if (controller.signal.aborted) return;
        if (event === "started") {
          [text, replyId, language] = ["", data.answer_id, data.language ?? language];
          show(true);
          this.#kept.setDraft(answerId, { text, replyId });
        }
        if (event === "token") this.#kept.setReply(answerId, (shown = text += data.text));
        if (event === "checks") put(this.checked, answerId, checkedOf(text, data, "none"));
        if (event === "done") {
          put(this.checked, answerId, checkedOf(text, data));
          this.#kept.setDraft(answerId, { text, replyId });
        }
        if (event === "error") fail(data);
      }
    };
    try {
      await open({ signal: controller.signal, onEvents, onLost: () => undefined });
      if (!controller.signal.aborted && this.drafts.value[answerId]?.isWriting) show(false);
    } catch (error) {
      if (controller.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      if (isReplaced()) this.stop(answerId);
      else fail(error.problem);
    }
  }

  /** Return whether a text may be used: nothing was found in it, or the agent looked at that. Throws ApiError with
   * `isGuarded`, where the check may succeed later. */
  async mayUse(turn: Turn, answerId: string, text: string, { isGuarded }: { isGuarded: boolean }): Promise<boolean> {
    const known = this.checked.value[answerId];
    const isRead = known?.text === text && (known.isAccepted || known.reading !== "none");
    try {
      const checked = isRead ? known : await this.#check(turn, answerId, text, { byModel: true });
      return checked.isAccepted || checked.checks.length === 0;
    } catch (error) {
      if (!(error instanceof ApiError) || (isGuarded && error.problem.retryable)) throw error;
      return true; // the agent's work goes on
    }
  }

  /** Null where it could not be checked. */
  async check(turn: Turn, answerId: string, text: string, { byModel }: { byModel: boolean }): Promise<Checked | null> {
    try {
      return await this.#check(turn, answerId, text, { byModel });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return null;
    }
  }

  async #check(turn: Turn, answerId: string, text: string, { byModel }: { byModel: boolean }): Promise<Checked> {
    const live = shownBy(turn);
    const asked = { ...conversationOf(turn), text, live, by_model: byModel };
    const checked = checkedOf(text, await this.#api.checkReply(answerId, asked), byModel ? "read" : "none");
    const known = this.checked.value[answerId];
    const isNewer = known?.text === text && (known.isAccepted || known.reading !== "none");
    if (!byModel && isNewer) return known; // accepted, or read by the model, while this check was underway
    put(this.checked, answerId, checked);
    return checked;
  }

  accept(answerId: string, reason = ""): void {
    const checked = this.checked.value[answerId];
    if (checked !== undefined) put(this.checked, answerId, { ...checked, isAccepted: true, reason });
  }

  /** What the agent has seen of this text. */
  guarded(turn: Turn, answerId: string, text: string): Guarded {
    const seen = { ...conversationOf(turn), shown: shownBy(turn) };
    const checked = this.checked.value[answerId];
    if (checked?.text !== text || !checked.isAccepted || checked.checks.length === 0) return seen;
    const confirmed = checked.checks.flatMap(({ id }) => id ?? []);
    return { ...seen, confirmed, ...(checked.reason === "" ? {} : { reason: checked.reason }) };
  }

  /** The service did not send the text: show what it found, unless the agent has seen just that. */
  refused(answerId: string, text: string, { findings: checks = [] }: Problem): void {
    const before = this.checked.value[answerId];
    const seen = before?.text === text && before.isAccepted ? before.checks.map(({ id }) => id) : [];
    if (checks.every(({ id }) => seen.includes(id))) return;
    put(this.checked, answerId, { text, checks, reading: "read", isAccepted: false, reason: "" });
  }
}

function put<T>(by: By<T>, answerId: string, value: T): void {
  by.value = { ...by.value, [answerId]: value };
}

function checkedOf(text: string, found: Partial<ReplyChecks>, reading: Checked["reading"] = "read"): Checked {
  const { checks = [], degraded = [] } = found;
  return { text, checks, reading: degraded.includes("reply_check") ? "failed" : reading, isAccepted: false, reason: "" };
}

/** The conversation as it was sent for the answer; of a turn from the records the question alone is known. */
function conversationOf({ chat: turns, question }: Turn): OfConversation {
  return turns.length === 0 ? { question } : { turns };
}

const MOST_LIVE = 40;

/** What the elements of an answer say to this agent. */
function shownBy({ elements }: Turn): readonly LiveText[] {
  return liveTexts(elements).slice(0, MOST_LIVE);
}
