/**
 * Markdown as a tree of blocks and runs of text, never as HTML: what is drawn from it can only be text. Each run
 * knows its place in the source, so that sentences and cited passages are found again in it.
 */
import type { SyntaxNode } from "@lezer/common";
import { Table, parser } from "@lezer/markdown";
import { safeHref } from "./text.ts";

/** Text of one look. `start` and `end` are UTF-16 offsets in the source. */
export interface Run {
  readonly text: string;
  readonly start: number;
  readonly end: number;
  readonly isStrong: boolean;
  readonly isEmphasis: boolean;
  readonly isCode: boolean;
  readonly href: string | null;
  /** The id of a document that it links to. */
  readonly opens?: string;
}

export type Runs = readonly Run[];

export interface ListItem {
  /** The number as written; null in a list of points. */
  readonly number: number | null;
  readonly blocks: readonly Block[];
}

export type Block =
  | { readonly kind: "paragraph"; readonly runs: Runs }
  /** `depth`: 1 for the outermost. A line that is bold as a whole counts as a heading. */
  | { readonly kind: "heading"; readonly depth: number; readonly runs: Runs }
  | { readonly kind: "list"; readonly isOrdered: boolean; readonly items: readonly ListItem[] }
  | {
      readonly kind: "table";
      readonly head: readonly Runs[];
      readonly rows: readonly (readonly Runs[])[];
      /** Which rows, and which of their cells, matter most. */
      readonly keys?: readonly { readonly row: boolean; readonly cells: readonly boolean[] }[];
    }
  | { readonly kind: "quote"; readonly blocks: readonly Block[] }
  | { readonly kind: "code"; readonly runs: Runs }
  | { readonly kind: "rule" };

/** Addresses that may become links: those of listed sources, as `safeHref` writes them. */
export type LinkTargets = ReadonlySet<string>;

interface Options {
  readonly links?: LinkTargets;
  /** False for stored text: its marks are gone already, and a star in it is a star. */
  readonly hasInline?: boolean;
  /** Added to each offset: where the text begins in the whole. */
  readonly offset?: number;
  /** [start, end) of stored text in the Markdown: its lists are lists, every other character is text. */
  readonly quotes?: readonly (readonly [number, number])[];
}

/** HTML stays text. An underline would turn the line before it into a heading while the text still comes. */
const REFUSED = ["HTMLBlock", "HTMLTag", "SetextHeading", "IndentedCode", "LinkReference"];
const INLINE = ["Escape", "Entity", "InlineCode", "Emphasis", "HardBreak", "Link", "Image", "Autolink"];
const full = parser.configure([Table, { remove: REFUSED }]);
const blocksOnly = parser.configure([Table, { remove: [...REFUSED, ...INLINE, "FencedCode"] }]);

const NO_LINKS: LinkTargets = new Set();
const MARKS = new Set(["EmphasisMark", "CodeMark", "HeaderMark", "QuoteMark", "ListMark", "TableDelimiter", "CodeInfo"]);
const ENTITIES: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
  "&nbsp;": "\u00a0",
};

/** The blocks of a Markdown text. */
export function readMarkdown(text: string, { links = NO_LINKS, hasInline = true, offset = 0, quotes = [] }: Options = {}): Block[] {
  const tree = (hasInline ? full : blocksOnly).parse(withoutMarks(text, quotes));
  return new Reading(text, { links, offset }).blocksOf(tree.topNode);
}

/** The text with a letter for each character of a quote that could be a mark of Markdown. */
function withoutMarks(text: string, quotes: readonly (readonly [number, number])[]): string {
  let [plain, at] = ["", 0];
  for (const [start, end] of quotes) {
    const masked = text.slice(start, end).replace(MARK_OR_ITEM, (mark) => (mark.endsWith(" ") ? mark : "x".repeat(mark.length)));
    plain += text.slice(at, start) + masked;
    at = end;
  }
  return plain + text.slice(at);
}

const MARK_OR_ITEM = /(?:^|\n)[-*] |[^\p{L}\p{N}\s.)]/gu;

