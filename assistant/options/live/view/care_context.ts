/**
 * Whose conversation it is: a token that the care application signs and passes in the address, as
 * `#context=…`. A fragment is sent to no server. It is kept in this page's memory, as the agent's own token is.
 */
import { type Signal, signal } from "@preact/signals";
import { claimsOf } from "@console/oidc.ts";

export interface CareContext {
  readonly token: string;
  /** As the care application names the customer; null where the token does not say it readably. */
  readonly customer: string | null;
  /** Milliseconds since 1970; null where the token does not say it. */
  readonly expiresAt: number | null;
  /** An answer has begun with it: the service takes it for no other question. */
  readonly isUsed: boolean;
}

const FRAGMENT = /^#context=([A-Za-z0-9_.-]{1,8192})$/;

export class CareContexts {
  readonly current: Signal<CareContext | null> = signal(null);

  /** Take the token out of the address, so that no history keeps it. */
  takeFrom(place: Location, past: History): void {
    const token = FRAGMENT.exec(place.hash)?.[1];
    if (token === undefined) return;
    this.take(token);
    past.replaceState(past.state, "", `${place.pathname}${place.search}`);
  }

  /** Take a token; one that it has keeps its state. */
  take(token: string): void {
    if (this.token() !== token) this.current.value = contextOf(token);
  }

  forget(): void {
    this.current.value = null;
  }

  /** The token for elements of the answer that it counted for, and for the next question while it is unused. */
  token(): string | null {
    return this.current.peek()?.token ?? null;
  }

  /** The token for the next question. An expired one is sent too: the service says what to do. */
  unused(): string | null {
    return this.current.peek()?.isUsed ? null : this.token();
  }

  /** An answer has begun with the token. */
  count(token: string): void {
    const current = this.current.peek();
    if (current?.token === token) this.current.value = { ...current, isUsed: true };
  }
}

/** What the token says, unverified: only the service can verify it. It decides what the agent reads, nothing else. */
export function contextOf(token: string): CareContext {
  const { customer, exp } = claimsOf(token);
  return {
    token,
    customer: typeof customer === "string" && customer.length <= 128 ? customer : null,
    expiresAt: typeof exp === "number" && Number.isFinite(exp) ? exp * 1000 : null,
    isUsed: false,
  };
}
