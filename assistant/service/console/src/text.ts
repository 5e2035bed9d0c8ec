/** Offsets, links and times: small questions about text, answered without the page. */
import type { Sentence } from "./wire.ts";

/** The UTF-16 offset of a code point offset: the service counts code points, JavaScript halves of pairs. */
export function utf16Offset(text: string, codePoints: number): number {
  let offset = 0;
  for (let seen = 0; seen < codePoints && offset < text.length; seen += 1) {
    offset += (text.codePointAt(offset) ?? 0) > 0xffff ? 2 : 1;
  }
  return offset;
}

export interface Highlighted {
  readonly before: string;
  readonly marked: string;
  readonly after: string;
}

/** Cut a text around the span [start, end), counted in code points. */
export function aroundSpan(text: string, span: readonly [number, number]): Highlighted {
  const start = utf16Offset(text, span[0]);
  const end = Math.max(start, utf16Offset(text, span[1]));
  return { before: text.slice(0, start), marked: text.slice(start, end), after: text.slice(end) };
}

export interface Piece {
  readonly text: string;
  /** Absent for text between sentences and for the one that is still being written. */
  readonly sentence?: Sentence;
}

/** Cut an answer into its finished sentences and what lies between and after them. */
export function answerPieces(text: string, sentences: readonly Sentence[]): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (const sentence of sentences) {
    const start = Math.max(at, utf16Offset(text, sentence.start));
    const end = Math.max(start, utf16Offset(text, sentence.end));
    if (start > at) pieces.push({ text: text.slice(at, start) });
    if (end > start) pieces.push({ text: text.slice(start, end), sentence });
    at = end;
  }
  if (at < text.length) pieces.push({ text: text.slice(at) });
  return pieces;
}

/** The address if it leads to an ordinary web page, else null: never `javascript:`, `data:` or a bare path. */
export function safeHref(url: string | null): string | null {
  if (url === null || !URL.canParse(url)) return null;
  const { protocol, href } = new URL(url);
  return protocol === "https:" || protocol === "http:" ? href : null;
}

export function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${n} ${n === 1 ? one : many}`;
}

const DAY_MS = 86_400_000;

/** The calendar day of a date ("2026-03-01") or an instant, here where the reader is. */
function calendarDay(at: string): Date {
  const parts = /^(\d{4})-(\d{2})-(\d{2})$/.exec(at);
  return parts === null ? new Date(at) : new Date(Number(parts[1]), Number(parts[2]) - 1, Number(parts[3]));
}

/** "today", "3 days ago", "in 2 months": the age of a date for somebody who decides what is out of date. */
export function age(at: string, now: Date): string {
  const days = Math.round((calendarDay(at).setHours(12, 0) - new Date(now).setHours(12, 0)) / DAY_MS);
  const format = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  if (Math.abs(days) < 60) return format.format(days, "day");
  if (Math.abs(days) < 730) return format.format(Math.round(days / 30.44), "month");
  return format.format(Math.round(days / 365.25), "year");
}

export function clockTime(at: string): string {
  return new Date(at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

export function calendarDate(at: string): string {
  return calendarDay(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}
