import { useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Handed } from "../options.ts";
import { Icon } from "./icons.tsx";
import { useWorkspace } from "./workspace_state.ts";

interface GiveButtonProps {
  readonly what: Handed;
  readonly label: string;
  readonly said: string;
  /** Asked first: may it be used? */
  readonly allow?: () => Promise<boolean>;
}

/** Hands something to the page that holds the console, where there is one that takes it. */
export function GiveButton({ what, label, said, allow }: GiveButtonProps) {
  const { host } = useWorkspace();
  const [state, setState] = useState<"ready" | "given" | "failed">("ready");
  if (host === null || !host.takes.has(what.type)) return null;
  const give = async () => {
    const number = host.chat.peek()?.number; // the page may be in another chat when the check has ended
    if (allow !== undefined && !(await allow())) return;
    const isTaken = await host.give(what, number);
    setState(isTaken ? "given" : "failed");
    announce(isTaken ? said : FAILED);
  };
  return (
    <button type="button" class="button" onClick={give} onBlur={() => setState("ready")}>
      <Icon name={state === "given" ? "check" : "send"} /> {{ ready: label, given: said, failed: FAILED }[state]}
    </button>
  );
}

const FAILED = "The page did not take it: copy it";
