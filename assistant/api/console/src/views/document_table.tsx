import { age, calendarDate } from "../text.ts";
import type { DocumentState, DocumentStatus } from "../wire.ts";
import { Icon, type IconName } from "./icons.tsx";
import { OriginalLink } from "./sources.tsx";

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

interface DocumentTableProps {
  readonly documents: readonly DocumentStatus[];
  readonly onWithdraw: (document: DocumentStatus) => void;
}

/**
 * A table that becomes a list of cards in a narrow window. The roles are written out, for a browser drops those
 * of elements that are no longer laid out as a table.
 */
export function DocumentTable({ documents, onWithdraw }: DocumentTableProps) {
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
          <DocumentRow key={document.document_id} document={document} onWithdraw={onWithdraw} />
        ))}
      </tbody>
    </table>
  );
}

function DocumentRow({ document, onWithdraw }: { document: DocumentStatus; onWithdraw: (d: DocumentStatus) => void }) {
  const [icon, tone] = LOOKS[document.state];
  return (
    <tr role="row">
      <th role="rowheader" scope="row">
        <span class="document-title">{document.title}</span>
        <span class="document-id">{document.document_id}</span>
        {document.labels !== null && document.labels.length > 0 && (
          <span class="hint">for {document.labels.join(", ")}</span>
        )}
        {document.failure_reason !== null && (
          <span class="failure">
            {document.failure_reason} {document.failure_code !== null && <span class="code">{document.failure_code}</span>}
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
        {document.state !== "withdrawn" && (
          <button type="button" class="button small" onClick={() => onWithdraw(document)}>
            Withdraw<span class="visually-hidden"> {document.title}</span>
          </button>
        )}
      </td>
    </tr>
  );
}

function Age({ document }: { document: DocumentStatus }) {
  return (
    <>
      {document.effective_date !== null && <AgeLine name="Effective" at={document.effective_date} />}
      <AgeLine name="Received" at={document.received_at} />
    </>
  );
}

function AgeLine({ name, at }: { name: string; at: string }) {
  return (
    <span class="age">
      {name} {age(at, new Date())} <span class="hint">{calendarDate(at)}</span>
    </span>
  );
}
