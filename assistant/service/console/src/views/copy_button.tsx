import { useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import { Icon } from "./icons.tsx";

interface CopyButtonProps {
  readonly text: string;
  readonly label: string;
  readonly said?: string;
  /** Asked first: may it be copied? */
  readonly allow?: () => Promise<boolean>;
}

/** Copies a text, and says whether it did until the focus goes elsewhere. */
export function CopyButton({ text, label, said = "Copied", allow }: CopyButtonProps) {
  const [state, setState] = useState<"ready" | "copied" | "failed">("ready");
  const copy = async () => {
    if (allow !== undefined && !(await allow())) return;
    try {
      await navigator.clipboard.writeText(text);
      setState("copied");
      announce(said);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      setState("failed"); // the browser's settings or the company's policy forbid it
      announce("The browser does not allow copying. Select the text instead.");
    }
  };
  const words = { ready: label, copied: said, failed: "Copying is not allowed" };
  return (
    <button type="button" class="button" onClick={copy} onBlur={() => setState("ready")}>
      <Icon name={state === "copied" ? "check" : "copy"} /> {words[state]}
    </button>
  );
}
