import { useEffect, useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { EarlierConversation } from "../earlier.ts";
import { moment } from "../text.ts";
import { IS_WIDE, useWorkspace } from "./workspace_state.ts";
import { Icon } from "./icons.tsx";

/** The agent's own earlier conversations, newest first. */
export function EarlierList() {
  const { conversation, earlier } = useWorkspace();
  const [isOpen] = useState(() => matchMedia(IS_WIDE).matches);
  const others = earlier.list.value.filter(({ id }) => id !== conversation.id.value);
  if (others.length === 0) return null;
  const clear = async () => {
    await earlier.clear();
    announce("The list of earlier conversations is empty");
    document.getElementById("question")?.focus();
  };
  return (
    <details class="earlier" open={isOpen}>
      <summary>Earlier</summary>
      <ol class="earlier-list">
        {others.map((item) => (
          <EarlierItem key={item.id} item={item} />
        ))}
      </ol>
      <button type="button" class="link clear" onClick={() => void clear()}>
        Clear this list
      </button>
      <p class="hint">Only times are kept here; the texts stay with the service.</p>
    </details>
  );
}

function EarlierItem({ item }: { item: EarlierConversation }) {
  const { conversation, earlier } = useWorkspace();
  const place = useRef<HTMLLIElement>(null);
  const question = earlier.questions.value.get(item.id);
  const when = moment(item.at, new Date());
  useEffect(() => {
    if (place.current === null) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) void earlier.readQuestion(item);
    });
    observer.observe(place.current);
    return () => observer.disconnect();
  }, [item.id]);
  const open = async () => {
    announce("Opening an earlier conversation");
    const opening = conversation.openEarlier(item.id);
    document.getElementById("main")?.focus(); // now: by the time that it is open the agent may write a question
    const outcome = await opening;
    if (outcome === "open") announce("The conversation is open");
    if (outcome !== "gone") return;
    announce("This conversation is no longer kept");
    await earlier.remove(item.id);
  };
  const remove = async () => {
    const next = place.current?.nextElementSibling ?? place.current?.previousElementSibling;
    const heir = next?.querySelector<HTMLElement>(".turn-link") ?? document.getElementById("question");
    heir?.focus();
    await earlier.remove(item.id);
    announce("Removed from the list");
  };
  return (
    <li ref={place} class="earlier-item">
      <button type="button" class="turn-link" onClick={() => void open()}>
        {question !== undefined && <span class="turn-question">{question}</span>}
        <span class="turn-state">
          <Icon name="clock" /> {when}
        </span>
      </button>
      <button
        type="button"
        class="button quiet remove"
        aria-label={`Remove from this list: ${question ?? when}`}
        onClick={() => void remove()}
      >
        <Icon name="remove" />
      </button>
    </li>
  );
}
