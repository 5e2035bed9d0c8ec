import { useState } from "preact/hooks";
import { ApiError } from "@console/problems.ts";
import { inForce, textAt } from "@console/text.ts";
import { OriginalLink, Snippet, byDocument, headingOf } from "@console/views/sources.tsx";
import type { Source } from "@console/wire.ts";
import { useReview } from "./context.ts";

/** The passages that stood beside the answer, by document. */
export function CaseSources({ sources }: { sources: readonly Source[] }) {
  const review = useReview();
  if (sources.length === 0) return null;
  return (
    <section aria-labelledby="case-sources-title">
      <h4 id="case-sources-title">Sources</h4>
      <ul class="case-sources">
        {byDocument(sources).map((passages) => {
          const [{ document_id, title, url, effective_date = null }] = passages;
          return (
            <li key={document_id}>
              <p class="source-meta">
                <strong class="source-title">{title}</strong>
                {effective_date !== null && <span>{inForce(effective_date, new Date())}</span>}
                <OriginalLink url={url} title={title} />
                <button type="button" class="link" onClick={() => void review.filter({ document_id })}>
                  Its cases<span class="visually-hidden"> ({title})</span>
                </button>
              </p>
              {passages.map((passage) => (
                <Passage key={passage.n} source={passage} />
              ))}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** Opens to the stored words of the passage. */
function Passage({ source }: { source: Source }) {
  const { api } = useReview();
  const [text, setText] = useState(source.snippet);
  const read = async () => {
    if (text !== "") return;
    setText("Reading the passage…");
    try {
      const { text: whole, span } = await api.service.documentText(source);
      setText(span === null ? "The document has changed since; this passage is not in it any more." : textAt(whole, span));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setText(`The passage could not be read. ${error.problem.detail}`);
    }
  };
  const heading = headingOf(source);
  return (
    <details class="case-passage" onToggle={() => void read()}>
      <summary>
        <span class="number">{source.n}</span> {heading === "" ? "Passage" : heading}
      </summary>
      <Snippet text={text} />
    </details>
  );
}
