import { useRef, useState } from "preact/hooks";
import { announce } from "../announcer.ts";
import type { VerdictDraft } from "../marking.ts";
import { clockTime } from "../text.ts";
import type { Turn } from "../turn.ts";
import type { StoredVerdict, VerdictLabel } from "../wire.ts";
import { useWorkspace } from "./workspace_state.ts";
import { Failure, useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";
import { headingOf } from "./sources.tsx";

/** Stable reason → the agent's words. They are kept as they are and feed repair and tuning. */
const REASONS: Readonly<Record<VerdictLabel, Readonly<Record<string, string>>>> = {
  good: { correct: "Correct", complete: "Complete", clear: "Easy to understand" },
  bad: {
    wrong: "Wrong",
    outdated: "Out of date",
    incomplete: "Something is missing",
    not_asked: "Not what was asked",
    wrong_source: "Wrong source",
    unclear: "Hard to understand",
    unsafe: "Unsafe for the patient",
  },
};

function emptyDraft(label: VerdictLabel): VerdictDraft {
  return { label, reasons: [], betterText: "", wrongCitations: [] };
}

/** Good or bad, why, and what would have been better. Each saved verdict is added to those before it. */
export function VerdictForm({ turn }: { turn: Turn }) {
  const [draft, setDraft] = useState<VerdictDraft | null>(null);
  const latest = turn.verdicts.at(-1);
  const choose = (label: VerdictLabel) => {
    setDraft(draft?.label === label ? null : emptyDraft(label));
  };
  return (
    <section class="verdict" aria-labelledby="verdict-title">
      <h3 id="verdict-title">Was this answer good?</h3>
      <p class="actions">
        {(["good", "bad"] as const).map((label) => (
          <button
            key={label}
            type="button"
            id={`verdict-${label}`}
            class={`button toggle ${label}`}
            aria-pressed={draft?.label === label}
            onClick={() => choose(label)}
          >
            <Icon name={label === "good" ? "up" : "down"} /> {label === "good" ? "Good" : "Bad"}
          </button>
        ))}
      </p>
      {latest !== undefined && <Latest stored={latest} />}
      {draft !== null && (
        <Details
          key={draft.label}
          turn={turn}
          draft={draft}
          onChange={setDraft}
          onSaved={(saved) => setDraft((now) => (now === saved ? null : now))} // another draft stays
        />
      )}
    </section>
  );
}

function Latest({ stored: { at, verdict } }: { stored: StoredVerdict }) {
  const reasons = verdict.reasons.map((reason) => REASONS[verdict.label][reason] ?? reason);
  return (
    <p class="latest">
      <Icon name="check" /> Marked {verdict.label} at {clockTime(at)}
      {reasons.length > 0 && `: ${reasons.join(", ").toLowerCase()}`}. A new mark is added and counts from then on.
    </p>
  );
}

interface DetailsProps {
  readonly turn: Turn;
  readonly draft: VerdictDraft;
  readonly onChange: (draft: VerdictDraft | null) => void;
  readonly onSaved: (draft: VerdictDraft) => void;
}

function Details({ turn, draft, onChange, onSaved }: DetailsProps) {
  const form = useRef<HTMLFormElement>(null);
  const { conversation } = useWorkspace();
  const [isReasonMissing, setReasonMissing] = useState(false);
  const { isBusy, failure, run } = useCall("Not saved");
  /** Lead the focus on, unless the agent is in another part of the page by now. */
  const leave = () => {
    const { activeElement } = document;
    const isHere = activeElement === document.body || form.current?.contains(activeElement) === true;
    if (isHere) document.getElementById(`verdict-${draft.label}`)?.focus();
  };
  const save = async () => {
    const isMissing = draft.label === "bad" && draft.reasons.length === 0;
    setReasonMissing(isMissing);
    if (isMissing) {
      document.getElementById("reason-wrong")?.focus();
    } else if (await run(() => conversation.judge(turn, draft))) {
      announce(`Marked ${draft.label}`);
      leave();
      onSaved(draft);
    }
  };
  return (
    <form
      ref={form}
      class="details"
      onSubmit={(event) => {
        event.preventDefault();
        void save();
      }}
    >
      <Reasons draft={draft} onChange={onChange} isMissing={isReasonMissing} />
      {draft.label === "bad" && <WrongCitations turn={turn} draft={draft} onChange={onChange} />}
      {draft.label === "bad" && <BetterText turn={turn} draft={draft} onChange={onChange} />}
      {failure !== null && <Failure>{failure}</Failure>}
      <p class="actions">
        <button type="submit" class="button primary" disabled={isBusy}>
          {isBusy ? "Saving…" : "Save the mark"}
        </button>
        <button type="button" class="button quiet" onClick={() => (leave(), onChange(null))}>
          Cancel
        </button>
      </p>
    </form>
  );
}

interface PartProps {
  readonly draft: VerdictDraft;
  readonly onChange: (draft: VerdictDraft) => void;
}

function Reasons({ draft, onChange, isMissing }: PartProps & { isMissing: boolean }) {
  return (
    <fieldset aria-describedby={isMissing ? "reason-missing" : undefined}>
      <legend>{draft.label === "good" ? "Why? (optional)" : "Why?"}</legend>
      {isMissing && <Failure id="reason-missing">Choose at least one reason.</Failure>}
      <div class="checks">
        {Object.entries(REASONS[draft.label]).map(([reason, words]) => (
          <Check
            key={reason}
            id={`reason-${reason}`}
            isChecked={draft.reasons.includes(reason)}
            onToggle={() => onChange({ ...draft, reasons: toggled(draft.reasons, reason) })}
          >
            {words}
          </Check>
        ))}
      </div>
    </fieldset>
  );
}

function WrongCitations({ turn, draft, onChange }: PartProps & { turn: Turn }) {
  const cited = turn.sources.filter(({ n }) => turn.sentences.some(({ citations }) => citations.includes(n)));
  if (cited.length === 0) return null;
  return (
    <fieldset>
      <legend>Cited sources that do not fit (optional)</legend>
      <div class="checks">
        {cited.map((source) => (
          <Check
            key={source.n}
            id={`wrong-citation-${source.n}`}
            isChecked={draft.wrongCitations.includes(source.n)}
            onToggle={() => onChange({ ...draft, wrongCitations: toggled(draft.wrongCitations, source.n) })}
          >
            <span class="number">{source.n}</span> {[source.title, headingOf(source)].filter(Boolean).join(" › ")}
          </Check>
        ))}
      </div>
    </fieldset>
  );
}

function BetterText({ turn, draft, onChange }: PartProps & { turn: Turn }) {
  const { conversation } = useWorkspace();
  const edited = conversation.replies.value[turn.answerId ?? ""] ?? turn.sends.at(-1)?.sent.text;
  return (
    <div>
      <label for="better-text">A better answer (optional)</label>
      <textarea
        id="better-text"
        rows={2}
        value={draft.betterText}
        onInput={(event) => onChange({ ...draft, betterText: event.currentTarget.value })}
      />
      {edited !== undefined && edited.trim() !== "" && (
        <button type="button" class="link" onClick={() => onChange({ ...draft, betterText: conversation.betterText(turn, edited) })}>
          Take my edited reply
        </button>
      )}
    </div>
  );
}

interface CheckProps {
  readonly id: string;
  readonly isChecked: boolean;
  readonly onToggle: () => void;
  readonly children: preact.ComponentChildren;
}

function Check({ id, isChecked, onToggle, children }: CheckProps) {
  return (
    <label class="check" for={id}>
      <input id={id} type="checkbox" checked={isChecked} onChange={onToggle} /> <span>{children}</span>
    </label>
  );
}

function toggled<T>(items: readonly T[], item: T): readonly T[] {
  return items.includes(item) ? items.filter((other) => other !== item) : [...items, item];
}
