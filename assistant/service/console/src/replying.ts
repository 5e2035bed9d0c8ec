/** Replies that a model writes from answers, and what the check finds in the texts that agents edit. */
import { type Signal, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { liveWords } from "./elements.ts";
import { ApiError } from "./problems.ts";
import type { Turn } from "./turn.ts";
import type { Element, Problem, ReplyCheck, ReplyStyle } from "./wire.ts";

export interface Drafted {
  /** The model's text: what the agent's is an edit of. */
  readonly text: string;
  readonly replyId: string | null;
  readonly isWriting: boolean;
  readonly problem: Problem | null;
}

export interface Checked {
  readonly text: string;
  readonly checks: readonly ReplyCheck[];
  /** The agent looked at what was found, and uses the text. */
  readonly isAccepted: boolean;
}

type By<T> = Signal<Readonly<Record<string, T>>>;

export class Replying {
  /** By answer id, as `checked`. */
  readonly drafts: By<Drafted> = signal({});
  readonly checked: By<Checked> = signal({});
  readonly #api: Api;
  readonly #onText: (answerId: string, text: string) => void;

  constructor({ api, onText }: { api: Api; onText: (answerId: string, text: string) => void }) {
    this.#api = api;
    this.#onText = onText;
  }

  /** Write a reply, or write the present one anew; its text grows in the editor. A failure leaves it as it was. */
  async write(turn: Turn, answerId: string, style: ReplyStyle | null, draft: string): Promise<void> {
    let [text, replyId]: [string, string | null] = ["", null];
    const body = { live: liveTexts(turn.elements), ...(style === null ? {} : { style }), ...(draft === "" ? {} : { draft }) };
    const show = (more: Partial<Drafted>) =>
      put(this.drafts, answerId, { text, replyId, isWriting: true, problem: null, ...more });
    show({});
    const onEvents: Parameters<Api["reply"]>[3]["onEvents"] = (events) => {
      for (const { event, data } of events) {
        if (event === "started") replyId = data.answer_id;
        if (event === "token") this.#onText(answerId, (text += data.text));
        if (event === "done") put(this.checked, answerId, { text, checks: data.checks ?? [], isAccepted: false });
        if (event === "error") show({ text: draft, replyId: null, problem: data });
      }
    };
    const reader = { signal: new AbortController().signal, onEvents, onLost: () => undefined };
    try {
      await this.#api.reply(answerId, crypto.randomUUID(), body, reader);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      show({ text: draft, replyId: null, problem: error.problem });
    }
    const ended = this.drafts.value[answerId];
    if (ended !== undefined) put(this.drafts, answerId, { ...ended, ...(ended.problem ? {} : { text, replyId }), isWriting: false });
    if (ended?.problem) this.#onText(answerId, draft);
  }

  /** Return whether a text may be used: nothing was found in it, or the agent looked at that. */
  async mayUse(turn: Turn, answerId: string, text: string): Promise<boolean> {
    const known = this.checked.value[answerId];
    const checked = known?.text === text ? known : await this.check(turn, answerId, text);
    return checked === null || checked.isAccepted || checked.checks.length === 0;
  }

  /** Null where it could not be checked: the agent's work goes on. */
  async check(turn: Turn, answerId: string, text: string): Promise<Checked | null> {
    const draft = this.drafts.value[answerId]?.text ?? "";
    try {
      const live = liveTexts(turn.elements);
      const { checks } = await this.#api.checkReply(answerId, { text, live, ...(draft === "" ? {} : { draft }) });
      const checked = { text, checks, isAccepted: false };
      put(this.checked, answerId, checked);
      return checked;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      return null;
    }
  }

  accept(answerId: string): void {
    const checked = this.checked.value[answerId];
    if (checked !== undefined) put(this.checked, answerId, { ...checked, isAccepted: true });
  }
}

function put<T>(by: By<T>, answerId: string, value: T): void {
  by.value = { ...by.value, [answerId]: value };
}

const MOST_LIVE = 40;

/** What the elements of an answer say to this agent. */
function liveTexts(elements: readonly Element[]): { element_id: string; value: string }[] {
  const words = liveWords(elements).filter(({ text }) => text !== "");
  return words.slice(0, MOST_LIVE).map(({ element_id, text }) => ({ element_id, value: text }));
}
