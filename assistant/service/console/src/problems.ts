/** What can go wrong on the way to the service, as the service itself would say it. */
import type { Problem } from "./wire.ts";

/** A call that failed: the service's own problem, or one that stands for a connection that broke. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.title);
    this.problem = problem;
  }
}

export function unreachable(): Problem {
  return {
    title: "The assistant cannot be reached",
    status: 0,
    detail: "The connection failed before an answer came. Check the network and try again.",
    code: "unreachable",
    retryable: true,
  };
}

export function brokenStream(): Problem {
  return {
    title: "The answer broke off",
    status: 0,
    detail: "The connection ended before the answer did. What has arrived is incomplete.",
    code: "interrupted",
    retryable: true,
  };
}

export function stalledStream(): Problem {
  return {
    title: "The answer has stalled",
    status: 0,
    detail: "Nothing has arrived for half a minute. What is here is incomplete.",
    code: "stalled",
    retryable: true,
  };
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
