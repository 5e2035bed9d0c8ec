/** What the parts of the workspace share: the conversation, and which source is being looked at. */
import { type Signal, batch, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Api } from "../api.ts";
import type { Conversation } from "../conversation.ts";

/** A source of the selected turn that a citation points at just now. */
export interface Preview {
  readonly n: number;
  readonly anchor: HTMLElement;
}

/** The source whose stored text is open, and the element that gets the focus back. */
export interface OpenSource {
  readonly turnKey: string;
  readonly n: number;
  readonly opener: HTMLElement;
}

/** Time to move the pointer from a citation onto its preview. */
const LEAVE_MS = 150;

export class Desk {
  readonly preview: Signal<Preview | null> = signal(null);
  readonly open: Signal<OpenSource | null> = signal(null);
  /** Gets the focus once the page beside the source is drawn again. */
  readonly opener: Signal<HTMLElement | null> = signal(null);
  readonly api: Api;
  readonly conversation: Conversation;

  #leaving: ReturnType<typeof setTimeout> | undefined;

  constructor({ api, conversation }: { api: Api; conversation: Conversation }) {
    this.api = api;
    this.conversation = conversation;
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
    this.preview.value = null;
    this.open.value = null;
  }

  show(turnKey: string, n: number, opener: HTMLElement): void {
    this.preview.value = null;
    this.open.value = { turnKey, n, opener };
  }

  /** Close the open source and give the focus back to what opened it. */
  close(): void {
    const opener = this.open.value?.opener ?? null;
    batch(() => {
      this.open.value = null;
      this.opener.value = opener;
    });
  }
}

export const DeskContext = createContext<Desk | null>(null);

export function useDesk(): Desk {
  const desk = useContext(DeskContext);
  if (desk === null) throw new Error("This part belongs inside the workspace.");
  return desk;
}
