import { useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { ApiError } from "../problems.ts";
import type { Problem } from "../wire.ts";
import { Icon } from "./icons.tsx";

/** What went wrong, said at once to those who do not see it. */
export function Failure({ id, children }: { id?: string; children: ComponentChildren }) {
  return (
    <p id={id} class="notice bad" role="alert">
      <Icon name="alert" /> <span>{children}</span>
    </p>
  );
}

export interface Call {
  readonly isBusy: boolean;
  /** Why the last one failed, in words for the agent. */
  readonly failure: string | null;
  readonly setFailure: (words: string | null) => void;
  /** Run one call at a time; true when it succeeded. */
  readonly run: (call: () => Promise<void>) => Promise<boolean>;
}

/** A call that an agent's press of a button makes. `undone` begins the words of its failure ("Not sent"), or makes them. */
export function useCall(undone: string | ((problem: Problem) => string)): Call {
  const [isBusy, setBusy] = useState(false);
  const isRunning = useRef(false); // a timer's function has the isBusy of the drawing that made it
  const [failure, setFailure] = useState<string | null>(null);
  const run = async (call: () => Promise<void>) => {
    if (isRunning.current) return false;
    isRunning.current = true;
    setBusy(true);
    setFailure(null);
    try {
      await call();
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setFailure(typeof undone === "string" ? `${undone}: ${error.problem.detail}` : undone(error.problem));
      return false;
    } finally {
      isRunning.current = false;
      setBusy(false);
    }
  };
  return { isBusy, failure, setFailure, run };
}
