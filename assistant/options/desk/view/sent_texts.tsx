import { useMemo, useState } from "preact/hooks";
import { plainText } from "@console/lines.ts";
import { moment } from "@console/text.ts";
import { Change } from "@console/views/difference.tsx";
import { type Piece, sharedPart, wordDiff } from "@console/word_diff.ts";
import type { DeskCase, CaseSent } from "./wire.ts";

/** Part of the words sent that must stand in the answer for a comparison to read well. */
const LEAST_SHARED = 0.4;

/** What went to the patient, compared with what was shown. */
export function SentTexts({ detail: { sent, shown } }: { detail: DeskCase }) {
  if (sent.length === 0) return null;
  return (
    <section aria-labelledby="sent-title">
      <h4 id="sent-title">Sent to the patient</h4>
      {sent.map((one, index) => (
        <SentText key={index} id={`compare-${index}`} sent={one} shown={shown} />
      ))}
    </section>
  );
}

function SentText({ id, sent: { at, text }, shown }: { id: string; sent: CaseSent; shown: string }) {
  const pieces = useMemo(() => wordDiff(plainText(shown), text), [shown, text]);
  // what speaks to the patient may stand in another document, or in other words: side by side it reads better
  const [isCompared, setCompared] = useState(sharedPart(pieces) >= LEAST_SHARED);
  return (
    <div class="sent-compared">
      <p class="case-facts">
        <span class="hint">{moment(at, new Date())}</span>
        {shown !== "" && (
          <label class="check" for={id}>
            <input id={id} type="checkbox" checked={isCompared} onChange={() => setCompared(!isCompared)} />{" "}
            <span>Compare with what was shown</span>
          </label>
        )}
      </p>
      {isCompared ? <Difference pieces={pieces} /> : <p class="kept-text">{text}</p>}
    </div>
  );
}

function Difference({ pieces }: { pieces: readonly Piece[] }) {
  if (pieces.every(({ kind }) => kind === "same")) {
    return (
      <>
        <p class="hint">Sent as it was shown.</p>
        <p class="kept-text">{pieces.map(({ text }) => text)}</p>
      </>
    );
  }
  return (
    <p class="kept-text difference">
      {pieces.map((piece, index) => (
        <Change key={index} piece={piece} />
      ))}
    </p>
  );
}
