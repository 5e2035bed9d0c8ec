/** What the browser knows of its network, as far as an answer's connection needs it. */

/** Wait, but no longer than until the network comes or goes. Throws the signal's reason once it is aborted. */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      for (const name of ["online", "offline"]) removeEventListener(name, over);
      resolve();
    };
    const timer = setTimeout(over, milliseconds);
    signal.addEventListener("abort", over);
    for (const name of ["online", "offline"]) addEventListener(name, over);
  });
  signal.throwIfAborted();
}

/**
 * Run with a signal that is aborted when the network comes back: a connection from before is as good as dead,
 * and the browser may not find out for minutes.
 */
export async function untilNetworkChanges<T>(run: (changed: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const change = () => controller.abort();
  addEventListener("online", change);
  try {
    return await run(controller.signal);
  } finally {
    removeEventListener("online", change);
  }
}

export function isOffline(): boolean {
  return !navigator.onLine;
}
