import { useLayoutEffect, useRef, useState } from "preact/hooks";

/** The question of a turn. What is longer than two lines, such as a pasted message, is folded. */
export function QuestionHead({ question }: { question: string }) {
  const title = useRef<HTMLHeadingElement>(null);
  const [isLong, setLong] = useState(false);
  const [isOpen, setOpen] = useState(false);
  useLayoutEffect(() => {
    const measured = title.current;
    if (measured === null || isOpen) return;
    const measure = () => setLong(measured.scrollHeight > measured.clientHeight + 1);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(measured);
    return () => observer.disconnect();
  }, [question, isOpen]);
  return (
    <div class="question-head">
      <h2 id="question-title" ref={title} class={isOpen ? "title question" : "title question is-folded"}>
        {question}
      </h2>
      {isLong && (
        <button
          type="button"
          class="link show-all"
          aria-expanded={isOpen}
          aria-controls="question-title"
          onClick={() => setOpen(!isOpen)}
        >
          {isOpen ? "Show less" : "Show all"}
        </button>
      )}
    </div>
  );
}
