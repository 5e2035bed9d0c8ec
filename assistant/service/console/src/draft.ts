/** The reply that an agent begins with: plain text, and nothing in it that no source supports. */
import { isOfDocuments, isReady, isUnfilled, labelled, withValues, wordsOf } from "./elements.ts";
import { type Block, type Runs, readMarkdown } from "./markdown.ts";
import { type Groups, groupBySpan } from "./spans.ts";
import { withTables } from "./tables.ts";
import { utf16Span } from "./text.ts";
import type { Turn } from "./turn.ts";
import type { Element, SentenceEnded } from "./wire.ts";

/**
 * What a document itself says to the patient, and the live values that answer by themselves; empty when there is
 * neither: words of an internal procedure never become a draft. Of a comparison the reply has its items, by name.
 */
export function draftOf(turn: Turn): string {
  if (turn.finishReason === "no_evidence") return "";
  const items = turn.elements.filter((element) => isReady(element) && element.kind === "table");
  const spoken = turn.findings.replyDraft?.trim() ?? "";
  const words = items.some(isOfDocuments) ? "" : spoken;
  const values = turn.elements.filter((element) => isReady(element) && standsAlone(element, turn.sentences));
  return [words, ...[...items.filter(isOfDocuments), ...values].map(linesOf)].filter((text) => text !== "").join("\n\n");
}

/** Whether no sentence has the element: it answers a part of the message by itself. */
function standsAlone(element: Element, sentences: readonly SentenceEnded[]): boolean {
  const { start, end } = element.display;
  return !isOfDocuments(element) && !sentences.some((one) => one.start < end && start < one.end);
}

/** "Delivery: Shipped", a line for each row of a table. */
function linesOf(element: Element): string {
  if (element.kind !== "table") return `${element.title}: ${wordsOf(element)}`;
  const rows = element.data?.rows ?? [];
  const lines = rows.map(({ title, values }) => `- ${title}: ${values.map(labelled).join(", ")}`);
  return [...(isOfDocuments(element) ? [] : [`${element.title}:`]), ...lines].join("\n");
}

/** The supported sentences of an answer, for the agent. One whose live value did not come is left out. */
export function sentencesOf(turn: Turn): string {
  const missing = turn.elements.filter((element) => isUnfilled(turn.text, element)).map(({ display }) => display);
  const supported = turn.sentences.filter(
    ({ support, start, end }) =>
      support === "supported" && !missing.some((place) => start < place.end && place.start < end),
  );
  const { text, sentences } = withValues({ text: turn.text, sentences: supported }, turn.elements);
  const spans = sentences.map(({ start, end }) => utf16Span(text, [start, end]));
  const quotes = spans.filter((_, index) => sentences[index]?.quote);
  const blocks = withTables(readMarkdown(text, { quotes }), text, sentences);
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