/** The lines of stored text in a section whose headings are bold lines. */
export function quotesIn(section: string): [number, number][] {
  const lines = [...section.matchAll(/[^\n]+/g)].filter(({ 0: line }) => !/^\*\*.+\*\*$/.test(line));
  return lines.map(({ 0: line, index }) => [index, index + line.length]);
}

interface Look {
  readonly isStrong: boolean;
  readonly isEmphasis: boolean;
  readonly isCode: boolean;
  readonly href: string | null;
}

const PLAIN: Look = { isStrong: false, isEmphasis: false, isCode: false, href: null };

class Reading {
  readonly #text: string;
  readonly #links: LinkTargets;
  readonly #offset: number;

  constructor(text: string, { links, offset }: { links: LinkTargets; offset: number }) {
    this.#text = text;
    this.#links = links;
    this.#offset = offset;
  }

  blocksOf(parent: SyntaxNode): Block[] {
    return childrenOf(parent).flatMap((node) => this.#block(node) ?? []);
  }

  #block(node: SyntaxNode): Block | null {
    switch (node.name) {
      case "Paragraph":
        return this.#paragraph(node);
      case "BulletList":
      case "OrderedList":
        return this.#list(node);
      case "Table":
        return this.#table(node);
      case "Blockquote":
        return { kind: "quote", blocks: this.blocksOf(node) };
      case "FencedCode":
        return { kind: "code", runs: this.#runs(node, { ...PLAIN, isCode: true }) };
      case "HorizontalRule":
        return { kind: "rule" };
      default: {
        const depth = /^ATXHeading(\d)$/.exec(node.name)?.[1];
        return depth === undefined ? null : { kind: "heading", depth: Number(depth), runs: this.#runs(node, PLAIN) };
      }
    }
  }

  #paragraph(node: SyntaxNode): Block {
    const [first, ...others] = childrenOf(node);
    const isHeading =
      first?.name === "StrongEmphasis" && others.length === 0 && first.from === node.from && first.to === node.to;
    const runs = this.#runs(node, PLAIN);
    return isHeading ? { kind: "heading", depth: 1, runs } : { kind: "paragraph", runs };
  }

  #list(node: SyntaxNode): Block {
    const items = childrenOf(node)
      .filter(({ name }) => name === "ListItem")
      .map((item) => {
        const mark = item.getChild("ListMark");
        const number = mark === null ? Number.NaN : Number.parseInt(this.#text.slice(mark.from, mark.to), 10);
        return { number: Number.isNaN(number) ? null : number, blocks: this.blocksOf(item) };
      });
    return { kind: "list", isOrdered: node.name === "OrderedList", items };
  }

  #table(node: SyntaxNode): Block {
    const rows = childrenOf(node).filter(({ name }) => name === "TableRow");
    const head = node.getChild("TableHeader");
    return {
      kind: "table",
      head: head === null ? [] : this.#cells(head),
      rows: rows.map((row) => this.#cells(row)),
    };
  }

  /** An empty cell has no node: the delimiters say to which column a cell belongs. */
  #cells(row: SyntaxNode): Runs[] {
    const cells: Runs[] = [];
    const nodes = childrenOf(row);
    let column = nodes[0]?.name === "TableDelimiter" ? -1 : 0;
    for (const [index, node] of nodes.entries()) {
      if (node.name === "TableCell") cells[column] = this.#runs(node, PLAIN);
      else if (index < nodes.length - 1) cells[(column += 1)] ??= [];
    }
    return cells;
  }

