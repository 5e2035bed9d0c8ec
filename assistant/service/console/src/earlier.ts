/**
 * The agent's earlier conversations: ids and times alone are kept by the browser (localStorage), under a hash of
 * tenant and agent. What was asked is read from the service each time, and kept in this page's memory.
 */
import { type ReadonlySignal, type Signal, signal } from "@preact/signals";
import type { Api } from "./api.ts";
import { ApiError } from "./problems.ts";
import { readStored, writeStored } from "./stored_values.ts";

const LIMIT = 50;
const KEY = "care-console.earlier.";
/** A conversation that the service does not know may be so new that its first record is still on its way. */
const NEW_MS = 3_600_000;

export interface EarlierConversation {
  readonly id: string;
  /** Instant of its last question, ISO 8601. */
  readonly at: string;
}

export class Earlier {
  readonly #list: Signal<readonly EarlierConversation[]> = signal([]);
  readonly #questions: Signal<ReadonlyMap<string, string>> = signal(new Map());
  readonly #api: Api;
  readonly #storage: Storage;
  readonly #key: Promise<string>;
  readonly #asked = new Set<string>();
  /** One read at a time: nobody waits for these. */
  #reading: Promise<void> = Promise.resolve();

  constructor({ api, storage, author }: { api: Api; storage: Storage; author: string }) {
    this.#api = api;
    this.#storage = storage;
    this.#key = keyOf(author);
  }

  /** Newest first. */
  get list(): ReadonlySignal<readonly EarlierConversation[]> {
    return this.#list;
  }

  /** Conversation id → its first question, as far as it was read. */
  get questions(): ReadonlySignal<ReadonlyMap<string, string>> {
    return this.#questions;
  }

  async restore(): Promise<void> {
    this.#list.value = await this.#stored();
  }

  /** Something was asked in a conversation just now. */
  async note(id: string, question: string): Promise<void> {
    if (!this.#questions.value.has(id)) this.#learn(id, question);
    const at = new Date().toISOString();
    // another tab of this agent may have added its own
    await this.#keep([{ id, at }, ...(await this.#stored()).filter((other) => other.id !== id)].slice(0, LIMIT));
  }

  /** Take a conversation off this list; its records stay with the service. */
  async remove(id: string): Promise<void> {
    await this.#keep((await this.#stored()).filter((other) => other.id !== id));
  }

  async clear(): Promise<void> {
    await this.#keep([]);
  }

  /** Read the first question of a conversation, once. */
  async readQuestion({ id, at }: EarlierConversation): Promise<void> {
    if (this.#asked.has(id) || this.#questions.value.has(id)) return;
    this.#asked.add(id);
    this.#reading = this.#reading.then(() => this.#read(id, at));
    await this.#reading;
  }

  async #read(id: string, at: string): Promise<void> {
    try {
      const { answers } = await this.#api.conversation(id);
      const question = answers[0]?.record.question;
      if (question !== undefined) this.#learn(id, question);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const isGone = error.problem.code === "not_found" && Date.now() - Date.parse(at) > NEW_MS;
      if (isGone) await this.remove(id);
      else this.#asked.delete(id);
    }
  }

  #learn(id: string, question: string): void {
    this.#questions.value = new Map(this.#questions.value).set(id, question);
  }

  async #stored(): Promise<readonly EarlierConversation[]> {
    const list = readStored(this.#storage, await this.#key);
    return Array.isArray(list) ? list.filter(isEarlier).slice(0, LIMIT) : [];
  }

  async #keep(list: readonly EarlierConversation[]): Promise<void> {
    this.#list.value = list;
    const key = await this.#key;
    if (list.length === 0) this.#storage.removeItem(key);
    else writeStored(this.#storage, key, list);
  }
}

async function keyOf(author: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(author));
  return KEY + Array.from(new Uint8Array(digest).slice(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function isEarlier(item: unknown): item is EarlierConversation {
  if (typeof item !== "object" || item === null) return false;
  return "id" in item && typeof item.id === "string" && "at" in item && typeof item.at === "string";
}
