import { useEffect, useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { clockTime } from "@console/text.ts";
import { Icon } from "@console/views/icons.tsx";
import type { CareContexts } from "./care_context.ts";

const LOOK_EVERY_MS = 5_000;

/** Whose live data the next question may read, until when, and a way to leave it. */
export function ContextBar({ contexts }: { contexts: CareContexts }) {
  const [now, setNow] = useState(Date.now());
  const context = contexts.current.value;
  useEffect(() => {
    if (context === null) return undefined;
    const timer = setInterval(() => setNow(Date.now()), LOOK_EVERY_MS);
    return () => clearInterval(timer);
  }, [context]);
  if (context === null) return null;
  const { customer, expiresAt, isUsed } = context;
  const isExpired = expiresAt !== null && expiresAt <= now;
  const isOver = isUsed || isExpired;
  const leave = () => {
    contexts.forget();
    announce("Live data are left out from the next question on");
    document.getElementById("question")?.focus();
  };
  return (
    <p class={isOver ? "context-bar is-expired" : "context-bar"}>
      <Icon name={isOver ? "alert" : "clock"} />
      <span>
        {isUsed ? (
          "The next question has no live data: the care application’s link is for one question. Open the assistant from there again."
        ) : isExpired ? (
          "The care application’s link has expired: open the assistant from there again."
        ) : (
          <>
            Live data{customer !== null && <> of <strong>{customer}</strong></>}
            {expiresAt !== null && `, until ${clockTime(new Date(expiresAt).toISOString())}`}
          </>
        )}
      </span>
      <button type="button" class="button small" onClick={leave}>
        Leave out
      </button>
    </p>
  );
}
