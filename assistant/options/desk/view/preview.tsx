import { useState } from "preact/hooks";
import { announce } from "@console/announcer.ts";
import { count } from "@console/text.ts";
import { Failure, useCall } from "@console/views/failure.tsx";
import { Icon } from "@console/views/icons.tsx";
import { useReview } from "./context.ts";
import type { Captured, DeskPreview } from "./wire.ts";

interface PreviewProps {
  readonly questions: readonly string[];
  readonly text: string;
}

/** Shows which recent questions an approved answer would answer, and which it nearly would. */
export function PreviewButton({ questions, text }: PreviewProps) {
  const { api } = useReview();
  const [preview, setPreview] = useState<(DeskPreview & { readonly of: string }) | null>(null);
  const { isBusy, failure, run } = useCall("No preview");
  const of = JSON.stringify([questions, text]);
  const look = () =>
    run(async () => {
      const found = await api.preview({ questions, text });
      setPreview({ ...found, of });
      announce(`${count(found.captured.length, "recent question")} would get this answer`);
    });
  return (
    <div class="preview-captured">
      <button type="button" class="button" disabled={isBusy || questions.length === 0 || text.trim() === ""} onClick={() => void look()}>
        <Icon name="search" /> {isBusy ? "Looking…" : "Preview: which recent questions would get it?"}
      </button>
      {failure !== null && <Failure>{failure}</Failure>}
      {preview !== null && <Found preview={preview} isOld={preview.of !== of} />}
    </div>
  );
}

function Found({ preview: { captured, near, compared }, isOld }: { preview: DeskPreview; isOld: boolean }) {
  return (
    <>
      {isOld && <p class="hint warn">You have changed the questions or the text since: preview again.</p>}
      <h5>
        Would get this answer ({captured.length} of {count(compared, "recent question")})
      </h5>
      {captured.length === 0 ? <p class="hint">None of them.</p> : <Questions found={captured} />}
      {near.length > 0 && (
        <>
          <h5>Near, but kept apart ({near.length})</h5>
          <Questions found={near} />
        </>
      )}
    </>
  );
}

function Questions({ found }: { found: readonly (Captured & { readonly why?: string })[] }) {
  return (
    <ul class="captured">
      {found.map(({ answer_id, question, cosine, why }) => (
        <li key={answer_id}>
          {question} <span class="hint">alike {Math.round(cosine * 100)} %</span>
          {why !== undefined && <span class="why">{why}</span>}
        </li>
      ))}
    </ul>
  );
}
