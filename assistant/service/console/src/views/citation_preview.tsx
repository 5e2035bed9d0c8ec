import { useLayoutEffect, useRef } from "preact/hooks";
import { revealIn } from "../scrolling.ts";
import type { Turn } from "../turn.ts";
import { useWorkspace } from "./workspace_state.ts";

const GAP_PX = 6;
const MARGIN_PX = 8;

/**
 * The snippet of the source that a citation points at: in its card where that is in sight, else in a box beside
 * the citation, as long as either is pointed at.
 */
export function CitationPreview({ turn }: { turn: Turn | null }) {
  const workspace = useWorkspace();
  const box = useRef<HTMLDivElement>(null);
  const preview = workspace.preview.value;
  const source = turn?.sources.find(({ n }) => n === preview?.n);
  useLayoutEffect(() => {
    if (preview === null || box.current === null) return;
    box.current.hidden = showCard(preview.n);
    if (!box.current.hidden) place(box.current, preview.anchor);
  }, [preview, source?.snippet]);
  if (preview === null || source === undefined) return null;
  return (
    <div
      ref={box}
      id="citation-preview"
      class="preview"
      role="tooltip"
      onMouseEnter={() => workspace.stay()}
      onMouseLeave={() => workspace.leave(preview.anchor)}
    >
      <p class="preview-title">
        <span class="number">{source.n}</span> {source.title}
      </p>
      <p>{source.snippet === "" ? "Reading the passage…" : source.snippet}</p>
    </div>
  );
}

/** Bring the card into sight if its column scrolls on its own; say whether it is in sight as a whole. */
function showCard(n: number): boolean {
  const card = document.querySelector<HTMLElement>(`[data-source="${n}"]`);
  const column = card?.closest<HTMLElement>(".sources");
  if (!card || !column || card.getClientRects().length === 0) return false;
  if (getComputedStyle(column).overflowY === "auto") revealIn(column, card);
  const { top, bottom } = card.getBoundingClientRect();
  return top >= 0 && bottom <= innerHeight;
}

/** Below the citation, or above it where there is no room; inside the window in any case. */
function place(box: HTMLElement, anchor: HTMLElement): void {
  const at = anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(MARGIN_PX, Math.min(at.left, document.documentElement.clientWidth - width - MARGIN_PX));
  const isBelow = at.bottom + GAP_PX + height < innerHeight || at.top < height;
  box.style.left = `${left}px`;
  box.style.top = `${isBelow ? at.bottom + GAP_PX : at.top - GAP_PX - height}px`;
}
