/** Offsets, links and times: small questions about text, answered without the page. */
import type { SourceFacts } from "./wire.ts";

/** The UTF-16 offset of a code point offset: the service counts code points, JavaScript halves of pairs. */
export function utf16Offset(text: string, codePoints: number): number {
  let offset = 0;
  for (let seen = 0; seen < codePoints && offset < text.length; seen += 1) {
    offset += (text.codePointAt(offset) ?? 0) > 0xffff ? 2 : 1;
  }
  return offset;
}

/** The part of a text in the span [start, end), counted in code points. */
export function textAt(text: string, span: readonly [number, number]): string {
  return text.slice(...utf16Span(text, span));
}

/** A span of code points as UTF-16 offsets. */
export function utf16Span(text: string, [start, end]: readonly [number, number]): readonly [number, number] {
  const from = utf16Offset(text, start);
  return [from, Math.max(from, utf16Offset(text, end))];
}

/** Spans of code points, in order and apart from each other, as UTF-16 offsets: in one walk over the text. */
export function utf16Spans(text: string, spans: readonly { start: number; end: number }[]): [number, number][] {
  let [offset, seen] = [0, 0];
  const move = (to: number): number => {
    offset += utf16Offset(text.slice(offset), to - seen);
    seen = to;
    return offset;
  };
  return spans.map(({ start, end }) => [move(start), move(end)]);
}

/** "English" for "en". */
export function languageName(code: string): string {
  return new Intl.DisplayNames("en", { type: "language" }).of(code) ?? code;
}

let instead: readonly (readonly [string, string])[] = [];

/** Make `safeHref` begin addresses with the value where they begin with the key. */
export function openInstead(begins: Readonly<Record<string, string>>): void {
  instead = Object.entries(begins);
}

/** The address if it leads to an ordinary web page, else null: never `javascript:`, `data:` or a bare path. */
export function safeHref(url: string | null): string | null {
  if (url === null || !URL.canParse(url)) return null;
  const { protocol, href } = new URL(url);
  if (protocol !== "https:" && protocol !== "http:") return null;
  const [begin, other] = instead.find(([from]) => href.startsWith(from)) ?? ["", ""];
  return other + href.slice(begin.length);
}

/** Numbers of at least three digits that somebody can call, as they are written in a line. */
const PHONES = /(?:\+\d+[ .-]?)?(?:\(\d+\) ?)?\d+(?:[ .-]\d+)*/g;

/** The first phone number of a text: its place [start, end) and its `tel:` address. */
export function phoneIn(text: string): { start: number; end: number; href: string } | null {
  for (const { 0: words, index } of text.matchAll(PHONES)) {
    const digits = words.replace(/[^+\d]/g, "");
    if (digits.length >= 3) return { start: index, end: index + words.length, href: `tel:${digits}` };
  }
  return null;
}

export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** "59.00 USD · 4.4 of 5 stars, 11 ratings · 3 found it helpful · bought here" of a shop's document. */
export function factsLine({ price, currency, rating, ratings, helpful_votes, verified }: SourceFacts): string {
  const stars = rating === null ? "" : `${rating} of 5 stars`;
  const parts = [
    price === null ? "" : [price, currency].filter(Boolean).join(" "),
    stars !== "" && ratings !== null ? `${stars}, ${count(ratings, "rating")}` : stars,
    helpful_votes !== null && helpful_votes > 0 ? `${helpful_votes} found it helpful` : "",
    verified === true ? "bought here" : "",
  ];
  return parts.filter((part) => part !== "").join(" · ");
}

const DAY_MS = 86_400_000;
const AGES = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const DATES = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** The calendar day of a date ("2026-03-01") or an instant, here where the reader is. */
function calendarDay(at: string): Date {
  const parts = /^(\d{4})-(\d{2})-(\d{2})$/.exec(at);
  return parts === null ? new Date(at) : new Date(Number(parts[1]), Number(parts[2]) - 1, Number(parts[3]));
}

/** "today", "3 days ago", "in 2 months": the age of a date for somebody who decides what is out of date. */
export function age(at: string, now: Date): string {
  const days = Math.round((calendarDay(at).setHours(12, 0) - new Date(now).setHours(12, 0)) / DAY_MS);
  if (Math.abs(days) < 60) return AGES.format(days, "day");
  if (Math.abs(days) < 730) return AGES.format(Math.round(days / 30.44), "month");
  return AGES.format(Math.round(days / 365.25), "year");
}

export function clockTime(at: string): string {
  return new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

export function calendarDate(at: string): string {
  return DATES.format(calendarDay(at));
}

/** "in force since 13 Apr 2026", or from when on. */
export function inForce(at: string, now: Date): string {
  return `in force ${calendarDay(at) > now ? "from" : "since"} ${calendarDate(at)}`;
}

/** "14:05" of today, "13 Apr 2026, 14:05" of another day. */
export function moment(at: string, now: Date): string {
  const isToday = new Date(at).toDateString() === now.toDateString();
  return isToday ? `Today, ${clockTime(at)}` : `${calendarDate(at)}, ${clockTime(at)}`;
}
