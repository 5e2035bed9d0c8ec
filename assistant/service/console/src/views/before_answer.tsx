/** What stands with an answer before its first word: emergencies, an approved answer, a section to read. */
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { readMarkdown } from "../markdown.ts";
import { languageName, phoneIn } from "../text.ts";
import { type Turn, isUnsupported } from "../turn.ts";
import type { Loading, RedFlag } from "../wire.ts";
import { linkTargets } from "./answer_text.tsx";
import { Citations } from "./citations.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { Quote } from "./findings.tsx";
import { Icon } from "./icons.tsx";
import { Markdown } from "./markdown_view.tsx";

/** The one box above the answer, by weight: emergencies, then what limits the answer. Each is a line that opens. */
export function Above({ turn }: { turn: Turn }) {
  const limits = limitsOf(turn);
  const isEmergency = turn.redFlags.length > 0 || turn.uncheckedLanguage !== null;
  if (limits.length === 0 && !isEmergency) return null;
  return (
    <div class="above">
      {isEmergency && (
        <div role="alert">
          {turn.redFlags.map((flag, index) => (
            <Emergency key={flag.name} flag={flag} isOpen={index === 0} />
          ))}
          {turn.uncheckedLanguage !== null && <Unchecked turn={turn} language={languageName(turn.uncheckedLanguage)} />}
        </div>
      )}
      {limits.map((limit) => (
        <Line key={limit.title} {...limit} />
      ))}
    </div>
  );
}

/** Stands until the agent has read the message for an emergency, which nothing else has. */
function Unchecked({ turn, language }: { turn: Turn; language: string }) {
  const { conversation } = useWorkspace();
  const key = useRef<HTMLButtonElement>(null);
  // also where a model's reading takes the notice away: the focus goes on to the answer
  useLayoutEffect(
    () => () => {
      if (key.current === document.activeElement) document.getElementById("answer-title")?.focus();
    },
    [],
  );
  return (
    <div class="limit unchecked">
      <Icon name="alert" />
      <p>
        This message seems to be written in {language}. Emergencies are not checked in {language} here: read it
        yourself for an emergency.
      </p>
      <button ref={key} type="button" class="button" onClick={() => conversation.readForEmergency(turn)}>
        I have read it
      </button>
    </div>
  );
}

interface Limit {
  readonly title: string;
  readonly more?: string;
}

function Line({ title, more }: Limit) {
  const line = (
    <>
      <Icon name="alert" /> <span>{title}</span>
    </>
  );
  if (more === undefined) return <p class="limit">{line}</p>;
  return (
    <details class="limit">
      <summary>{line}</summary>
      <p>{more}</p>
    </details>
  );
}

/** What limits the answer as a whole, the heaviest first. */
function limitsOf(turn: Turn): Limit[] {
  const { certainty, unanswered, loading, degraded, mode } = turn.findings;
  const missing = turn.asked.filter(({ state }) => state === "late" || state === "failed");
  const limits: (Limit | false)[] = [
    turn.phase === "finished" && isUnsupported(turn) && { title: "No sentence of this answer is supported. Read the sources instead." },
    certainty === "possibly" && { title: "Not certain. Check before you send." },
    unanswered.length > 0 && { title: `Not answered: ${unanswered.map((question) => `“${question}”`).join(", ")}` },
    missing.length > 0 && {
      title: `${missing.map(({ name }) => name).join(", ")} did not answer`,
      more: "What would come from there is missing here.",
    },
    ...loading.map((one) => ({ title: loadingWords(one), more: "The answer may change." })),
    degraded.length > 0 && {
      title: "The service was busy: asked again, the answer may be better",
      more: `This answer was made without ${degraded.map((step) => step.replaceAll("_", " ")).join(", ")}.`,
    },
    turn.recordedModel !== null && mode !== "quoted" && { title: "Recorded answer, not live", more: turn.recordedModel },
  ];
  return limits.filter((limit) => limit !== false);
}

/** Which documents cannot answer. */
export function loadingWords({ reason, source, live, expected }: Loading): string {
  if (reason === "lost") return `The index lost documents: ${live} of ${expected} answer.`;
  return `Loading: ${live} of ${expected} documents of ${source}.`;
}

/** Above the answer, never in place of it. Closed, it still says whom to call. */
function Emergency({ flag: { name, text, call }, isOpen }: { flag: RedFlag; isOpen: boolean }) {
  return (
    <details class="emergency" open={isOpen}>
      <summary>
        <Icon name="alert" /> <span>{name}</span>
        {call !== "" && <span class="whom">Call: {call}</span>}
      </summary>
      <p>{text === "" ? "The record of an answer keeps only the name. Ask again to see what to do." : text}</p>
      {call !== "" && <Call words={call} />}
    </details>
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
        {workspace.guard !== undefined && (
          <button type="button" id="use-offered" class="button" aria-keyshortcuts="Alt+Shift+U" onClick={take}>
            <Icon name="edit" /> Put into the reply
          </button>
        )}
        <Citations numbers={[offered.n]} turn={turn} />
      </p>
    </section>
  );
}

/** Open until the first word of the answer, which stands above it; then one line. What the agent did to it stays. */
export function DocumentSection({ turn }: { turn: Turn }) {
  const section = turn.section ?? turn.preview;
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
