/** The passages behind restored sources, which come without their snippets. */
import type { Api } from "./api.ts";
import { ApiError } from "./problems.ts";
import { textAt } from "./text.ts";
import type { Source } from "./wire.ts";

/** Stands for a passage whose document was withdrawn or changed. */
const GONE = "This passage is no longer in the knowledge base.";

/** Stands for an approved answer of an earlier conversation: its words are the answer's own. */
const APPROVED = "An answer that your reviewers approved, quoted as it stands.";

export class Snippets {
  readonly #api: Api;
  readonly #asked = new WeakSet<Source>();

  constructor(api: Api) {
    this.#api = api;
  }

  /** Read the cited passage itself, once. Null: it is there or on its way, or could not be read just now. */
  async of(source: Source): Promise<string | null> {
    if (source.snippet !== "" || this.#asked.has(source)) return null;
    if (source.kind === "approved") return APPROVED;
    this.#asked.add(source);
    try {
      const { text, span } = await this.#api.documentText(source);
      return span === null ? GONE : textAt(text, span);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#asked.delete(source);
      return error.problem.code === "not_found" ? GONE : null;
    }
  }
}
