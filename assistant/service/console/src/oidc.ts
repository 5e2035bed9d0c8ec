/**
 * OpenID Connect, authorization code flow with PKCE (RFC 7636), for a public client. The token lives in this
 * page's memory; sessionStorage holds only what must survive the way to the issuer and back.
 */
import { CALL_LIMIT_MS, type Config } from "./config.ts";
import { isThisMachine } from "./problems.ts";

const KEY = "care-console.sign-in";
/** Answers to `prompt=none` that only mean: the agent must be asked. */
const NEEDS_AGENT = new Set([
  "login_required",
  "interaction_required",
  "consent_required",
  "account_selection_required",
]);

export interface Session {
  readonly accessToken: string;
  readonly idToken: string | null;
  /** `issuer tenant subject` */
  readonly author: string;
  readonly agent: string;
  readonly tenant: string;
  readonly roles: readonly string[];
}

/** Sign-in that cannot succeed; the message is for the agent. */
export class SignInError extends Error {
  override readonly name = "SignInError";
}

interface Provider {
  readonly issuer: string;
  readonly authorization_endpoint: string;
  readonly token_endpoint: string;
  readonly end_session_endpoint?: string;
}

/** A sign-in that was begun, without which its answer is of no use. */
export interface Underway {
  readonly redirectUri: string;
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly route: string;
}

/** Leave for the issuer. `isSilent` asks it to come straight back, without a page, if it knows the agent. */
export async function leaveForSignIn(config: Config, { isSilent }: { isSilent: boolean }): Promise<void> {
  const { address, underway } = await beginSignIn(config, { isSilent, redirectUri: consoleUri() });
  sessionStorage.setItem(KEY, JSON.stringify(underway));
  location.replace(address);
}

/** Return where the agent signs in, and what turns the issuer's answer into a session. Raises SignInError. */
export async function beginSignIn(
  config: Config,
  { isSilent, redirectUri }: { isSilent: boolean; redirectUri: string },
): Promise<{ readonly address: URL; readonly underway: Underway }> {
  if (!window.isSecureContext) {
    throw new SignInError("Sign-in needs a secure connection: open the console over HTTPS.");
  }
  const provider = await discover(config);
  const underway: Underway = {
    redirectUri,
    state: randomText(),
    nonce: randomText(),
    verifier: randomText(),
    route: location.hash,
  };
  const target = new URL(provider.authorization_endpoint);
  const parameters: Record<string, string> = {
    response_type: "code",
    client_id: config.client_id,
    redirect_uri: redirectUri,
    scope: config.scopes.join(" "),
    state: underway.state,
    nonce: underway.nonce,
    code_challenge: await challengeOf(underway.verifier),
    code_challenge_method: "S256",
  };
  if (isSilent) parameters["prompt"] = "none";
  for (const [name, value] of Object.entries(parameters)) target.searchParams.set(name, value);
  return { address: target, underway };
}

/**
 * Take what the issuer sent back in the address. Null: the address is not an issuer's answer, or the issuer
 * says that the agent must be asked. Raises SignInError.
 */
export async function returnFromSignIn(config: Config): Promise<Session | null> {
  const answer = new URLSearchParams(location.search);
  if (!answer.has("state") || !(answer.has("code") || answer.has("error"))) return null;
  const underway = takeUnderway();
  history.replaceState(null, "", location.pathname + (underway?.route ?? ""));
  return underway === null ? null : await endSignIn(config, { answer, underway });
}

/** Return the session of what the issuer answered; null: the answer is another's, or the agent must be asked. Raises
 * SignInError. */
export async function endSignIn(
  config: Config,
  { answer, underway }: { answer: URLSearchParams; underway: Underway },
): Promise<Session | null> {
  if (underway.state !== answer.get("state")) return null; // a stale or foreign address
  if ((answer.get("iss") ?? config.issuer) !== config.issuer) return null; // RFC 9207: another issuer's answer
  const error = answer.get("error");
  if (error !== null) {
    if (NEEDS_AGENT.has(error)) return null;
    throw new SignInError(answer.get("error_description") ?? `The sign-in service answered ${error}.`);
  }
  return await redeem(config, { code: answer.get("code") ?? "", underway });
}

