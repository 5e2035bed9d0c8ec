import type { Turn } from "../turn.ts";
import { Icon } from "./icons.tsx";

/** Which sources were asked for an answer, and first those that did not answer: their part is missing. */
export function Asked({ turn: { asked } }: { turn: Turn }) {
  const missing = asked.filter(({ state }) => state === "late" || state === "failed" || state === "off");
  const answered = asked.filter(({ state }) => state === "answered" || state === "empty");
  if (missing.length === 0 && answered.length < 2) return null;
  return (
    <div class="asked">
      {missing.length > 0 && (
        <p class="notice warn">
          <Icon name="alert" />
          <span>
            <strong>{missing.map(({ name }) => name).join(", ")}</strong>{" "}
            {missing.every(({ state }) => state === "off") ? "is switched off" : "did not answer"}: what would come from
            there is missing here.
          </span>
        </p>
      )}
      {answered.length > 0 && (
        <p class="hint">
          Asked:{" "}
          {answered.map(({ name, state }) => (state === "empty" ? `${name} (nothing found)` : name)).join(" · ")}
        </p>
      )}
    </div>
  );
}
