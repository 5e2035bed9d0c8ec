import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Api } from "../api.ts";
import type { Runs } from "../markdown.ts";
import { scrollTo } from "../scrolling.ts";
import { groupBySpan } from "../spans.ts";
import { blocksOf } from "../stored_text.ts";
import { utf16Offset } from "../text.ts";
import type { DocumentText, NotePlace } from "../wire.ts";
import { DialogClose } from "./dialog_close.tsx";
import { Failure, useCall } from "./failure.tsx";
import { Markdown, drawRuns } from "./markdown_view.tsx";

interface TextDialogProps {
  readonly api: Api;
  readonly place: NotePlace;
  readonly onClose: () => void;
}

/** The text that was read of a document, at a place of it. */
export function TextDialog({ api, place, onClose }: TextDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [stored, setStored] = useState<DocumentText | null>(null);
  const { failure, run } = useCall("Not read yet");
  useLayoutEffect(() => dialog.current?.showModal(), []);
  useEffect(() => void run(async () => setStored(await api.documentText({ document_id: place.document_id, content_hash: "" }))), []);
  return (
    <dialog ref={dialog} class="dialog wide" aria-labelledby="text-title" onClose={onClose}>
      <h2 id="text-title">{stored?.title ?? place.document_id}</h2>
      {failure !== null && <Failure>{failure}</Failure>}
      {stored === null && failure === null && <p class="hint">Reading…</p>}
      {stored !== null && <Text stored={stored} start={place.start ?? null} />}
      <DialogClose dialog={dialog} />
    </dialog>
  );
}

/** `start`, in code points: where the line begins that is marked. */
function Text({ stored, start }: { stored: DocumentText; start: number | null }) {
  const scroller = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const mark = scroller.current?.querySelector<HTMLElement>(".passage");
    if (scroller.current !== null && mark) scrollTo(scroller.current, mark, mark);
  }, []);
  const blocks = blocksOf(stored);
  const groups = groupBySpan(blocks, start === null ? [] : [lineFrom(stored.text, utf16Offset(stored.text, start))]);
  const drawLeaf = (runs: Runs) =>
    groups.get(runs)?.map((group, index) =>
      group.span === null ? (
        <span key={index}>{drawRuns(group.runs)}</span>
      ) : (
        <mark key={index} class="passage">
          {drawRuns(group.runs)}
        </mark>
      ),
    );
  return (
    <>
      {start === null && <p class="hint">The place itself has no text: this is what was read.</p>}
      <div ref={scroller} class="stored-text markdown" role="region" aria-label="Text that was read" tabIndex={0}>
        <Markdown blocks={blocks} headingLevel={3} drawLeaf={drawLeaf} />
      </div>
    </>
  );
}

/** The next line with words, from an offset on. */
function lineFrom(text: string, offset: number): readonly [number, number] {
  const from = offset + (text.slice(offset).match(/^\s*/)?.[0].length ?? 0);
  const end = text.indexOf("\n", from);
  return [from, end === -1 ? text.length : end];
}
