import { useState } from "preact/hooks";
import type { Config } from "../config.ts";
import { SignInError, leaveForSignIn } from "../oidc.ts";
import { Failure } from "./failure.tsx";
import { BrandMark } from "./icons.tsx";

interface SignInProps {
  readonly config: Config;
  readonly hasWork: boolean;
  readonly problem: string | null;
}

export function SignIn({ config, hasWork, problem }: SignInProps) {
  const [isLeaving, setLeaving] = useState(false);
  const [failure, setFailure] = useState(problem);
  const signIn = async () => {
    setLeaving(true);
    setFailure(null);
    try {
      await leaveForSignIn(config, { isSilent: false });
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setFailure(error.message);
      setLeaving(false);
    }
  };
  return (
    <main class="gate">
      <div class="gate-card">
        <BrandMark />
        <h1>{config.service}</h1>
        {hasWork ? (
          <p>Your conversation and your unsent text are kept in this tab. Sign in again to go on.</p>
        ) : (
          <p>Answers from your own knowledge base, each with its source. Sign in to ask.</p>
        )}
        {failure !== null && <Failure>{failure}</Failure>}
        <button type="button" class="button primary" disabled={isLeaving} onClick={signIn}>
          {isLeaving ? "Opening the sign-in page…" : "Sign in"}
        </button>
      </div>
    </main>
  );
}
