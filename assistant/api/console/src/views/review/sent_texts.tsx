import { useMemo, useState } from "preact/hooks";
import { plainText } from "../../draft.ts";
import { moment } from "../../text.ts";
import { type Piece, wordDiff } from "../../word_diff.ts";
import type { CaseDetail, CaseSent } from "../../wire.ts";

/** What went to the patient, compared with what was shown. */
export function SentTexts({ detail: { sent, shown } }: { detail: CaseDetail }) {
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
  const [isCompared, setCompared] = useState(shown !== "");
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
      {isCompared ? <Difference before={shown} after={text} /> : <p class="case-text">{text}</p>}
    </div>
  );
}

function Difference({ before, after }: { before: string; after: string }) {
  const pieces = useMemo(() => wordDiff(plainText(before), after), [before, after]);
  if (pieces.every(({ kind }) => kind === "same")) {
    return (
      <>
        <p class="hint">Sent as it was shown.</p>
        <p class="case-text">{after}</p>
      </>
    );
  }
  return (
    <p class="case-text difference">
      {pieces.map((piece, index) => (
        <Change key={index} piece={piece} />
      ))}
    </p>
  );
}

/** Not by colour alone: removed words are struck through, added ones underlined, and both are named when read out. */
function Change({ piece: { kind, text } }: { piece: Piece }) {
  if (kind === "same") return <>{text}</>;
  const words = text.trimEnd();
  const Tag = kind === "removed" ? "del" : "ins";
  return (
    <>
      <Tag>
        <span class="visually-hidden">{kind === "removed" ? "[removed: " : "[added: "}</span>
        {words}
        <span class="visually-hidden">] </span>
      </Tag>
      {text.slice(words.length)}
    </>
  );
}
