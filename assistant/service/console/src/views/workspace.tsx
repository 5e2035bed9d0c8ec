import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import type { Conversation } from "../conversation.ts";
import { Composer } from "./composer.tsx";
import { Desk, DeskContext } from "./desk.ts";
import { CitationPreview } from "./citation_preview.tsx";
import { Icon } from "./icons.tsx";
import { SourcePanel } from "./source_panel.tsx";
import { Sources } from "./sources.tsx";
import { TurnList } from "./turn_list.tsx";
import { TurnView } from "./turn_view.tsx";

/** Where an agent asks, reads, edits and judges: one turn at a time. */
export function Workspace({ api, conversation }: { api: Api; conversation: Conversation }) {
  const desk = useMemo(() => new Desk({ api, conversation }), [api, conversation]);
  const turn = conversation.selected.value;
  const open = desk.open.value;
  useKeys(desk);
  // another turn: what was looked at belongs to the one before
  useLayoutEffect(() => desk.turnAway(), [conversation.selectedKey.value]);
  useFocusBack(desk);
  useConnectionWords(conversation);
  return (
    <DeskContext.Provider value={desk}>
      <main id="main" tabIndex={-1} class={open === null ? "workspace" : "workspace has-panel"}>
        <TurnList />
        <div class="desk">
          {/* The browser scrolls it by keyboard: it must be reachable though nothing in it may be a control. */}
          <section class="sheet" aria-label="Answer" tabIndex={0}>
            <RestoreProblem conversation={conversation} />
            {turn === null ? <Welcome /> : <TurnView key={turn.key} turn={turn} />}
          </section>
          <Composer />
        </div>
        <Sources turn={turn} isHidden={open !== null} />
        {open !== null && <SourcePanel key={`${open.turnKey} ${open.n}`} open={open} />}
        <CitationPreview turn={turn} />
      </main>
    </DeskContext.Provider>
  );
}

/** Give the focus back to what opened a source, before anybody can press a key elsewhere. */
function useFocusBack(desk: Desk): void {
  const opener = desk.opener.value;
  useLayoutEffect(() => {
    if (opener === null) return;
    (opener.isConnected ? opener : document.getElementById("main"))?.focus();
    desk.opener.value = null;
  }, [opener]);
}

/** Say that the connection is lost, and that it is back. */
function useConnectionWords(conversation: Conversation): void {
  const wasLost = useRef(false);
  const isLost = conversation.isLost.value;
  useLayoutEffect(() => {
    if (isLost) announce("Connection lost, coming back");
    else if (wasLost.current && conversation.underway.peek() !== null) announce("Connected again, the answer goes on");
    wasLost.current = isLost;
  }, [isLost]);
}

function Welcome() {
  return (
    <div class="welcome">
      <h2 class="title">Ask the knowledge base</h2>
      <p>
        The answer is written from your own documents, with a source for each sentence. Where they are silent, it says
        so. You read it, edit it, and send it on.
      </p>
    </div>
  );
}

function RestoreProblem({ conversation }: { conversation: Conversation }) {
  const problem = conversation.restoreProblem.value;
  if (problem === null) return null;
  return (
    <div class="notice bad" role="alert">
      <Icon name="alert" />
      <span>The conversation could not be restored: {problem.detail}</span>
      <button type="button" class="button" onClick={() => void conversation.reload()}>
        <Icon name="retry" /> Try again
      </button>
    </div>
  );
}

/** Alt + Shift + a letter: free in the browsers, and by place on the keyboard, so that no layout loses one. */
function useKeys(desk: Desk): void {
  useLayoutEffect(() => {
    const { conversation } = desk;
    const focus = (id: string) => document.getElementById(id)?.focus();
    const actions: Record<string, () => void> = {
      KeyQ: () => focus("question"),
      KeyA: () => focus("answer-title"),
      KeyE: () => document.getElementById("edit-reply")?.click(),
      KeyS: () => conversation.stop(),
      KeyN: () => {
        conversation.begin();
        focus("question");
        announce("New conversation");
      },
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape") return closeTopmost(desk, event);
      const action = event.altKey && event.shiftKey ? actions[event.code] : undefined;
      if (action === undefined) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [desk]);
}

function closeTopmost(desk: Desk, event: KeyboardEvent): void {
  if (event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
  if (desk.preview.value !== null) desk.preview.value = null;
  else if (desk.open.value !== null) desk.close();
}