/** Where to go so that the issuer forgets the agent too; null when it offers no such page. */
export async function signOutAddress(config: Config, session: Session): Promise<string | null> {
  const provider = await discover(config).catch(() => null);
  if (provider?.end_session_endpoint === undefined) return null;
  const target = new URL(provider.end_session_endpoint);
  target.searchParams.set("client_id", config.client_id);
  target.searchParams.set("post_logout_redirect_uri", consoleUri());
  if (session.idToken !== null) target.searchParams.set("id_token_hint", session.idToken);
  return target.href;
}

async function redeem(config: Config, { code, underway }: { code: string; underway: Underway }): Promise<Session> {
  const provider = await discover(config);
  const tokens = await readJson(provider.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code,
      redirect_uri: underway.redirectUri,
      client_id: config.client_id,
      code_verifier: underway.verifier,
    }),
  });
  const accessToken = tokens["access_token"];
  if (typeof accessToken !== "string") throw new SignInError("The sign-in service gave no token. Try again.");
  const idToken = typeof tokens["id_token"] === "string" ? tokens["id_token"] : null;
  if (idToken !== null && !isForUs(config, { claims: claimsOf(idToken), nonce: underway.nonce })) {
    throw new SignInError("The sign-in answer belongs to another attempt. Try again.");
  }
  return sessionOf(config, { accessToken, idToken });
}

/** OpenID Connect Core 1.0, section 3.1.3.7, for a token that came straight from the issuer. */
function isForUs(
  config: Config,
  { claims, nonce }: { claims: Record<string, unknown>; nonce: string },
): boolean {
  const audience = [claims["aud"]].flat();
  return claims["iss"] === config.issuer && audience.includes(config.client_id) && claims["nonce"] === nonce;
}

/** The claims only choose what the page shows; the service verifies the token at every call. */
export function sessionOf(config: Config, tokens: { accessToken: string; idToken: string | null }): Session {
  const claims = { ...(tokens.idToken === null ? {} : claimsOf(tokens.idToken)), ...claimsOf(tokens.accessToken) };
  const agent = typeof claims["sub"] === "string" ? claims["sub"] : "";
  const tenant = typeof claims["tenant"] === "string" ? claims["tenant"] : "";
  const roles = Array.isArray(claims["roles"]) ? claims["roles"].filter((role) => typeof role === "string") : [];
  return { ...tokens, author: `${config.issuer} ${tenant} ${agent}`, agent, tenant, roles };
}

/** The payload of a JWT; empty for a token that is none. */
export function claimsOf(token: string): Record<string, unknown> {
  const payload = token.split(".")[1];
  if (payload === undefined) return {};
  try {
    const bytes = Uint8Array.from(atob(payload.replace(/-/g, "+").replace(/_/g, "/")), (char) => char.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof claims === "object" && claims !== null ? { ...claims } : {};
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof DOMException) return {};
    throw error;
  }
}

async function discover(config: Config): Promise<Provider> {
  const address = `${config.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const found = await readJson(address, {});
  if (found["issuer"] !== config.issuer) {
    throw new SignInError("The sign-in service calls itself by another name than the one configured.");
  }
  return found as unknown as Provider;
}

async function readJson(address: string, init: RequestInit): Promise<Record<string, unknown>> {
  const signal = AbortSignal.timeout(CALL_LIMIT_MS);
  const response = await fetch(address, { ...init, signal, credentials: "omit" }).catch(() => null);
  if (response === null) {
    const stopped = "Sign-in on this machine has stopped. Start it again with make demo (or assistant tenant up).";
    const unreachable = "The sign-in service cannot be reached. Try again.";
    throw new SignInError(isThisMachine(globalThis.location?.hostname) ? stopped : unreachable);
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok || typeof body !== "object" || body === null) {
    throw new SignInError(`The sign-in service refused (status ${response.status}). Try again.`);
  }
  return { ...body };
}

function takeUnderway(): Underway | null {
  const stored = sessionStorage.getItem(KEY);
  sessionStorage.removeItem(KEY);
  return stored === null ? null : (JSON.parse(stored) as Underway);
}

function consoleUri(): string {
  return `${location.origin}/`;
}

function randomText(): string {
  return base64Url(crypto.getRandomValues(new Uint8Array(32)));
}

async function challengeOf(verifier: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  return base64Url(new Uint8Array(digest));
}

function base64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
