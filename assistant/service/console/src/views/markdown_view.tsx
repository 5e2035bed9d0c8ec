import { type ComponentChildren, type VNode, createContext } from "preact";
import { useContext } from "preact/hooks";
import type { Block, Run, Runs } from "../markdown.ts";

/** Opens the document that words of a stored text link to. */
export const OpenDocument = createContext<((documentId: string) => void) | null>(null);

interface MarkdownProps {
  readonly blocks: readonly Block[];
  /** The level of the outermost heading; 0 draws headings as bold lines. */
  readonly headingLevel: number;
  /** Draws a piece of text; without it the text itself. */
  readonly drawLeaf?: (runs: Runs) => ComponentChildren;
}

/** Blocks of Markdown as elements: text nodes only, whatever they say. */
export function Markdown({ blocks, headingLevel, drawLeaf = drawRuns }: MarkdownProps) {
  const rest = { headingLevel, drawLeaf };
  return (
    <>
      {blocks.map((block, index) => (
        <BlockView key={index} block={block} {...rest} />
      ))}
    </>
  );
}

type BlockProps = Required<Omit<MarkdownProps, "blocks">>;

function BlockView({ block, ...rest }: { block: Block } & BlockProps): VNode {
  switch (block.kind) {
    case "heading":
      return <Heading level={rest.headingLevel} depth={block.depth}>{rest.drawLeaf(block.runs)}</Heading>;
    case "list":
      return <List block={block} {...rest} />;
    case "table":
      return <Table block={block} {...rest} />;
    case "quote":
      return (
        <blockquote>
          <Markdown blocks={block.blocks} {...rest} />
        </blockquote>
      );
    case "code":
      return <pre>{rest.drawLeaf(block.runs)}</pre>;
    case "rule":
      return <hr />;
    case "paragraph":
      return <p>{rest.drawLeaf(block.runs)}</p>;
  }
}

function Heading({ level, depth, children }: { level: number; depth: number; children: ComponentChildren }) {
  if (level === 0) return <p class="md-heading">{children}</p>;
  const Name = `h${Math.min(6, level + depth - 1)}` as "h6";
  return <Name class="md-heading">{children}</Name>;
}

/** Each step keeps the number that it has in the document. */
function List({ block, ...rest }: { block: Extract<Block, { kind: "list" }> } & BlockProps) {
  const items = block.items.map(({ number, blocks }, index) => (
    <li key={index} value={number ?? undefined}>
      <Markdown blocks={blocks} {...rest} />
    </li>
  ));
  return block.isOrdered ? <ol>{items}</ol> : <ul>{items}</ul>;
}

/** A wide table scrolls on its own, by keyboard too; in a narrow window its rows are cards, as those of a comparison. */
function Table({ block: { head, rows, keys }, drawLeaf }: { block: Extract<Block, { kind: "table" }> } & BlockProps) {
  return (
    <div class="md-table" role="group" aria-label="Table" tabIndex={0}>
      <table role="table">
        {head.some((cell) => cell.length > 0) && (
          <thead>
            <tr role="row">
              {head.map((cell, index) => (
                <th key={index} scope="col" role="columnheader">
                  {drawLeaf(cell)}
                </th>
              ))}
            </tr>
          </thead>
        )}
        <tbody>
          {rows.map((row, index) => (
            <tr key={index} role="row" class={keys?.[index]?.row ? "is-key" : undefined}>
              {(row.length === 1 ? row : head).map((_, column) => (
                <td
                  key={column}
                  role="cell"
                  data-label={row.length === 1 ? undefined : head[column]?.map(({ text }) => text).join("")}
                  class={keys?.[index]?.cells[column] ? "is-key" : undefined}
                  colSpan={row.length === 1 ? head.length : undefined}
                >
                  {drawLeaf(row[column] ?? [])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function drawRuns(runs: Runs): ComponentChildren {
  return runs.map((run, index) => <RunView key={index} run={run} />);
}

function RunView({ run }: { run: Run }) {
  const open = useContext(OpenDocument);
  let drawn: ComponentChildren = run.text;
  if (run.isCode) drawn = <code>{drawn}</code>;
  if (run.isEmphasis) drawn = <em>{drawn}</em>;
  if (run.isStrong) drawn = <strong>{drawn}</strong>;
  const { opens } = run;
  if (opens !== undefined && open !== null) {
    return (
      <button type="button" class="text-link" onClick={() => open(opens)}>
        {drawn}
      </button>
    );
  }
  if (run.href === null) return <>{drawn}</>;
  return (
    <a href={run.href} target="_blank" rel="noopener noreferrer">
      {drawn}
      <span class="visually-hidden"> (in a new tab)</span>
    </a>
  );
}
