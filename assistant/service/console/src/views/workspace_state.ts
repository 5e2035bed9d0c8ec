/** What the parts of the workspace share: the conversation, and which source is being looked at. */
import { type Signal, batch, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Api } from "../api.ts";
import type { Guard } from "../config.ts";
import type { Conversation } from "../conversation.ts";
import type { Earlier } from "../earlier.ts";
import type { Host, Joined } from "../options.ts";
import { Replying } from "../replying.ts";
import { type Turn, sourceToOpen } from "../turn.ts";

/** A source of the selected turn that a citation points at just now. */
export interface Preview {
  readonly n: number;
  readonly anchor: HTMLElement;
}

/** The source whose stored text is open, and the element that gets the focus back; null: it opened by itself. */
export interface OpenSource {
  readonly turnKey: string;
  readonly n: number;
  readonly opener: HTMLElement | null;
  /** Indexes of the sentences whose units are marked; null: of all that cite the source. */
  readonly sentences: readonly number[] | null;
}

/** What a narrow window shows; a wide one shows both. */
export type Place = "answer" | "sources";

/** The window has room for the conversations, an answer and a source beside each other; narrow.css says the same. */
export const IS_WIDE = "(width >= 68rem) and (height >= 30rem)";

/** Time to move the pointer from a citation onto its preview. */
const LEAVE_MS = 150;

interface WorkspaceParts {
  readonly api: Api;
  readonly conversation: Conversation;
  readonly earlier: Earlier;
  readonly joined?: readonly Joined[];
  readonly host?: Host | null;
  readonly delivers?: boolean;
  readonly writes?: boolean;
  readonly checks?: boolean;
  readonly guard?: Guard | undefined;
}

export class WorkspaceState {
  readonly preview: Signal<Preview | null> = signal(null);
  readonly open: Signal<OpenSource | null> = signal(null);
  /** Gets the focus once the page beside the source is drawn again. */
  readonly opener: Signal<HTMLElement | null> = signal(null);
  /** Id of the control that takes the focus when it is drawn. */
  focusNext: string | null = null;
  readonly place: Signal<Place> = signal("answer");
  readonly api: Api;
  readonly conversation: Conversation;
  readonly earlier: Earlier;
  readonly host: Host | null;
  /** A reply that is sent is delivered; else it is recorded only. */
  readonly delivers: boolean;
  /** A model writes replies; else agents do. */
  readonly writes: boolean;
  /** A model checks what it wrote. */
  readonly checks: boolean;
  /** What a reply with findings needs before it is sent; undefined: none is sent. */
  readonly guard: Guard | undefined;
  readonly replying: Replying;
  readonly refill: Joined["refill"];

  /** Keys of turns beside which a source was opened: each once. */
  readonly #opened = new Set<string>();
  readonly #replied = new Set<string>();
  #leaving: ReturnType<typeof setTimeout> | undefined;

  constructor(parts: WorkspaceParts) {
    const { api, conversation, earlier, joined = [], host = null } = parts;
    const { delivers = false, writes = false, checks = false, guard } = parts;
    this.api = api;
    this.conversation = conversation;
    this.earlier = earlier;
    this.host = host;
    this.delivers = delivers;
    this.writes = writes;
    this.checks = checks;
    this.guard = guard;
    this.replying = new Replying({ api, kept: conversation });
    this.refill = joined.find(({ refill }) => refill !== undefined)?.refill;
  }

  point(n: number, anchor: HTMLElement): void {
    this.stay();
    this.preview.value = { n, anchor };
    const turn = this.conversation.selected.peek();
    if (turn !== null) void this.conversation.readSnippet(turn, n);
  }

  /** The pointer or the focus has left: the preview goes, unless something keeps it. */
  leave(anchor: HTMLElement): void {
    this.stay();
    this.#leaving = setTimeout(() => {
      const isKept = anchor.matches(":hover") || document.activeElement === anchor;
      if (!isKept && this.preview.value?.anchor === anchor) this.preview.value = null;
    }, LEAVE_MS);
  }

  stay(): void {
    clearTimeout(this.#leaving);
  }

  /** Another turn is looked at: nothing of the one before stays open. */
  turnAway(): void {
    batch(() => {
      this.preview.value = null;
      this.open.value = null;
      this.place.value = "answer";
    });
  }

  /** Go to a part of the page in a narrow window; an open source gives way. */
  goTo(place: Place): void {
    batch(() => {
      this.preview.value = null;
      this.open.value = null;
      this.place.value = place;
    });
  }

  show(turnKey: string, n: number, opener: HTMLElement, sentences: readonly number[] | null = null): void {
    this.preview.value = null;
    this.open.value = { turnKey, n, opener, sentences };
    this.conversation.noteOpened(turnKey, n);
  }

  /** Open what an answer rests on as it comes, where there is room for both. The focus stays where it is. */
  openBeside(turn: Turn): void {
    const n = sourceToOpen(turn);
    if (n === null || this.#opened.has(turn.key)) return;
    this.#opened.add(turn.key);
    if (this.open.peek() !== null || !matchMedia(IS_WIDE).matches) return;
    this.open.value = { turnKey: turn.key, n, opener: null, sentences: null };
  }

  /** Whether the reply to an answer that just came opens by itself: once, where a model that wrote the answer
   * writes one (`isWritten`) for the customer of a helpdesk. */
  opensReply(turn: Turn, isWritten: boolean): boolean {
    const isNew = turn.key !== turn.answerId && !this.#replied.has(turn.key);
    this.#replied.add(turn.key);
    return isNew && isWritten && turn.findings.mode === "written" && this.host !== null;
  }

  /** Close the open source and give the focus back to what opened it; a focus outside of it stays. */
  close(): void {
    const isInside = document.querySelector(".panel:focus-within") !== null;
    const opener = this.open.value?.opener ?? (isInside ? document.getElementById("answer-title") : null);
    batch(() => {
      this.open.value = null;
      this.opener.value = opener;
    });
  }
}

export const WorkspaceContext = createContext<WorkspaceState | null>(null);

export function useWorkspace(): WorkspaceState {
  const workspace = useContext(WorkspaceContext);
  if (workspace === null) throw new Error("This part belongs inside the workspace.");
  return workspace;
}
