import { useMemo } from "preact/hooks";
import { readMarkdown } from "@console/markdown.ts";
import { calendarDate } from "@console/text.ts";
import { Markdown } from "@console/views/markdown_view.tsx";
import type { ApprovedAnswer, DeskItem } from "./wire.ts";

/** What an item says, in its kind's own form. */
export function ItemBody({ item: { approved_answer, glossary_entry } }: { item: DeskItem }) {
  if (approved_answer !== null) return <ApprovedBody answer={approved_answer} />;
  if (glossary_entry === null) return null;
  return (
    <dl class="item-facts">
      <Fact name="Callers say">{glossary_entry.said}</Fact>
      <Fact name="Documents say">{glossary_entry.means}</Fact>
    </dl>
  );
}

function ApprovedBody({ answer }: { answer: ApprovedAnswer }) {
  const blocks = useMemo(() => readMarkdown(answer.text), [answer.text]);
  return (
    <>
      <div class="kept-text is-better markdown">
        <Markdown blocks={blocks} headingLevel={5} />
      </div>
      <dl class="item-facts">
        <Fact name="For">
          {answer.questions.map((question) => (
            <span key={question} class="wording">
              {question}
            </span>
          ))}
        </Fact>
        <Fact name="Owner">{answer.owner}</Fact>
        <Fact name="Expires">{calendarDate(answer.expires_on)}</Fact>
        {answer.labels.length > 0 && <Fact name="For readers of">{answer.labels.join(", ")}</Fact>}
        {answer.sources.length > 0 && (
          <Fact name="Bound to">{answer.sources.map(({ document_id }) => document_id).join(", ")}</Fact>
        )}
        {answer.suspended_because !== "" && <Fact name="Suspended because">{answer.suspended_because}</Fact>}
      </dl>
    </>
  );
}

function Fact({ name, children }: { name: string; children: preact.ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
