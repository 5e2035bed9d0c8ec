import type { Turn } from "../turn.ts";
import type { Source } from "../wire.ts";
import { useWorkspace } from "./workspace_state.ts";

interface CitationsProps {
  readonly numbers: readonly number[];
  readonly turn: Turn;
  /** Indexes of the sentences that they stand for. */
  readonly sentences?: readonly number[];
}

/** The numbers of sources, in order; one that the answer does not list is left out. */
export function Citations({ numbers, turn, sentences }: CitationsProps) {
  const cited = numbers.flatMap((n) => turn.sources.find((source) => source.n === n) ?? []);
  return (
    <>
      {cited.map((source) => (
        <Citation key={source.n} source={source} turnKey={turn.key} sentences={sentences} />
      ))}
    </>
  );
}

interface CitationProps {
  readonly source: Source;
  readonly turnKey: string;
  readonly sentences: readonly number[] | undefined;
}

/** The number of a source. To point at it previews the source, to press it opens the stored text. */
function Citation({ source, turnKey, sentences }: CitationProps) {
  const workspace = useWorkspace();
  const isPreviewed = workspace.preview.value?.n === source.n;
  return (
    <button
      type="button"
      class="citation"
      aria-label={`Source ${source.n}: ${source.title}`}
      aria-describedby={isPreviewed ? "citation-preview" : undefined}
      onMouseEnter={(event) => workspace.point(source.n, event.currentTarget)}
      onFocus={(event) => workspace.point(source.n, event.currentTarget)}
      onMouseLeave={(event) => workspace.leave(event.currentTarget)}
      onBlur={(event) => workspace.leave(event.currentTarget)}
      onClick={(event) => workspace.show(turnKey, source.n, event.currentTarget, sentences)}
    >
      {source.n}
    </button>
  );
}
