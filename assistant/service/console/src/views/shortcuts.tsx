import { useLayoutEffect, useRef } from "preact/hooks";

import type { Page } from "../options.ts";

const REPLY_KEYS = ["Alt + Shift + U", "Alt + Shift + E", "Ctrl + Enter"];
export const ANSWER_KEYS: readonly (readonly [string, string])[] = [
  ["Enter", "ask the question"],
  ["Alt + Enter", "ask as a follow-up to this answer"],
  ["Shift + Enter", "new line in the question"],
  ["Alt + Shift + Q", "go to the question box"],
  ["Alt + Shift + A", "go to the answer"],
  ["Alt + Shift + C", "open the source of the next sentence to check"],
  ["Alt + Shift + D", "open or fold the document’s section below the answer"],
  ["Alt + Shift + O", "open or fold what other documents say"],
  ["Alt + Shift + U", "put the approved answer into the reply"],
  ["Alt + Shift + E", "edit the answer as a reply"],
  ["Alt + Shift + S", "stop the answer"],
  ["Alt + Shift + N", "new question, in a fresh conversation"],
  ["Ctrl + Enter", "record the reply you are editing as sent"],
  ["Escape", "close the source, the preview or a dialog"],
];
/** Those of a tenant whose agents send no replies. */
export const KEYS_WITHOUT_REPLIES = ANSWER_KEYS.filter(([keys]) => !REPLY_KEYS.includes(keys));

/** Agents are workers: the page names what is kept of their work, and the purpose. */
export const PURPOSE = "Marks, replies, edits and opened sources are kept to improve the answers.";
const KEPT =
  "Better texts, questions asked again in other words and answers passed over are kept as well, all as far as your " +
  "company’s settings allow. Outside an answer’s own record they carry a pseudonym instead of your name.";

/** Run the action of Alt + Shift + a key, by its place on the keyboard, and `onEscape`. Returns what ends it. */
export function listenForKeys(
  actions: Record<string, () => void>,
  onEscape: (event: KeyboardEvent) => void,
): () => void {
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Escape") return onEscape(event);
    const action = event.altKey && event.shiftKey ? actions[event.code] : undefined;
    if (action === undefined) return;
    event.preventDefault();
    action();
  };
  addEventListener("keydown", onKey);
  return () => removeEventListener("keydown", onKey);
}

/** A list of the keys, as a modal dialog: the browser keeps the focus in it and gives it back. */
export function Shortcuts({ page, onClose }: { page: Page | null; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useRef<HTMLHeadingElement>(null);
  useLayoutEffect(() => {
    dialog.current?.showModal();
    title.current?.focus(); // the list is read from its top, not from its button
  }, []);
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="shortcuts-title" onClose={onClose}>
      <h2 id="shortcuts-title" ref={title} tabIndex={-1}>Keyboard</h2>
      <dl class="keys">
        {(page?.keys ?? ANSWER_KEYS).map(([keys, meaning]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{meaning}</dd>
          </div>
        ))}
      </dl>
      <h3>What is kept</h3>
      <p class="hint">
        {PURPOSE} {KEPT}
      </p>
      <p class="dialog-actions">
        <button type="button" class="button primary" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}
