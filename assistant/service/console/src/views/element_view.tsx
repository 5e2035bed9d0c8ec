/** An element in its present state. Its data are untrusted: they become text, and links only by `safeHref`. */
import type { ComponentChildren } from "preact";
import { sourceAndTime, wordsOf } from "../elements.ts";
import { safeHref } from "../text.ts";
import type { Turn } from "../turn.ts";
import { isRunning } from "../turn.ts";
import type { Element, ElementRow, ElementValue } from "../wire.ts";
import { Citations } from "./citations.tsx";
import { useWorkspace } from "./workspace_state.ts";
import { useCall } from "./failure.tsx";
import { Icon } from "./icons.tsx";

interface ElementProps {
  readonly element: Element;
  readonly turn: Turn;
}

/** A status, link or card where the text has its place. It is made of spans, for it may stand inside a paragraph. */
export function InlineElement({ element, turn }: ElementProps) {
  const form = element.kind === "card" ? "is-card" : "is-line";
  return (
    <span class={`element ${form} ${element.state}`} role="group" aria-label={nameOf(element)} data-element={element.id}>
      <InlineState element={element} turn={turn} />
    </span>
  );
}

function InlineState({ element, turn }: ElementProps) {
  if (element.state === "pending") return <Pending element={element} />;
  if (element.state !== "ready" || element.data === null) return <NotShown element={element} turn={turn} />;
  return (
    <>
      {element.kind === "card" && <CardHead element={element} />}
      <Values element={element} turn={turn} />
      {element.kind === "link" && <ElementLink element={element} />}
      <Origin element={element} />
    </>
  );
}

function CardHead({ element }: { element: Element }) {
  return (
    <span class="element-title">
      {element.title}
      {element.about !== "" && <span class="hint"> {element.about}</span>}
    </span>
  );
}

function Values({ element, turn }: ElementProps) {
  const isCard = element.kind === "card";
  return (
    <span class="element-values">
      {(element.data?.values ?? []).map((value) => (
        <span key={value.name} class="element-value">
          {isCard && value.label !== "" && <span class="element-label">{value.label} </span>}
          <Value value={value} turn={turn} />
        </span>
      ))}
    </span>
  );
}

/** Not by colour alone: a sign stands before a value that is bad or needs care. */
function Value({ value, turn }: { value: ElementValue; turn: Turn }) {
  const tone = value.tone ?? "neutral";
  return (
    <>
      <span class={`element-text ${tone}`}>
        {(tone === "warning" || tone === "bad") && <Icon name="alert" />}
        {tone === "good" && <Icon name="check" />}
        {value.text}
      </span>
      <Citations numbers={value.citations ?? []} turn={turn} />
    </>
  );
}

function ElementLink({ element }: { element: Element }) {
  const href = safeHref(element.data?.url ?? null);
  if (href === null) return null;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {element.title}
      <span class="visually-hidden"> (in a new tab)</span>
    </a>
  );
}

/** Where a value is from. Cards and tables say what was asked in their heads; a line of text has no head. */
function Origin({ element }: { element: Element }) {
  const isLine = element.kind === "status" || element.kind === "link";
  return (
    <span class="element-origin">
      <Icon name="clock" />
      {isLine && element.about !== "" && `${element.about} · `}
      {sourceAndTime(element)}
    </span>
  );
}

function Pending({ element }: { element: Element }) {
  return (
    <span class="element-pending" aria-busy="true">
      <span class="skeleton" aria-hidden="true" />
      <span class="hint">Asking {element.source}…</span>
    </span>
  );
}

/** Failed or not allowed: what happened and what to do, and another try where that may help. */
function NotShown({ element, turn }: ElementProps) {
  const { conversation, refill } = useWorkspace();
  const { answerId } = turn;
  const { isBusy, failure, run } = useCall("Not asked again");
  const canTry = element.state === "failed" && element.retryable && !isRunning(turn);
  return (
    <span class="element-problem">
      <Icon name={element.state === "not_allowed" ? "stop" : "alert"} />
      <span>
        <strong>{element.title}:</strong> {failure ?? element.detail}
        {!element.detail.toLowerCase().includes(element.about.toLowerCase()) && (
          <span class="hint"> ({element.about})</span>
        )}
      </span>
      {canTry && refill !== undefined && answerId !== null && (
        <button
          type="button"
          class="button small"
          disabled={isBusy}
          onClick={() => void run(async () => conversation.show(turn, await refill(answerId, element)))}
        >
          <Icon name="retry" /> Try again<span class="visually-hidden">: {element.title}</span>
        </button>
      )}
    </span>
  );
}

/** An element on lines of its own: a table, or one that the text has no words for. */
export function BlockElement({ element, turn }: ElementProps) {
  if (element.kind !== "table" || element.state !== "ready" || element.data === null) {
    return (
      <div class="element-block">
        <InlineElement element={element} turn={turn} />
      </div>
    );
  }
  return <TableElement element={element} turn={turn} />;
}

/** Rows become cards in a narrow window; the roles say what they are wherever styles make a table something else. */
function TableElement({ element, turn }: ElementProps) {
  const { columns = [], rows = [] } = element.data ?? {};
  return (
    <figure class="element-block element-table" data-element={element.id}>
      <figcaption class="element-title">
        {element.title}
        {element.about !== "" && <span class="hint"> {element.about}</span>}
      </figcaption>
      <table role="table" aria-label={nameOf(element)}>
        <thead role="rowgroup">
          <tr role="row">
            <th scope="col" role="columnheader">
              <span class="visually-hidden">Name</span>
            </th>
            {columns.map(({ name, label }) => (
              <th key={name} scope="col" role="columnheader">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((row, index) => (
            <tr key={index} role="row">
              <th scope="row" role="rowheader">
                {row.title}
                <Citations numbers={row.citations ?? []} turn={turn} />
              </th>
              {columns.map(({ name, label }) => (
                <Cell key={name} label={label} value={withoutOf(row, name)} turn={turn} />
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <Origin element={element} />
    </figure>
  );
}

interface CellProps {
  readonly label: string;
  readonly value: ElementValue | undefined;
  readonly turn: Turn;
}

function Cell({ label, value, turn }: CellProps): ComponentChildren {
  return (
    <td role="cell" data-label={label}>
      {value === undefined ? <span class="hint">not stated</span> : <Value value={value} turn={turn} />}
    </td>
  );
}

/** A value of a row, without the citations that the row has itself. */
function withoutOf(row: ElementRow, name: string): ElementValue | undefined {
  const value = row.values.find((one) => one.name === name);
  if (value === undefined) return undefined;
  return { ...value, citations: (value.citations ?? []).filter((n) => !row.citations?.includes(n)) };
}

function nameOf(element: Element): string {
  const isRead = element.state === "ready" && element.kind !== "table";
  const words = isRead ? `: ${wordsOf(element)}` : "";
  return `${element.title}${isRead && element.about !== "" ? `, ${element.about}` : ""}${words}`;
}
