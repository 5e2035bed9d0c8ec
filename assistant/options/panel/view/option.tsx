/** What the panel brings to the console inside it: the chat that the page handed over. */
import type { Host, Option } from "@console/options.ts";
import { announce } from "@console/announcer.ts";
import { count } from "@console/text.ts";
import { summary } from "@console/views/composer.tsx";
import { Icon } from "@console/views/icons.tsx";
import { useWorkspace } from "@console/views/workspace_state.ts";

export const OPTION: Option = ({ host }) => (host === null ? {} : { aboveComposer: () => <ChatBar host={host} /> });

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
