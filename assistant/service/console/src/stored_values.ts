/** Values as JSON in a browser's storage, which may be full or hold anything. */

/** The value under a key; null where there is none that can be read. */
export function readStored(storage: Storage, key: string): unknown {
  try {
    return JSON.parse(storage.getItem(key) ?? "null");
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Does nothing when the browser's quota is full: the page goes on, and keeps the value in its memory alone. */
export function writeStored(storage: Storage, key: string, value: object): void {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
}
