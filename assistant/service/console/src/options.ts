/**
 * Where options join the console: the build finds each `assistant/options/<name>/view/option.tsx` and hands over its
 * `OPTION`. The core imports nothing of an option.
 */
import type { ReadonlySignal, Signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import type { Api } from "./api.ts";
import type { Session } from "./oidc.ts";
import type { ChatTurn, Element } from "./wire.ts";

/** Called once for an agent who has signed in. */
export type Option = (parts: { readonly api: Api; readonly session: Session; readonly host: Host | null }) => Joined;

/** Draws the page in another way where the address has this path: `view/shell.tsx` of an option, `SHELL`. */
export interface Shell {
  readonly path: string;
  readonly draw: (options: readonly Option[]) => ComponentChildren;
}

/** What an option brings for that agent. */
export interface Joined {
  readonly pages?: readonly Page[];
  readonly aboveComposer?: () => ComponentChildren;
  /** Of several options the first one's. */
  readonly context?: QuestionContext;
  /** Asks the system of a failed element once more; throws ApiError. Without it such an element has no button. */
  readonly refill?: (answerId: string, element: Element) => Promise<Element>;
  /** Begins to listen to the window, and returns what ends that. */
  readonly listen?: () => () => void;
  /** Forgets what it keeps in the tab: the agent signs out. */
  readonly forget?: () => void;
}

export interface Page {
  /** In the address: `#/review`. */
  readonly name: string;
  /** In the head's navigation. */
  readonly label: string;
  /** Of the window; the label by default. */
  readonly title?: string;
  /** Any of them opens the page. */
  readonly roles: readonly string[];
  /** Keys with their meaning; those of the answers page by default. */
  readonly keys?: readonly (readonly [string, string])[];
  readonly draw: () => ComponentChildren;
}

/** A token that goes with a question and with the replies to its answer, in the field `context` of their requests. */
export interface QuestionContext {
  /** The token for the next question. */
  unused(): string | null;
  /** Take a token that the host handed over. */
  take(token: string): void;
  /** An answer has begun with the token. */
  count(token: string): void;
  /** The agent leaves the conversation, or signs out. */
  forget(): void;
}

/** The page that holds the console in a frame. */
export interface Host {
  /** What the page takes. */
  readonly takes: ReadonlySet<Handed["type"]>;
  /** The chat that the agent is in. */
  readonly chat: ReadonlySignal<Chat | null>;
  /** In the place of the browser's storage: it ends with the page. */
  readonly storage: Storage;
  /** Whether the service refused the agent's token. */
  readonly isSignedOut: Signal<boolean>;
  /** In the banner of an agent whose sign-in has ended. */
  readonly signIn: () => ComponentChildren;
  /** Hand over something of the chat with this number. False: the page did not take it, or is in another chat by now. */
  give(what: Handed, number: number | undefined): Promise<boolean>;
  /** An answer has used the chat's context. */
  askContext(): void;
}

export type Handed =
  | { readonly type: "insert" | "note"; readonly text: string }
  | { readonly type: "source"; readonly title: string; readonly url: string };

export interface Chat {
  /** Another one with each other ticket, or other customer of the same ticket. */
  readonly number: number;
  readonly ticket: string;
  readonly turns: readonly ChatTurn[];
  readonly context: string | null;
}
