import type { Piece } from "../word_diff.ts";

/** Not by colour alone: removed words are struck through, added ones underlined, and both are named when read out. */
export function Change({ piece: { kind, text } }: { piece: Piece }) {
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
