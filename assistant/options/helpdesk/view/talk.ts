/** The chats of the helpdesk, as its server sends them. */
export interface Message {
  readonly message_id: string;
  readonly who: "patient" | "agent";
  readonly text: string;
  readonly at: string;
}

export interface Chat {
  readonly chat_id: string;
  readonly customer: string;
  readonly story: string | null;
  readonly opened_at: string;
  readonly closed_at: string | null;
  readonly messages: readonly Message[];
}

interface Changes {
  readonly number: number;
  readonly chats: readonly Chat[];
}

const CALL_LIMIT_MS = 15_000;
const AGAIN_AFTER_MS = 1_000;
const LOST = "No connection. The page tries again.";
const ENDED = "This chat has ended.";

export class Talk {
  /** Throws an Error with what the server says. */
  async post<T>(path: string, body: object = {}): Promise<T> {
    const response = await fetch(`/helpdesk/${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json" },
      signal: AbortSignal.timeout(CALL_LIMIT_MS),
    });
    const content = response.status === 204 ? null : await response.json().catch(() => null);
    if (!response.ok) throw new Error(content?.detail ?? `The helpdesk answered ${response.status}.`);
    return content as T;
  }

  /** Ask for the chats of a path that changed, again and again until the signal ends it or its chat is gone; a page that nobody sees asks nothing. `onLost`: why none come now; null while they come. */
  async follow(
    path: string,
    onChats: (chats: readonly Chat[]) => void,
    onLost: (why: string | null) => void,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<void> {
    let after = 0;
    while (!signal.aborted) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(CALL_LIMIT_MS)]);
      const response = await fetch(`/helpdesk/${path}?after=${after}`, { signal: limit }).catch(() => null);
      const changes = response?.ok ? ((await response.json().catch(() => null)) as Changes | null) : null;
      if (signal.aborted) return;
      const isGone = response?.status === 404 && path.startsWith("chats/");
      onLost(changes !== null ? null : isGone ? ENDED : LOST);
      if (isGone) return;
      if (changes !== null) {
        after = changes.number;
        if (changes.chats.length > 0) onChats(changes.chats);
      }
      await new Promise((resolve) => setTimeout(resolve, AGAIN_AFTER_MS));
      while (document.hidden) await new Promise((resolve) => addEventListener("visibilitychange", resolve, { once: true }));
    }
  }
}

/** The id under which a text is kept once, however often it is sent. */
export function newId(): string {
  return crypto.randomUUID().replaceAll("-", "");
}
