/** Elements of an answer: places in its text that fill with live data while it flows on. */
import type { Span } from "./spans.ts";
import { clockTime, calendarDate, utf16Span } from "./text.ts";
import type { Element, ElementUse, LiveSpan, LiveText, SentenceEnded } from "./wire.ts";

export type Elements = readonly Element[];

/** The elements after a newer state of one of them has come. Values stay: an element of a record has none. */
export function withElement(elements: Elements, element: Element): Elements {
  const known = elements.find(({ id }) => id === element.id);
  if (known === undefined) return [...elements, element];
  if (isReady(known) && element.state === "ready" && element.data === null) return elements;
  return elements.map((other) => (other === known ? element : other));
}

/** An element of a record: its values were not kept with it. */
export function keptElement(use: ElementUse): Element {
  const isShown = use.state === "ready";
  return {
    id: use.id,
    name: use.name,
    kind: use.kind,
    state: use.state === "not_allowed" ? "not_allowed" : "failed",
    title: use.title || use.name,
    source: use.source,
    as_of: use.as_of,
    about: "",
    data: null,
    problem: use.problem,
    detail: isShown ? "Live data are not kept. Ask again to see them." : "It was not shown.",
    retryable: false,
    display: use.display,
  };
}

/** Whether its values can be shown. */
export function isReady(element: Element): boolean {
  return element.state === "ready" && element.data !== null;
}

/** What a ready element says in a line: "Shipped", "Shipped, next fill 24 Nov 2026". */
export function wordsOf({ data, kind }: Element): string {
  if (data === null) return "";
  const values = data.values ?? [];
  if (kind === "status") return values.map(({ text }) => text).join(", ");
  if (kind === "link") return [...values.map(({ text }) => text), data.url ?? ""].filter(Boolean).join(": ");
  if (kind === "table") {
    return (data.rows ?? []).map(({ title, values }) => `${title}: ${values.map(labelled).join(", ")}`).join("; ");
  }
  return values.map(labelled).join(", ");
}

const SHORTEST = 2;

/** What ready elements of systems say, whole and value by value. Facts of documents are nobody's own. */
export function liveTexts(elements: Elements): readonly LiveText[] {
  return elements.filter(isReady).flatMap(({ texts = [] }) => texts);
}

/** The live values that a text has. */
export function textsIn(text: string, live: readonly LiveText[]): readonly LiveText[] {
  return live.filter((one) => liveSpans(text, [one]).length > 0);
}

/**
 * Where a text has values of live elements, in code points, in order and apart. Each place counts that reads as a
 * value, as a whole word: rather one too many, which the agent wrote, than a customer's value that is kept.
 */
export function liveSpans(text: string, live: readonly LiveText[]): readonly LiveSpan[] {
  const taken: { readonly id: string; readonly mac: string; readonly from: number; readonly to: number }[] = [];
  for (const { element_id: id, value, mac } of live.toSorted((a, b) => b.value.length - a.value.length)) {
    if (value.length < SHORTEST) continue;
    for (let from = text.indexOf(value); from !== -1; from = text.indexOf(value, from + 1)) {
      const to = from + value.length;
      const isWhole = !(isWordAt(text, from - 1) && isWordAt(text, from)) && !(isWordAt(text, to - 1) && isWordAt(text, to));
      if (isWhole && taken.every((other) => to <= other.from || other.to <= from)) taken.push({ id, mac, from, to });
    }
  }
  const points = (end: number) => [...text.slice(0, end)].length;
  return taken
    .sort((a, b) => a.from - b.from)
    .map(({ id, mac, from, to }) => ({ element_id: id, start: points(from), end: points(to), mac }));
}

function isWordAt(text: string, index: number): boolean {
  return /[\p{L}\p{N}]/u.test(text.charAt(index));
}

/** A text with the titles of elements in place of their values: for words that are not of one customer. */
export function withoutValues(text: string, live: readonly LiveText[], elements: Elements): string {
  const letters = [...text];
  for (const { element_id, start, end } of liveSpans(text, live).toReversed()) {
    const title = elements.find(({ id }) => id === element_id)?.title ?? "live data";
    letters.splice(start, end - start, `[${title}]`);
  }
  return letters.join("");
}

/** Whether a label that stands for the element in the text has no value to take its place. */
export function isUnfilled(text: string, element: Element): boolean {
  return !isFilledIn(element) && /^\[[^\]]*\]$/.test(text.slice(...placeOf(text, element)));
}

function isFilledIn(element: Element): boolean {
  return isReady(element) && element.kind !== "table";
}

/** "Status Shipped". */
function labelled({ label, text }: { readonly label: string; readonly text: string }): string {
  return label === "" ? text : `${label} ${text}`;
}

/** "orders, 14:02" of an instant, "catalogue, 3 Nov 2026" of a day. */
export function sourceAndTime({ source, as_of }: Element): string {
  if (as_of === null || as_of === undefined) return source;
  return `${source}, ${/T/.test(as_of) ? clockTime(as_of) : calendarDate(as_of)}`;
}

/** Where an element stands in the text, in UTF-16 offsets. */
export function placeOf(text: string, { display }: Element): Span {
  return utf16Span(text, [display.start, display.end]);
}

interface Text {
  readonly text: string;
  readonly sentences: readonly SentenceEnded[];
}

/** An answer's text with the values of its ready elements in their places, for a reply. */
export function withValues({ text, sentences }: Text, elements: Elements): Text {
  const letters = [...text];
  const filled = elements
    .filter((one) => isFilledIn(one) && one.display.end > one.display.start)
    .sort((a, b) => a.display.start - b.display.start);
  const out: string[] = [];
  const shifts: { readonly from: number; readonly by: number }[] = [];
  let at = 0;
  let by = 0;
  for (const element of filled) {
    const { start, end } = element.display;
    if (start < at) continue; // no two stand in the same place
    const words = [...wordsOf(element)];
    out.push(...letters.slice(at, start), ...words);
    by += words.length - (end - start);
    shifts.push({ from: end, by });
    at = end;
  }
  out.push(...letters.slice(at));
  const moved = (offset: number) => offset + (shifts.findLast(({ from }) => from <= offset)?.by ?? 0);
  return {
    text: out.join(""),
    sentences: sentences.map((one) => ({ ...one, start: moved(one.start), end: moved(one.end) })),
  };
}
