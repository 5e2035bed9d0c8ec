/** What stands with an answer before its first word: emergencies, an approved answer, a section to read. */
import { useMemo } from "preact/hooks";
import { readMarkdown } from "../markdown.ts";
import { phoneIn } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { RedFlag } from "../wire.ts";
import { linkTargets } from "./answer_text.tsx";
import { Citations } from "./citations.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Quote } from "./findings.tsx";
import { Icon } from "./icons.tsx";
import { Markdown } from "./markdown_view.tsx";

/** Above the answer, never in place of it. */
export function RedFlags({ flags }: { flags: readonly RedFlag[] }) {
  if (flags.length === 0) return null;
  return (
    <div class="red-flags" role="alert">
      {flags.map(({ name, text, call }) => (
        <div key={name} class="notice bad">
          <Icon name="alert" />
          <div>
            <p class="red-flag-name">{name}</p>
            <p>{text === "" ? "The record of an answer keeps only the name. Ask again to see what to do." : text}</p>
            {call !== "" && <Call words={call} />}
          </div>
        </div>
      ))}
    </div>
  );
}

/** In the place of a red flag: the message's language is another. */
export function Unchecked() {
  return (
    <p class="notice warn" role="alert">
      <Icon name="alert" />
      <span>Red flags are checked in English only. Judge yourself whether this is an emergency.</span>
    </p>
  );
}

function Call({ words }: { words: string }) {
  const phone = phoneIn(words);
  const [before, after = ""] = phone === null ? [words] : [words.slice(0, phone.start), words.slice(phone.end)];
  return (
    <p>
      <strong>Call:</strong> {before}
      {phone !== null && <a href={phone.href}>{words.slice(phone.start, phone.end)}</a>}
      {after}
    </p>
  );
}

/** The agent decides whether it fits. */
export function Offered({ turn }: { turn: Turn }) {
  const workspace = useWorkspace();
  const { offered } = turn;
  const blocks = useMemo(
    () => readMarkdown(offered?.text ?? "", { links: linkTargets(turn.sources) }),
    [offered, turn.sources],
  );
  if (offered === null) return null;
  const take = () => {
    const editor = document.getElementById("reply");
    if (editor === null) workspace.focusNext = "reply";
    workspace.conversation.takeOffered(turn);
    editor?.focus();
  };
  return (
    <section class="offered" aria-labelledby="offered-title">
      <h3 id="offered-title">
        <Icon name="check" /> Approved answer to: {offered.question}
      </h3>
      <div class="markdown">
        <Markdown blocks={blocks} headingLevel={4} />
      </div>
      <p class="actions">
        <button type="button" id="use-offered" class="button" aria-keyshortcuts="Alt+Shift+U" onClick={take}>
          <Icon name="edit" /> Put into the reply
        </button>
        <Citations numbers={[offered.n]} turn={turn} />
      </p>
    </section>
  );
}

/** Open until the first word of the answer, which stands above it; then one line. What the agent did to it stays. */
export function DocumentSection({ turn }: { turn: Turn }) {
  const { section } = turn;
  if (section === null) return null;
  return (
    <details class="folded section" open={turn.text === "" && turn.finishReason !== "no_evidence"}>
      <summary id="section-line" aria-keyshortcuts="Alt+Shift+D">
        <Icon name="book" /> From the document: {section.title}
      </summary>
      <Quote quote={section} turn={turn} />
    </details>
  );
}
