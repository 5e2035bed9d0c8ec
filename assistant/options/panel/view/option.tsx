/**
 * What the panel brings to the console: the note of the open conversation; inside a page that holds it, the chat that
 * the page handed over, and emergencies and one suggestion at most, of that chat.
 */
import type { Host, Option } from "@console/options.ts";
import { announce } from "@console/announcer.ts";
import { count } from "@console/text.ts";
import { summary } from "@console/views/composer.tsx";
import { Icon } from "@console/views/icons.tsx";
import { useWorkspace } from "@console/views/workspace_state.ts";
import "./note.css";
import { NoteKey } from "./note_key.tsx";
import { Suggesting } from "./suggesting.ts";
import { SuggestionBar } from "./suggestion_bar.tsx";

export const OPTION: Option = ({ api, host }) => {
  if (host === null) return { aboveComposer: () => <NoteKey api={api} /> };
  const suggesting = new Suggesting(api);
  return {
    aboveComposer: () => (
      <>
        <NoteKey api={api} />
        <ChatBar host={host} />
        <SuggestionBar suggesting={suggesting} />
      </>
    ),
    listen: () => {
      let number: number | undefined;
      let read = "";
      return host.chat.subscribe((chat) => {
        const turns = chat?.turns ?? [];
        const isOther = chat?.number !== number;
        if (isOther) suggesting.dismiss(); // nothing of the chat before stays
        else if (JSON.stringify(turns) === read) return; // a new context alone says nothing new
        [number, read] = [chat?.number, JSON.stringify(turns)];
        void suggesting.follow(turns);
      });
    },
    forget: () => suggesting.dismiss(),
  };
};

function ChatBar({ host }: { host: Host }) {
  const { conversation } = useWorkspace();
  const chat = host.chat.value;
  if (chat === null) return null;
  const { ticket, turns } = chat;
  const ask = async () => {
    announce("Looking through the knowledge base");
    const turn = await conversation.askChat(turns);
    if (turn !== null) announce(summary(turn));
  };
  return (
    <p class="chat-bar">
      <span>
        <strong>{ticket}</strong>
        {turns.length > 0 && `, ${count(turns.length, "message")}`}
      </span>
      {turns.some(({ who }) => who === "customer") && (
        <button type="button" class="button primary" disabled={conversation.underway.value !== null} onClick={() => void ask()}>
          <Icon name="send" /> Answer the customer
        </button>
      )}
    </p>
  );
}
