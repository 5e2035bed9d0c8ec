import type { Turn } from "../turn.ts";

/** Which sources were asked for an answer, where there are several; those that did not answer are above it. */
export function Asked({ turn: { asked } }: { turn: Turn }) {
  const answered = asked.filter(({ state }) => state === "answered" || state === "empty");
  if (answered.length === 0 || asked.length < 2) return null;
  return (
    <p class="hint asked">
      Asked: {answered.map(({ name, state }) => (state === "empty" ? `${name} (nothing found)` : name)).join(" · ")}
    </p>
  );
}
