/** From an empty page to a signed-in agent, or to the question who it is. */
import { type Config, loadConfig } from "./config.ts";
import { type Session, SignInError, leaveForSignIn, returnFromSignIn } from "./oidc.ts";
import { ApiError } from "./problems.ts";
import { readTab } from "./tab_state.ts";

export type Entry =
  | { readonly kind: "signed_in"; readonly config: Config; readonly session: Session }
  /** `hasWork`: this tab holds a conversation that comes back after signing in. */
  | { readonly kind: "signed_out"; readonly config: Config; readonly hasWork: boolean; readonly problem?: string }
  | { readonly kind: "unavailable"; readonly problem: string }
  /** The page is on its way to the issuer. */
  | { readonly kind: "leaving" };

export async function enter(): Promise<Entry> {
  try {
    return await enterWith(await loadConfig());
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { kind: "unavailable", problem: error.problem.detail };
  }
}

async function enterWith(config: Config): Promise<Entry> {
  const hasWork = readTab(sessionStorage) !== null;
  const cameBack = /[?&](code|error)=/.test(location.search);
  try {
    const session = await returnFromSignIn(config);
    if (session !== null) return { kind: "signed_in", config, session };
    if (cameBack || !hasWork) return { kind: "signed_out", config, hasWork };
    await leaveForSignIn(config, { isSilent: true });
    return { kind: "leaving" };
  } catch (error) {
    if (!(error instanceof SignInError)) throw error;
    return { kind: "signed_out", config, hasWork, problem: error.message };
  }
}
