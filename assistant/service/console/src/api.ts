/** The core's routes, and the calls by which options reach theirs. Every call has a limit and fails with ApiError. */
import { ComingBack, type Open, type Place, RESUME_WINDOW_S, type Reader } from "./coming_back.ts";
import { CALL_LIMIT_MS } from "./config.ts";
import { ApiError, problemOf, retryAfterMs, unreachable, whole } from "./problems.ts";
import type {
  Act,
  AnswerRequest,
  ChatTurn,
  CheckBody,
  Conversation,
  DocumentDetails,
  DocumentFilters,
  DocumentPage,
  DocumentText,
  ReleaseRequest,
  ReplyBody,
  ReplyChecks,
  RestoreContentRequest,
  SendRequest,
  Source,
  StoredAnswer,
  StoredSent,
  StoredVerdict,
  UploadState,
  UploadStates,
  WaitingDocument,
  Verdict,
  WithdrawalReceipt,
  WritableSources,
} from "./wire.ts";

const PAGE_SIZE = 50;
const FILE_LIMIT_MS = 120_000;

export interface NewUpload {
  readonly path: string;
  readonly file: Blob;
  readonly source: string;
  /** Id of the document that the file replaces. */
  readonly replaces: string | null;
}

export interface Question {
  /** One a question: the service answers it once, however often it is sent under the same key. */
  readonly key: string;
  /** Empty: the customer's last words of the chat. */
  readonly question: string;
  readonly turns?: readonly ChatTurn[];
  readonly conversationId: string | null;
  /** The care application's token of whose conversation it is. */
  readonly context?: string | null;
}

export class Api {
  readonly #token: () => string | null;
  readonly #onSignedOut: () => void;

  constructor({ token, onSignedOut }: { token: () => string | null; onSignedOut: () => void }) {
    this.#token = token;
    this.#onSignedOut = onSignedOut;
  }

  /**
   * Ask, and hand over events as they arrive, over as many connections as it takes. Returns when the answer has
   * ended; aborting the reader's signal ends it with the signal's own reason.
   */
  async ask({ key, question, turns = [], conversationId, context = null }: Question, reader: Reader): Promise<void> {
    const request: AnswerRequest = {
      question,
      resume_window_s: RESUME_WINDOW_S,
      ...(conversationId === null ? {} : { conversation_id: conversationId }),
      ...(turns.length === 0 ? {} : { turns }),
      ...(context === null ? {} : { context }),
    };
    const body = JSON.stringify(request);
    const headers = { "content-type": "application/json", "idempotency-key": key };
    const open: Open = (place, signal) =>
      place === null
        ? this.#stream("/v1/answers", { method: "POST", body, headers, signal })
        : this.#events(place, signal);
    await new ComingBack(open, { reader }).readToEnd();
  }

  /** Have a reply to an answer written; its events are those of an answer. */
  async reply(answerId: string, key: string, request: ReplyBody, reader: Reader): Promise<void> {
    const body = JSON.stringify(request);
    const headers = { "content-type": "application/json", "idempotency-key": key };
    const path = `/v1/answers/${encodeURIComponent(answerId)}/reply`;
    const open: Open = (place, signal) =>
      place === null ? this.#stream(path, { method: "POST", body, headers, signal }) : this.#events(place, signal);
    await new ComingBack(open, { reader }).readToEnd();
  }

  async checkReply(answerId: string, request: CheckBody): Promise<ReplyChecks> {
    return await this.write(`/v1/answers/${encodeURIComponent(answerId)}/reply/check`, request);
  }

  /** Read an answer that another page of this tab began, from its first event to its end. */
  async follow(answerId: string, reader: Reader): Promise<void> {
    const place = { answerId, lastEventId: "" };
    const open: Open = (at, signal) => this.#events(at ?? place, signal);
    await new ComingBack(open, { reader, place }).readToEnd();
  }

  async answer(answerId: string): Promise<StoredAnswer> {
    return await this.read(`/v1/answers/${encodeURIComponent(answerId)}`);
  }

  async cancel(answerId: string): Promise<void> {
    await this.#call(`/v1/answers/${encodeURIComponent(answerId)}`, { method: "DELETE" });
  }

  async conversation(conversationId: string): Promise<Conversation> {
    return await this.read(`/v1/answers?conversation_id=${encodeURIComponent(conversationId)}`);
  }

  async giveVerdict(answerId: string, verdict: Verdict): Promise<StoredVerdict> {
    return await this.write(`/v1/answers/${encodeURIComponent(answerId)}/verdict`, verdict);
  }

  async send(answerId: string, sent: SendRequest): Promise<StoredSent> {
    return await this.write(`/v1/answers/${encodeURIComponent(answerId)}/sent`, sent);
  }

  async report(answerId: string, act: Act): Promise<void> {
    const headers = { "content-type": "application/json" };
    const path = `/v1/answers/${encodeURIComponent(answerId)}/acts`;
    await this.#call(path, { method: "POST", body: JSON.stringify(act), headers, keepalive: true });
  }

  /** The stored text of a document, with a passage: by the agent's own token, so no link is needed. */
  async documentText(place: DocumentPlace): Promise<DocumentText> {
    const [start, end] = place.span ?? [];
    return await this.read(documentPath(place, start === undefined ? {} : { start: String(start), end: String(end) }));
  }

  /** The file that a stored text was read from. */
  async original(place: DocumentPlace): Promise<Blob> {
    return await this.file(documentPath(place, { format: "original" }));
  }

