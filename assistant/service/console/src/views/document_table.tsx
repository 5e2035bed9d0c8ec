import { age, calendarDate } from "../text.ts";
import type { Picked } from "../uploads.ts";
import type { DocumentState, DocumentStatus } from "../wire.ts";
import { Icon, type IconName } from "./icons.tsx";
import { OriginalLink } from "./sources.tsx";
import { FileButton } from "./upload_panel.tsx";

const LOOKS: Readonly<Record<DocumentState, readonly [IconName, "plain" | "good" | "warn" | "bad"]>> = {
  received: ["clock", "plain"],
  parsed: ["clock", "plain"],
  embedded: ["clock", "plain"],
  live: ["check", "good"],
  failed: ["alert", "bad"],
  stale: ["alert", "warn"],
  withheld: ["stop", "bad"],
  withdrawn: ["stop", "plain"],
};

/** States that a document leaves by itself: what shows it follows. */
export const MOVING: readonly DocumentState[] = ["received", "parsed", "embedded"];
export const FOLLOW_MS = 2_000;
/** The code of a document that waits for a second person. */
export const RELEASE_NEEDED = "release_needed";

export interface DocumentActs {
  /** Who is signed in. */
  readonly agent: string;
  readonly onWithdraw: (document: DocumentStatus) => void;
  readonly onDetails: (document: DocumentStatus) => void;
  readonly onReplace: (document: DocumentStatus, picked: readonly Picked[]) => void;
  readonly onRelease: (document: DocumentStatus) => void;
}

interface DocumentTableProps {
  readonly documents: readonly DocumentStatus[];
  readonly acts: DocumentActs;
}

/**
 * A table that becomes a list of cards in a narrow window. The roles are written out, for a browser drops those
 * of elements that are no longer laid out as a table.
 */
export function DocumentTable({ documents, acts }: DocumentTableProps) {
  return (
    <table class="documents" role="table" aria-label="Documents">
      <thead role="rowgroup">
        <tr role="row">
          {["Document", "State", "Age", "Owner", "Source", "Action"].map((name) => (
            <th key={name} role="columnheader" scope="col">
              {name === "Action" ? <span class="visually-hidden">{name}</span> : name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {documents.map((document) => (
          <DocumentRow key={document.document_id} document={document} acts={acts} />
        ))}
      </tbody>
    </table>
  );
}

function DocumentRow({ document, acts }: { document: DocumentStatus; acts: DocumentActs }) {
  const [icon, tone] = LOOKS[document.state];
  return (
    <tr role="row">
      <th role="rowheader" scope="row">
        <span class="document-title">{document.title}</span>
        <span class="document-id">{document.document_id}</span>
        {document.labels !== null && <span class="hint">for {readers(document.labels)}</span>}
        {document.in_force_note !== undefined && <span class="hint">{document.in_force_note}</span>}
        {document.failure_reason !== null && (
          <span class="failure">
            {reason(document, acts.agent)} {document.failure_code !== null && <span class="code">{document.failure_code}</span>}
          </span>
        )}
      </th>
      <td role="cell" data-name="State">
        <span class={`badge ${tone}`}>
          <Icon name={icon} /> {document.state}
        </span>
      </td>
      <td role="cell" data-name="Age">
        <Age document={document} />
      </td>
      <td role="cell" data-name="Owner">
        {document.owner ?? "–"}
      </td>
      <td role="cell" data-name="Source">
        {document.knowledge_source} {document.source !== "" && <span class="hint">{document.source}</span>}{" "}
        <OriginalLink url={document.url} title={document.title} />
      </td>
      <td role="cell" class="row-action">
        <RowButton name="Details" document={document} onPress={acts.onDetails} />
        {document.state !== "withdrawn" && (
          <>
            <FileButton name="Replace" about={document.title} isSmall isMany={false} onPick={(picked) => acts.onReplace(document, picked)} />
            <RowButton name="Withdraw" document={document} onPress={acts.onWithdraw} />
          </>
        )}
        {document.failure_code === RELEASE_NEEDED && document.brought_by !== acts.agent && (
          <RowButton name="Release" document={document} onPress={acts.onRelease} />
        )}
      </td>
    </tr>
  );
}

/** Who may read what has these labels. */
export function readers(labels: readonly string[]): string {
  return labels.length === 0 ? "every agent" : labels.join(", ");
}

function reason({ failure_code, failure_reason, brought_by }: DocumentStatus, agent: string): string | null {
  if (failure_code !== RELEASE_NEEDED) return failure_reason;
  return brought_by === agent ? "You added it: another person must release it." : `${brought_by} added it: you can release it.`;
}

interface RowButtonProps {
  readonly name: string;
  readonly document: DocumentStatus;
  readonly onPress: (document: DocumentStatus) => void;
}

function RowButton({ name, document, onPress }: RowButtonProps) {
  return (
    <button type="button" class="button small" onClick={() => onPress(document)}>
      {name}
      <span class="visually-hidden"> {document.title}</span>
    </button>
  );
}

function Age({ document }: { document: DocumentStatus }) {
  return (
    <>
      {document.effective_date !== null && <AgeLine name="Effective" at={document.effective_date} />}
      <AgeLine name="Received" at={document.received_at} />
      {document.review_after != null && <AgeLine name="Review due" at={document.review_after} isDue={new Date(document.review_after) <= new Date()} />}
    </>
  );
}

function AgeLine({ name, at, isDue = false }: { name: string; at: string; isDue?: boolean }) {
  return (
    <span class={isDue ? "age due" : "age"}>
      {name} {age(at, new Date())} <span class="hint">{calendarDate(at)}</span>
    </span>
  );
}