  /** The visible text between `from` and `to` of a node, its marks left out. */
  #runs(node: SyntaxNode, look: Look, from = node.from, to = node.to): Run[] {
    const runs: Run[] = [];
    let at = from;
    const textUntil = (end: number) => {
      if (end > at) runs.push(this.#run(this.#text.slice(at, end), at, end, look));
      at = end;
    };
    for (const child of childrenOf(node).filter((child) => child.from >= from && child.to <= to)) {
      textUntil(child.from);
      if (!isShownAsWritten(child)) {
        runs.push(...this.#inline(child, look));
        at = child.to;
      }
    }
    textUntil(to);
    return trimmed(runs);
  }

  #inline(node: SyntaxNode, look: Look): Run[] {
    const source = this.#text.slice(node.from, node.to);
    switch (node.name) {
      case "StrongEmphasis":
        return this.#runs(node, { ...look, isStrong: true });
      case "Emphasis":
        return this.#runs(node, { ...look, isEmphasis: true });
      case "InlineCode":
        return this.#runs(node, { ...look, isCode: true });
      case "Link":
      case "Autolink":
        return this.#link(node, look);
      case "Escape":
        return [this.#run(source.slice(1), node.from, node.to, look)];
      case "Entity":
        return [this.#run(ENTITIES[source] ?? source, node.from, node.to, look)];
      case "HardBreak":
        return [this.#run("\n", node.from, node.to, look)];
      default:
        return MARKS.has(node.name) ? [] : this.#runs(node, look);
    }
  }

  /** A link to a listed source; any other is its words, with the web address after them. */
  #link(node: SyntaxNode, look: Look): Run[] {
    const url = node.getChild("URL");
    const [open, close] = node.getChildren("LinkMark");
    if (url === null || open === undefined || close === undefined) return [];
    const href = safeHref(this.#text.slice(url.from, url.to));
    if (href !== null && this.#links.has(href)) return this.#runs(node, { ...look, href }, open.to, close.from);
    const words = this.#runs(node, look, open.to, close.from);
    if (href === null || node.name === "Autolink") return words;
    return [...words, this.#run(` (${href})`, close.from, node.to, look)];
  }

  #run(text: string, start: number, end: number, look: Look): Run {
    return { text, start: start + this.#offset, end: end + this.#offset, ...look };
  }
}

/** Images, and brackets without an address ("[1]"): their source is what is shown. */
function isShownAsWritten(node: SyntaxNode): boolean {
  return node.name === "Image" || (node.name === "Link" && node.getChild("URL") === null);
}

function childrenOf(node: SyntaxNode): SyntaxNode[] {
  const children: SyntaxNode[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) children.push(child);
  return children;
}

/** Without the white space before the first and after the last run, which stood beside marks. */
function trimmed(runs: readonly Run[]): Run[] {
  const first = runs.findIndex(({ text }) => text.trim() !== "");
  const last = runs.findLastIndex(({ text }) => text.trim() !== "");
  return first === -1 ? [] : runs.slice(first, last + 1);
}

/** Longest stretch that is held back until it is clear what it will be. */
const HELD_BACK = 300;

/**
 * The part of a text still being written that will look the same whatever follows: a half-written row of a table,
 * mark of a list or link is held back, and an open bold is closed.
 */
export function settled(text: string): string {
  const lineStart = text.lastIndexOf("\n") + 1;
  const line = text.slice(lineStart);
  const shown = text.slice(0, lineStart) + settledLine(line);
  return withoutTableHead(closed(shown));
}

function settledLine(line: string): string {
  if (/^\s*([-*+#>]+|\d{1,9}[.)]?|\|.*|`{1,3}.*)?\s*$/.test(line)) return "";
  const link = line.search(/\[[^\]\n]*(\](\([^)\n]*)?)?$/);
  const end = link === -1 || line.length - link > HELD_BACK ? line.length : link;
  return line.slice(0, end).replace(/\*+$/, (marks) => (marks.length === 2 && isOpen(line) ? marks : ""));
}

/** Whether a bold is open before the two stars at the end of a line. */
function isOpen(line: string): boolean {
  return (line.slice(0, -2).match(/\*\*/g) ?? []).length % 2 === 1;
}

/** Close the bold that the last block leaves open. */
function closed(text: string): string {
  const block = text.slice(text.lastIndexOf("\n\n") + 1);
  return (block.match(/\*\*/g) ?? []).length % 2 === 1 ? `${text.trimEnd()}**` : text;
}

/** A row of column names is a table only once the line under it has come. */
function withoutTableHead(text: string): string {
  const head = /(^|\n)[ \t]*\|[^\n]*\n?$/.exec(text);
  if (head === null) return text;
  const before = text.slice(0, head.index);
  const lineBefore = before.slice(before.lastIndexOf("\n") + 1);
  return lineBefore.trimStart().startsWith("|") ? text : before;
}