  async documents(filters: DocumentFilters, after: string | null): Promise<DocumentPage> {
    return await this.page("/v1/documents", filters, after);
  }

  async withdraw(documentId: string): Promise<void> {
    await this.#call(`/v1/documents/${encodeURIComponent(documentId)}`, { method: "DELETE" });
  }

  /** What the withdrawal of a document removed so far, and what remains. */
  async receipt(documentId: string): Promise<WithdrawalReceipt> {
    return await this.read(`/v1/documents/${encodeURIComponent(documentId)}/receipt`);
  }

  async documentDetails(documentId: string): Promise<DocumentDetails> {
    return await this.read(`/v1/documents/${encodeURIComponent(documentId)}/details`);
  }

  async restoreDocument(documentId: string, contentHash: string): Promise<void> {
    const request: RestoreContentRequest = { content_hash: contentHash };
    await this.write(`/v1/documents/${encodeURIComponent(documentId)}/restore`, request);
  }

  /** The content of a document that waits for a second person. */
  async waiting(documentId: string): Promise<WaitingDocument> {
    return await this.read(`/v1/documents/${encodeURIComponent(documentId)}/waiting`);
  }

  /** The second person's word on documents of a source, in the contents that they were shown. */
  async release(knowledgeSource: string, contents: ReleaseRequest["contents"]): Promise<void> {
    const request: ReleaseRequest = { knowledge_source: knowledgeSource, contents };
    await this.write("/v1/documents/release", request);
  }

  /** The sources that the caller may add documents to. */
  async writableSources(): Promise<WritableSources> {
    return await this.read("/v1/knowledge-sources");
  }

  /** Send a file whole, and tell what share of it has left. */
  async upload({ path, file, source, replaces }: NewUpload, onShare: (share: number) => void): Promise<UploadState> {
    const query = new URLSearchParams({ path, knowledge_source: source });
    if (replaces !== null) query.set("replaces", replaces);
    const request = new XMLHttpRequest(); // fetch does not tell what has left
    request.open("POST", `/v1/uploads?${query}`);
    request.setRequestHeader("authorization", `Bearer ${this.#token() ?? ""}`);
    request.upload.onprogress = ({ loaded, total }) => onShare(loaded / total);
    await new Promise((resolve) => {
      request.onloadend = resolve;
      request.send(file);
    });
    const headers = { "retry-after": request.getResponseHeader("retry-after") ?? "0" };
    const response = request.status === 0 ? null : new Response(request.responseText, { status: request.status, headers });
    return await whole<UploadState>((await this.#checked(response)).json());
  }

  async uploadResults(uploadIds: readonly string[]): Promise<UploadStates> {
    return await this.read(`/v1/uploads?${new URLSearchParams(uploadIds.map((id) => ["upload_id", id]))}`);
  }

  async #events({ answerId, lastEventId }: Place, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const headers = lastEventId === "" ? {} : { "last-event-id": lastEventId };
    return await this.#stream(`/v1/answers/${encodeURIComponent(answerId)}/events`, { headers, signal });
  }

  async #stream(path: string, init: RequestInit): Promise<ReadableStream<Uint8Array>> {
    const headers = new Headers(init.headers);
    headers.set("accept", "text/event-stream");
    const { body } = await this.#fetch(path, { ...init, headers });
    if (body === null) throw new ApiError(unreachable());
    return body;
  }

  async read<T>(path: string): Promise<T> {
    const response = await this.#call(path, {});
    return await whole<T>(response.json());
  }

  /** A page of a list under filters; `after` is the `next_after` of the page before. */
  async page<T>(path: string, filters: object, after: string | null): Promise<T> {
    const query = new URLSearchParams({ limit: String(PAGE_SIZE) });
    for (const [name, value] of Object.entries({ ...filters, after })) if (value) query.set(name, value);
    return await this.read(`${path}?${query}`);
  }

  async file(path: string, accept = "*/*"): Promise<Blob> {
    const response = await this.#fetch(path, { headers: { accept }, signal: AbortSignal.timeout(FILE_LIMIT_MS) });
    return await whole(response.blob());
  }

  async write<T>(path: string, body: object): Promise<T> {
    const headers = { "content-type": "application/json" };
    const response = await this.#call(path, { method: "POST", body: JSON.stringify(body), headers });
    return await whole<T>(response.json());
  }

  async #call(path: string, init: RequestInit): Promise<Response> {
    return await this.#fetch(path, { ...init, signal: AbortSignal.timeout(CALL_LIMIT_MS) });
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set("authorization", `Bearer ${this.#token() ?? ""}`);
    return await this.#checked(await fetch(path, { ...init, headers, credentials: "omit" }).catch(() => null));
  }

  /** Return a response with a good status; throw the problem of any other, and of none. */
  async #checked(response: Response | null): Promise<Response> {
    if (response === null) throw new ApiError(unreachable());
    if (response.ok) return response;
    if (response.status === 401) this.#onSignedOut();
    throw new ApiError(await problemOf(response), { retryAfterMs: retryAfterMs(response) });
  }
}

/** A document, and the cited content and passage where there are some. */
export type DocumentPlace = Pick<Source, "document_id" | "content_hash"> & Partial<Pick<Source, "span">>;

function documentPath({ document_id, content_hash }: DocumentPlace, query: Record<string, string>): string {
  const cited = content_hash === "" ? {} : { content_hash };
  return `/v1/documents/${encodeURIComponent(document_id)}?${new URLSearchParams({ ...cited, ...query })}`;
}
