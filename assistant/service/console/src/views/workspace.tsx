import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { Api } from "../api.ts";
import type { Guard } from "../config.ts";
import type { Conversation } from "../conversation.ts";
import type { Earlier } from "../earlier.ts";
import type { Host, Joined } from "../options.ts";
import { type Turn, canJudge } from "../turn.ts";
import { Composer } from "./composer.tsx";
import { CitationPreview } from "./citation_preview.tsx";
import { type Place, WorkspaceContext, WorkspaceState, useWorkspace } from "./workspace_state.ts";
import { EarlierList } from "./earlier_list.tsx";
import { Icon } from "./icons.tsx";
import { ReplyActions } from "./reply.tsx";
import { PURPOSE, listenForKeys } from "./shortcuts.tsx";
import { SourcePanel } from "./source_panel.tsx";
import { Sources } from "./sources.tsx";
import { TurnList, beginAnew } from "./turn_list.tsx";
import { TurnView } from "./turn_view.tsx";
import { VerdictForm } from "./verdict_form.tsx";
import { Welcome } from "./welcome.tsx";

interface WorkspaceProps {
  readonly api: Api;
  readonly conversation: Conversation;
  readonly earlier: Earlier;
  readonly joined: readonly Joined[];
  readonly host: Host | null;
  readonly delivers: boolean;
  readonly writes: boolean;
  readonly checks: boolean;
  readonly guard?: Guard | undefined;
}

/** Where an agent asks, reads, edits and judges: one turn at a time. */
export function Workspace({ api, conversation, earlier, joined, host, delivers, writes, checks, guard }: WorkspaceProps) {
  const workspace = useMemo(
    () => new WorkspaceState({ api, conversation, earlier, joined, host, delivers, writes, checks, guard }),
    [api, conversation, earlier, joined, host, delivers, writes, checks, guard],
  );
  const turn = conversation.selected.value;
  const open = workspace.open.value;
  useKeys(workspace);
  // another turn: what was looked at belongs to the one before
  useLayoutEffect(() => workspace.turnAway(), [conversation.selectedKey.value]);
  // a turn that was read from the service has its answer's id for a key: nothing of it comes just now
  useLayoutEffect(() => {
    if (turn !== null && turn.key !== turn.answerId) workspace.openBeside(turn);
  }, [turn]);
  useFocusBack(workspace);
  useLayoutEffect(() => {
    if (workspace.focusNext === null || workspace.place.value !== "answer") return;
    const part = document.getElementById(workspace.focusNext);
    if (part !== null) workspace.focusNext = null;
    part?.focus();
  }, [workspace.place.value, open]);
  useConnectionWords(conversation);
  return (
    <WorkspaceContext.Provider value={workspace}>
      <main id="main" tabIndex={-1} class={layoutOf(workspace)}>
        <nav class="turns" aria-label="Conversations">
          <TurnList />
          <EarlierList />
          <p class="hint purpose">{PURPOSE}</p>
        </nav>
        <div class="answer-column">
          {/* The browser scrolls it by keyboard: it must be reachable though nothing in it may be a control. */}
          <section class="sheet" aria-label="Answer" tabIndex={0}>
            <RestoreProblem conversation={conversation} />
            {turn === null ? <Welcome /> : <TurnView key={turn.key} turn={turn} />}
          </section>
          {turn !== null && canJudge(turn) && <Dock key={turn.key} turn={turn} />}
          {joined.map(({ aboveComposer }) => aboveComposer?.())}
          <Composer />
        </div>
        <Sources turn={turn} isHidden={open !== null} />
        {open !== null && <SourcePanel key={`${open.turnKey} ${open.n}`} open={open} />}
        <Places turn={turn} />
        <CitationPreview turn={turn} />
      </main>
    </WorkspaceContext.Provider>
  );
}

/** Which parts of the page are there; a narrow window shows one of them. */
function layoutOf({ open, place }: WorkspaceState): string {
  const panel = open.value === null ? "" : " has-panel";
  return `workspace shows-${place.value}${panel}`;
}

/** What an agent does with an answer, in view however long it is. */
function Dock({ turn }: { turn: Turn }) {
  return (
    <div class="dock">
      <ReplyActions turn={turn} />
      <VerdictForm turn={turn} />
    </div>
  );
}

/** The way between answer and sources where the window has room for one of them. */
function Places({ turn }: { turn: Turn | null }) {
  const workspace = useWorkspace();
  const current = workspace.open.value === null ? workspace.place.value : "sources";
  const go = (place: Place) => {
    workspace.goTo(place);
    document.getElementById("main")?.focus();
    scrollTo(0, 0);
  };
  const names = { answer: "Answer", sources: `Sources (${turn?.sources.length ?? 0})` };
  return (
    <nav class="places" aria-label="Parts of the page">
      {(["answer", "sources"] as const).map((place) => (
        <button
          key={place}
          type="button"
          id={`place-${place}`}
          class="place"
          aria-current={place === current ? "true" : undefined}
          onClick={() => go(place)}
        >
          <Icon name={place === "answer" ? "edit" : "book"} /> {names[place]}
        </button>
      ))}
    </nav>
  );
}

/** Give the focus back to what opened a source, before anybody can press a key elsewhere. */
function useFocusBack(workspace: WorkspaceState): void {
  const opener = workspace.opener.value;
  useLayoutEffect(() => {
    if (opener === null) return;
    (opener.isConnected ? opener : document.getElementById("main"))?.focus();
    workspace.opener.value = null;
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
function useKeys(workspace: WorkspaceState): void {
  useLayoutEffect(() => {
    const { conversation } = workspace;
    const focus = (id: string) => {
      turnToAnswer(workspace, id);
      document.getElementById(id)?.focus();
    };
    const unfold = (id: string) => {
      document.getElementById(id)?.click();
      focus(id);
    };
    const actions: Record<string, () => void> = {
      KeyQ: () => focus("question"),
      KeyA: () => focus("answer-title"),
      KeyE: () => {
        turnToAnswer(workspace, "reply");
        document.getElementById("edit-reply")?.click();
        document.getElementById("reply")?.focus(); // it is open already
      },
      KeyU: () => {
        const button = document.getElementById("use-offered");
        if (button !== null) turnToAnswer(workspace, "reply");
        button?.click();
      },
      KeyD: () => unfold("section-line"),
      KeyO: () => unfold("also-line"),
      KeyC: () => openNextToCheck(workspace),
      KeyS: () => conversation.stop(),
      KeyN: () => {
        beginAnew(conversation);
        focus("question");
      },
    };
    return listenForKeys(actions, (event) => closeTopmost(workspace, event));
  }, [workspace]);
}

/** A narrow window that shows the sources turns to the answer; the focus goes to a part of it once that is seen. */
function turnToAnswer(workspace: WorkspaceState, id: string): void {
  if (document.querySelector(".answer-column")?.getClientRects().length !== 0) return;
  workspace.focusNext = id;
  workspace.goTo("answer");
}

/** Open the source of the next sentence that the agent must check; after the last one the first. */
function openNextToCheck({ open }: WorkspaceState): void {
  const sources = [...document.querySelectorAll<HTMLElement>(".sentence.unsupported > .citation:first-of-type")];
  const opener = open.peek()?.opener;
  const before = sources.findIndex((source) => source === opener);
  sources[(before + 1) % sources.length]?.click();
}

function closeTopmost(workspace: WorkspaceState, event: KeyboardEvent): void {
  if (event.defaultPrevented || document.querySelector("dialog[open]") !== null) return;
  if (workspace.preview.value !== null) workspace.preview.value = null;
  else if (workspace.open.value !== null) workspace.close();
}
