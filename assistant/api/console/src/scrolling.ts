/** Scrolling one box without moving the page around it, which `scrollIntoView` would do as well. */

const MARGIN_PX = 8;

/** Bring a part of a scrolling box into sight with the least movement. */
export function revealIn(box: HTMLElement, part: HTMLElement): void {
  const at = part.getBoundingClientRect();
  const frame = box.getBoundingClientRect();
  if (at.top < frame.top) box.scrollTop += at.top - frame.top - MARGIN_PX;
  else if (at.bottom > frame.bottom) box.scrollTop += at.bottom - frame.bottom + MARGIN_PX;
}

/** Scroll a box so that a part of it begins in the upper third. */
export function scrollTo(box: HTMLElement, part: HTMLElement): void {
  const offset = part.getBoundingClientRect().top - box.getBoundingClientRect().top;
  box.scrollTop += offset - box.clientHeight / 3;
}
