/** The service's routes that the console uses. Every call has a limit and fails with ApiError. */
import { followAnswer, Silence } from "./answer_stream.ts";
import { CALL_LIMIT_MS } from "./config.ts";
import { ApiError, brokenStream, problemOf, stalledStream, unreachable } from "./problems.ts";
import type {
  AnswerEvent,
  Conversation,
  DocumentPage,
  DocumentState,
  DocumentText,
  Sent,
  StoredSent,
  StoredVerdict,
  Verdict,
} from "./wire.ts";

const PAGE_SIZE = 50;

export interface Question {
  readonly question: string;
  readonly conversationId: string | null;
}

export class Api {
  readonly #token: () => string | null;
  readonly #onSignedOut: () => void;

  constructor({ token, onSignedOut }: { token: () => string | null; onSignedOut: () => void }) {
    this.#token = token;
    this.#onSignedOut = onSignedOut;
  }

  /**
   * Ask, and hand over events as they arrive. Returns when the answer has ended; aborting `signal` ends it with
   * the signal's own reason.
   */
  async ask(
    { question, conversationId }: Question,
    { signal, onEvents }: { signal: AbortSignal; onEvents: (events: AnswerEvent[]) => void },
  ): Promise<void> {
    const silence = new Silence();
    const either = AbortSignal.any([signal, silence.signal]);
    try {
      const body = JSON.stringify({
        question,
        ...(conversationId === null ? {} : { conversation_id: conversationId }),
      });
      const headers = { accept: "text/event-stream", "content-type": "application/json" };
      const response = await this.#fetch("/v1/answers", { method: "POST", body, headers, signal: either });
      if (response.body === null) throw new ApiError(brokenStream());
      await followAnswer(response.body, { silence, onEvents });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (silence.signal.aborted) throw new ApiError(stalledStream());
      throw error instanceof ApiError ? error : new ApiError(brokenStream());
    } finally {
      silence.end();
    }
  }

  async cancel(answerId: string): Promise<void> {
    await this.#call(`/v1/answers/${encodeURIComponent(answerId)}`, { method: "DELETE" });
  }

  async conversation(conversationId: string): Promise<Conversation> {
    return await this.#read(`/v1/answers?conversation_id=${encodeURIComponent(conversationId)}`);
  }

  async giveVerdict(answerId: string, verdict: Verdict): Promise<StoredVerdict> {
    return await this.#write(`/v1/answers/${encodeURIComponent(answerId)}/verdict`, verdict);
  }

  async send(answerId: string, sent: Sent): Promise<StoredSent> {
    return await this.#write(`/v1/answers/${encodeURIComponent(answerId)}/sent`, sent);
  }

  /** `path` is a source's `document_url`: a path of this service, nothing else is asked. */
  async documentText(path: string): Promise<DocumentText> {
    const address = new URL(path, location.origin);
    if (address.origin !== location.origin) throw new ApiError(unreachable());
    return await this.#read(address.pathname + address.search);
  }

  async documents(state: DocumentState | null, after: string | null): Promise<DocumentPage> {
    const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
    if (state !== null) query.set("state", state);
    if (after !== null) query.set("after", after);
    return await this.#read(`/v1/documents?${query}`);
  }

  async withdraw(documentId: string): Promise<void> {
    await this.#call(`/v1/documents/${encodeURIComponent(documentId)}`, { method: "DELETE" });
  }

  async #read<T>(path: string): Promise<T> {
    const response = await this.#call(path, {});
    return (await response.json()) as T;
  }

  async #write<T>(path: string, body: object): Promise<T> {
    const headers = { "content-type": "application/json" };
    const response = await this.#call(path, { method: "POST", body: JSON.stringify(body), headers });
    return (await response.json()) as T;
  }

  async #call(path: string, init: RequestInit): Promise<Response> {
    return await this.#fetch(path, { ...init, signal: AbortSignal.timeout(CALL_LIMIT_MS) });
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${this.#token() ?? ""}`);
    const response = await fetch(path, { ...init, headers, credentials: "omit" }).catch(() => null);
    if (response === null) throw new ApiError(unreachable());
    if (response.ok) return response;
    if (response.status === 401) this.#onSignedOut();
    throw new ApiError(await problemOf(response));
  }
}
