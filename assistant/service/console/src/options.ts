/**
 * Where options join the console: the build finds each `assistant/options/<name>/view/option.tsx` and hands over its
 * `OPTION`. The core imports nothing of an option.
 */
import type { ComponentChildren } from "preact";
import type { Api } from "./api.ts";
import type { Session } from "./oidc.ts";
import type { Element } from "./wire.ts";

/** Called once for an agent who has signed in. */
export type Option = (parts: { readonly api: Api; readonly session: Session }) => Joined;

/** What an option brings for that agent. */
export interface Joined {
  readonly page?: Page;
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
  /** An answer has begun with the token. */
  count(token: string): void;
  /** The agent leaves the conversation, or signs out. */
  forget(): void;
}
