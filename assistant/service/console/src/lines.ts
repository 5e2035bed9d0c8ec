/** The lines of an answer as plain text, and nothing in them that no source supports. */
import { isUnfilled, withValues } from "./elements.ts";
import { type Block, type Runs, readMarkdown } from "./markdown.ts";
import { type Groups, groupBySpan } from "./spans.ts";
import { withTables } from "./tables.ts";
import { utf16Span } from "./text.ts";
import type { Turn } from "./turn.ts";
import type { SentenceEnded } from "./wire.ts";

export interface Lines {
  readonly text: string;
  /** `index` of each sentence that they are. */
  readonly sentences: readonly number[];
}

/** The marked lines of an answer, for a reply; where none is marked, all that is open. None of a refusal. */
export function markedLines(turn: Turn): Lines {
  const supported = turn.finishReason === "no_evidence" ? [] : supportedOf(turn);
  const marked = supported.filter((one) => one.is_key === true);
  const lines = marked.length > 0 ? marked : supported.filter(({ quote }) => quote !== "folded");
  return { text: textOf(turn, lines, { hasTables: false }), sentences: lines.map(({ index }) => index) };
}

/** The supported sentences of an answer, for the agent. */
export function sentencesOf(turn: Turn): string {
  return textOf(turn, supportedOf(turn), { hasTables: true });
}

/** Without those whose live value did not come. */
function supportedOf({ text, sentences, elements }: Turn): readonly SentenceEnded[] {
  const missing = elements.filter((element) => isUnfilled(text, element)).map(({ display }) => display);
  return sentences.filter(
    ({ support, start, end }) =>
      support === "supported" && !missing.some((place) => start < place.end && place.start < end),
  );
}

/** `hasTables`: rows stand as cells under the names of their columns, in place of "Column: value". */
function textOf(turn: Turn, chosen: readonly SentenceEnded[], { hasTables }: { hasTables: boolean }): string {
  const { text, sentences } = withValues({ text: turn.text, sentences: chosen }, turn.elements);
  const spans = sentences.map(({ start, end }) => utf16Span(text, [start, end]));
  const quotes = spans.filter((_, index) => sentences[index]?.quote);
  const read = readMarkdown(text, { quotes });
  const blocks = hasTables ? withTables(read, text, sentences) : read;
  return new Writing(groupBySpan(blocks, spans)).textOf(blocks);
}

/** A text of Markdown as plain text, to be compared with what was sent. */
export function plainText(markdown: string): string {
  const blocks = readMarkdown(markdown);
  return new Writing(groupBySpan(blocks, [[0, markdown.length]])).textOf(blocks);
}

/** Blocks as plain text, only as far as they lie in a span. */
class Writing {
  readonly #groups: Groups;

  constructor(groups: Groups) {
    this.#groups = groups;
  }

  textOf(blocks: readonly Block[], separator = "\n\n"): string {
    return blocks
      .map((block) => this.#block(block))
      .filter((text) => text !== "")
      .join(separator);
  }

  #block(block: Block): string {
    switch (block.kind) {
      case "list":
        return this.#list(block);
      case "table":
        return this.#table(block);
      case "quote":
        return this.textOf(block.blocks);
      case "rule":
        return "";
      default:
        return this.#line(block.runs);
    }
  }

  #list({ items }: Extract<Block, { kind: "list" }>): string {
    const lines = items.flatMap(({ number, blocks }) => {
      const text = this.textOf(blocks, "\n");
      return text === "" ? [] : [`${number === null ? "-" : `${number}.`} ${text}`];
    });
    return lines.join("\n");
  }

  /** A line for each row, below one with the columns' names. */
  #table({ head, rows }: Extract<Block, { kind: "table" }>): string {
    const lines = rows.map((cells) => cells.map((cell) => this.#line(cell))).filter((texts) => texts.some(Boolean));
    const names = head.map((runs) => runs.map(({ text }) => text).join("").trim());
    if (lines.length > 0 && names.some(Boolean)) lines.unshift(names);
    return lines.map((texts) => texts.join(" | ")).join("\n");
  }

  #line(runs: Runs): string {
    const supported = (this.#groups.get(runs) ?? []).filter(({ span }) => span !== null);
    const texts = supported.map((group) => group.runs.map(({ text }) => text).join("").trim());
    return texts.filter((text) => text !== "").join(" ");
  }
}
