/** What the service tells the page about itself, before anybody has signed in. */
import { openInstead } from "./text.ts";
import { ApiError, problemOf, unreachable, whole } from "./problems.ts";

export type Guard = "seen" | "reason" | "second_person";

export interface Config {
  readonly issuer: string;
  readonly client_id: string;
  readonly scopes: readonly string[];
  /** By tenant: the questions that its empty page offers. */
  readonly examples?: Readonly<Record<string, readonly string[]>>;
  /** Tenants of this machine whose questions no live model answers. */
  readonly unwritten?: readonly string[];
  /** The name in the page's head. */
  readonly service: string;
  /** Tenants whose sent replies are delivered; those of others are recorded only. */
  readonly delivers?: readonly string[];
  /** By tenant: what a reply with findings needs before it is sent; a tenant without it sends none. */
  readonly guards?: Readonly<Record<string, Guard>>;
  /** Origins whose pages may hold the console in a frame and talk to it. */
  readonly hosts?: readonly string[];
  /** Tenants with a model that writes replies. */
  readonly replies?: readonly string[];
  /** Tenants whose model checks the sentences that it wrote. */
  readonly checks?: readonly string[];
  /** Begin of an original's address = where it is opened instead. */
  readonly originals?: Readonly<Record<string, string>>;
}

export const CALL_LIMIT_MS = 15_000;

export async function loadConfig(): Promise<Config> {
  const response = await fetch("/config.json", { signal: AbortSignal.timeout(CALL_LIMIT_MS) }).catch(
    () => null,
  );
  if (response === null) throw new ApiError(unreachable());
  if (!response.ok) throw new ApiError(await problemOf(response));
  const config = await whole<Config>(response.json());
  openInstead(config.originals ?? {});
  return config;
}
