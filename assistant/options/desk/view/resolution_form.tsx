import { announce } from "@console/announcer.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { focusCase, useReview } from "./context.ts";
import { type ResolutionDraft, missingIn } from "./drafts.ts";
import { refusalWords } from "./review.ts";
import type { DeskCase, ResolutionKind } from "./wire.ts";
import { RESOLUTIONS } from "./words.ts";

/** The second correction of a case says that the first one is done. */
const CORRECTED = "The owner has corrected it";

interface FormProps {
  readonly detail: DeskCase;
  readonly draft: ResolutionDraft;
  readonly onChange: (change: Partial<ResolutionDraft>) => void;
}

/** How the case is resolved. Whatever is typed is kept in the tab until it is saved or discarded. */
export function ResolutionForm({ detail }: { detail: DeskCase }) {
  const review = useReview();
  const draft = review.draftOf(detail);
  const { isBusy, failure, setFailure, run } = useCall(refusalWords);
  const isTyped = review.drafts.value[detail.case_id] !== undefined;
  const change = (part: Partial<ResolutionDraft>) => review.setDraft(detail.case_id, { ...draft, ...part });
  const submit = async () => {
    const missing = missingIn(draft);
    if (missing !== null) {
      setFailure(missing.words);
      document.getElementById(missing.field)?.focus();
    } else if (await run(() => review.resolve(detail))) {
      announce("Saved");
      focusCase(review, detail.case_id);
    }
  };
  return (
    <form
      class="resolve"
      aria-labelledby="resolve-title"
      onKeyDown={(event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void submit();
      }}
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      <h4 id="resolve-title">Resolve</h4>
      <Kinds detail={detail} draft={draft} onChange={change} />
      <Fields detail={detail} draft={draft} onChange={change} />
      {failure !== null && <Failure id="resolve-failure">{failure}</Failure>}
      <p class="actions">
        <button type="submit" class="button primary" disabled={isBusy} aria-describedby={failure === null ? undefined : "resolve-failure"}>
          <Icon name="check" /> {isBusy ? "Saving…" : "Save the resolution"}
        </button>
        {isTyped && (
          <button type="button" class="button quiet" disabled={isBusy} onClick={() => review.setDraft(detail.case_id, null)}>
            Discard what I typed
          </button>
        )}
      </p>
    </form>
  );
}

function Kinds({ detail, draft, onChange }: FormProps) {
  const isOwnerAsked = detail.case.state === "asked_owner";
  return (
    <fieldset class="kinds">
      <legend class="visually-hidden">How to resolve it</legend>
      {(Object.keys(RESOLUTIONS) as ResolutionKind[]).map((kind) => (
        <label key={kind} for={`kind-${kind}`} class={kind === draft.kind ? "kind is-chosen" : "kind"}>
          <input
            id={`kind-${kind}`}
            type="radio"
            name="resolution-kind"
            checked={kind === draft.kind}
            onChange={() => onChange({ kind })}
          />
          <span>
            {kind === "correction" && isOwnerAsked ? CORRECTED : RESOLUTIONS[kind].name}{" "}
            <span class="hint">{RESOLUTIONS[kind].hint}</span>
          </span>
        </label>
      ))}
    </fieldset>
  );
}

function Fields(props: FormProps) {
  switch (props.draft.kind) {
    case null:
      return null;
    case "approved_answer":
      return <ApprovedFields {...props} />;
    case "glossary_entry":
      return <GlossaryFields {...props} />;
    case "correction":
      return props.detail.case.state === "asked_owner" ? (
        <NoteField label="What was corrected" {...props} />
      ) : (
        <NoteField label="What is wrong, for the document’s owner" {...props} />
      );
    case "dismissed":
      return <NoteField label="Why nothing is to be done" {...props} />;
  }
}

function ApprovedFields({ detail, draft, onChange }: FormProps) {
  const { reviewer } = useReview();
  return (
    <>
      <Area
        id="approved-questions"
        label="Question, and its other wordings (one a line)"
        value={draft.questions}
        onChange={(questions) => onChange({ questions })}
      />
      <Area
        id="approved-text"
        label="Answer, quoted as it stands"
        rows={6}
        value={draft.text}
        onChange={(text) => onChange({ text })}
      />
      {draft.text === "" && detail.shown !== "" && (
        <button type="button" class="link" onClick={() => onChange({ text: detail.shown })}>
          Begin with the answer that was shown
        </button>
      )}
      <Documents detail={detail} draft={draft} onChange={onChange} />
      <p class="field-row">
        <label for="approved-expiry">Expires on</label>
        <input
          id="approved-expiry"
          type="date"
          value={draft.expiresOn}
          onInput={(event) => onChange({ expiresOn: event.currentTarget.value })}
        />
        <span class="hint">Owner: {reviewer}</span>
      </p>
      <NoteField label="Note (optional)" detail={detail} draft={draft} onChange={onChange} />
    </>
  );
}

/** The answer rests on these documents: it is suspended when one of them changes. */
function Documents({ detail, draft, onChange }: FormProps) {
  const documents = documentsOf(detail);
  if (documents.length === 0) return null;
  const toggle = (id: string) => {
    const { documentIds } = draft;
    onChange({ documentIds: documentIds.includes(id) ? documentIds.filter((other) => other !== id) : [...documentIds, id] });
  };
  return (
    <fieldset>
      <legend>Rests on (it is suspended when one of them changes)</legend>
      <div class="checks">
        {documents.map(([id, title]) => (
          <label key={id} class="check" for={`rests-on-${id}`}>
            <input
              id={`rests-on-${id}`}
              type="checkbox"
              checked={draft.documentIds.includes(id)}
              onChange={() => toggle(id)}
            />{" "}
            <span>{title}</span>
          </label>
        ))}
      </div>
    </fieldset>
  );
}

function GlossaryFields({ detail, draft, onChange }: FormProps) {
  const fields = [
    ["glossary-said", "Callers say", draft.said, (said: string) => onChange({ said })],
    ["glossary-means", "Documents say", draft.means, (means: string) => onChange({ means })],
  ] as const;
  return (
    <>
      {fields.map(([id, label, value, change]) => (
        <p key={id} class="field-row">
          <label for={id}>{label}</label>
          <input id={id} type="text" maxLength={200} value={value} onInput={(event) => change(event.currentTarget.value)} />
        </p>
      ))}
      <NoteField label="Note (optional)" detail={detail} draft={draft} onChange={onChange} />
    </>
  );
}

function NoteField({ label, draft, onChange }: FormProps & { label: string }) {
  return <Area id="resolution-note" label={label} value={draft.note} onChange={(note) => onChange({ note })} />;
}

interface AreaProps {
  readonly id: string;
  readonly label: string;
  readonly rows?: number;
  readonly value: string;
  readonly onChange: (value: string) => void;
}

function Area({ id, label, rows = 2, value, onChange }: AreaProps) {
  return (
    <div>
      <label for={id}>{label}</label>
      <textarea id={id} rows={rows} value={value} onInput={(event) => onChange(event.currentTarget.value)} />
    </div>
  );
}

/** The case's documents by id and title: those of its sources first, for they have titles. */
function documentsOf({ case: { documents }, sources }: DeskCase): (readonly [string, string])[] {
  const titles = new Map(sources.map(({ document_id, title }) => [document_id, title]));
  for (const id of documents) if (!titles.has(id)) titles.set(id, id);
  return [...titles];
}
