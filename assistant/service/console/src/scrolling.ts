/** Scrolling one box without moving the page around it, which `scrollIntoView` would do as well. */

const MARGIN_PX = 8;

/** Bring a part of a scrolling box into sight with the least movement. */
export function revealIn(box: HTMLElement, part: HTMLElement): void {
  const at = part.getBoundingClientRect();
  const frame = box.getBoundingClientRect();
  if (at.top < frame.top) box.scrollTop += at.top - frame.top - MARGIN_PX;
  else if (at.bottom > frame.bottom) box.scrollTop += at.bottom - frame.bottom + MARGIN_PX;
}

/** Room above a part for the heading that it stands under. */
const HEADING_PX = 56;

/** Scroll a box so that its text from `first` to `last` is seen as a whole, in the upper third if it is short. */
export function scrollTo(box: HTMLElement, first: HTMLElement, last: HTMLElement): void {
  const { top } = first.getBoundingClientRect();
  const room = box.clientHeight - (last.getBoundingClientRect().bottom - top) - MARGIN_PX;
  const above = Math.min(box.clientHeight / 3, Math.max(HEADING_PX, room));
  box.scrollTop += top - box.getBoundingClientRect().top - above;
}

/** Long enough for the source to open beside an answer, which makes it narrower. */
const SETTLES_MS = 1_500;

/** Keep parts of a page in view while it settles, the first of them before all; a reader's own move ends it. Returns what ends it. */
export function keepInView(page: Element, parts: string): () => void {
  const show = () => {
    const found = [...page.querySelectorAll(parts)];
    // the row of a table, which is as wide as it: a cell would move the table sideways, below its first column
    for (const part of [found.at(-1), found[0]]) (part?.closest("tr") ?? part)?.scrollIntoView({ block: "nearest" });
  };
  const sizes = new ResizeObserver(show);
  const end = () => {
    sizes.disconnect();
    clearTimeout(timer);
    for (const move of ["wheel", "pointerdown", "keydown"]) removeEventListener(move, end, true);
  };
  const timer = setTimeout(end, SETTLES_MS);
  for (const move of ["wheel", "pointerdown", "keydown"]) addEventListener(move, end, true);
  for (const one of [page, page.parentElement]) if (one !== null) sizes.observe(one);
  return end;
}
