/** What can go wrong on the way to the service, as the service itself would say it. */
import type { Problem } from "./wire.ts";

/** A call that failed: the service's own problem, or one that stands for a connection that broke. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly problem: Problem;
  /** After how long the service asks to try again; 0 when it did not say. */
  readonly retryAfterMs: number;

  constructor(problem: Problem, { retryAfterMs = 0 }: { retryAfterMs?: number } = {}) {
    super(problem.title);
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

export function unreachable(): Problem {
  return {
    title: "The assistant cannot be reached",
    status: 0,
    detail: isThisMachine(globalThis.location?.hostname)
      ? "The service on this machine has stopped. Start it again with make demo (or assistant tenant up), then try again."
      : "The connection failed before an answer came. Check the network and try again.",
    code: "unreachable",
    retryable: true,
  };
}

/** Whether the console was loaded from a service on the reader's own machine. */
export function isThisMachine(hostname: string | undefined): boolean {
  return hostname !== undefined && ["127.0.0.1", "localhost", "[::1]"].includes(hostname);
}

/** An answer that had begun when its connection was lost, and that could not be come back to. */
export function lostAnswer(): Problem {
  return {
    title: "The answer broke off",
    status: 0,
    detail: "The connection was lost and did not come back in time. What is above is incomplete.",
    code: "connection_lost",
    retryable: true,
  };
}

/** A mark or a reply that came before the record of its answer. */
export function notOnRecord(): Problem {
  return {
    title: "Not on record yet",
    status: 0,
    detail: "The record of this answer is still being written. What you entered stays here: try again in a minute.",
    code: "not_on_record",
    retryable: true,
  };
}

/** Whether the answer ended without an end of its own: what has come of it is all there will be. */
export function isBreak(problem: Problem): boolean {
  return problem.code === "interrupted" || problem.code === "connection_lost";
}

/** What is known of an answer that failed before this page was loaded. */
export function recordedProblem(code: string | null): Problem {
  return {
    title: "The answer failed",
    status: 0,
    detail: "It broke off before it was complete. Ask again to get a new one.",
    code: code ?? "failed",
    retryable: true,
  };
}

/** Read a problem body; a body that is none (a balancer's page) is described by its status. */
export async function problemOf(response: Response): Promise<Problem> {
  const body: unknown = await response.json().catch(() => null);
  if (isProblem(body)) return body;
  return {
    title: "The assistant gave no readable answer",
    status: response.status,
    detail: `The service answered with status ${response.status}.`,
    code: `http_${response.status}`,
    retryable: response.status === 429 || response.status >= 500,
  };
}

/** Wait for the body of a response. One that breaks off is no answer, as if nobody had been reached. */
export async function whole<T>(body: Promise<T>): Promise<T> {
  return await body.catch(() => {
    throw new ApiError(unreachable());
  });
}

/** The pause that a refusal asks for, of the form in seconds that the service sends; 0 without one. */
export function retryAfterMs(response: Response): number {
  const seconds = Number(response.headers.get("retry-after") ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : 0;
}

export function isProblem(body: unknown): body is Problem {
  if (typeof body !== "object" || body === null) return false;
  return (
    "code" in body &&
    typeof body.code === "string" &&
    "title" in body &&
    typeof body.title === "string" &&
    "detail" in body &&
    typeof body.detail === "string" &&
    "retryable" in body &&
    typeof body.retryable === "boolean"
  );
}
