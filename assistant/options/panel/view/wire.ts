/** What suggestions read and send: part of docs/openapi.json. */
import type { RedFlag } from "@console/wire.ts";

export interface Suggestion {
  readonly suggestion_id: string;
  readonly document_id: string;
  readonly title: string;
  readonly heading: string;
  readonly lines: readonly string[];
  readonly document_url: string;
  /** Twentieth of the probability that it is right. */
  readonly step: number;
}

export interface TurnsRead {
  readonly red_flags: readonly RedFlag[];
  readonly suggestion?: Suggestion | null;
}

export interface SuggestionAct {
  readonly answer_id: string;
  readonly kind: "opened" | "inserted";
  readonly step: number;
}
