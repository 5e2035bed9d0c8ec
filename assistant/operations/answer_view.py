"""An answer on the terminal: text as it arrives, marks, numbered sources, timings."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.domain.answers import FinishReason, Sentence, Source, Support
from assistant.operations.marked_text import MarkedText
from assistant.operations.terminal import Terminal, plain, styled

_REASONS = {
    "no_passage": "no source says so",
    "number_not_in_passage": "a number that its source does not have",
}
_DETAILS = {
    FinishReason.NO_EVIDENCE: "Not in the knowledge base.",
    FinishReason.REFUSED: "The assistant does not answer this.",
    FinishReason.SOURCES_ONLY: "The model gave no answer; these passages were found.",
    FinishReason.LENGTH: "The answer was cut at its longest length.",
}


@dataclass(slots=True)
class AnswerPrinter:
    """Prints the events of one answer in their order and keeps what is asked about afterwards."""

    terminal: Terminal
    base_url: str
    began_s: float = field(default_factory=time.monotonic)
    answer_id: str | None = None
    first_text_s: float | None = None
    """Seconds from the question to the first text."""
    done: Done | None = None
    problem: Problem | None = None
    _sources: Sequence[Source] = ()
    _marked: MarkedText = field(default_factory=MarkedText)

    def show(self, event: AnswerEvent) -> None:
        match event:
            case Started():
                self.answer_id = event.answer_id
            case Sources():
                self._sources = event.sources
            case Token():
                self._show_text(event.text)
            case SentenceEnded():
                self._write(self._marked.take_sentence(event.end))
                mark = mark_of(event, after=self._marked.text[: event.end])
                self.terminal.out.print(mark, end="")
            case Done():
                self._show_done(event)
            case Problem():
                self._end_text()
                self.problem = event

    def _show_text(self, text: str) -> None:
        if self.first_text_s is None:
            self.first_text_s = time.monotonic() - self.began_s
        self._write(self._marked.take(text))

    def _write(self, text: str) -> None:
        if text:
            self.terminal.out.print(plain(text), end="")

    def _show_done(self, done: Done) -> None:
        self.done = done
        total_s = time.monotonic() - self.began_s
        self._end_text()
        detail = _DETAILS.get(done.finish_reason)
        if detail is not None:
            self.terminal.out.print(plain(detail, style="yellow"))
        if done.reason:
            self.terminal.out.print(plain(done.reason, style="dim"))
        looked_at = done.finish_reason is FinishReason.NO_EVIDENCE
        print_sources(
            self.terminal, self._sources, cited=done.citations, base_url=self.base_url, looked_at=looked_at
        )
        self.terminal.out.print(Text(self._timings(done, total_s=total_s), style="dim"))

    def _timings(self, done: Done, *, total_s: float) -> str:
        first = "" if self.first_text_s is None else f"first text after {self.first_text_s:.2f} s, "
        tokens = f", {done.usage.completion_tokens} tokens" if done.usage.completion_tokens else ""
        return f"{first}whole answer after {total_s:.2f} s{tokens} · {self.answer_id}"

    def _end_text(self) -> None:
        self._write(self._marked.take_rest().rstrip())
        if self._marked.text:
            self.terminal.out.print()


def mark_of(sentence: Sentence, *, after: str = "") -> Text:
    """Return what stands behind a sentence: its citations, and whether nothing supports it.

    ``after`` is the text before the mark; a citation that it ends with is not said twice.
    """
    mark = Text()
    numbers = "".join(f"[{n}]" for n in sentence.citations)
    if numbers and not after.rstrip(" .!?").endswith(numbers):
        mark.append(f" {numbers}", style="cyan")
    if sentence.support is Support.UNSUPPORTED:
        reasons = ", ".join(_REASONS.get(reason, reason) for reason in sentence.reasons)
        mark.append(f" (unsupported{f': {reasons}' if reasons else ''})", style="yellow")
    return mark


def print_sources(
    terminal: Terminal,
    sources: Sequence[Source],
    *,
    cited: Collection[int],
    base_url: str,
    looked_at: bool = False,
) -> None:
    """Print the numbered sources with title and link, those that the answer cites in bold."""
    if not sources:
        return
    terminal.out.print(Text("\nLooked at" if looked_at else "\nSources", style="bold"))
    documents = _by_document(sources)
    numbers = [", ".join(str(source.n) for source in same) for same in documents]
    width = max(map(len, numbers))
    for said, same in zip(numbers, documents, strict=True):
        first = same[0]
        is_cited = any(source.n in cited for source in same)
        title = (first.title, "bold" if is_cited else "")
        number = (f"  {said:>{width}}  ", "cyan")
        terminal.out.print(styled(number, title, (f"  {first.document_id}", "dim")))
        link = first.url or base_url + first.document_url
        terminal.out.print(plain(f"{'':{width + 4}}{link}", style="dim"))


def _by_document(sources: Sequence[Source]) -> list[list[Source]]:
    """Return the sources, those of one document together, in the order of each document's first."""
    documents: dict[str, list[Source]] = {}
    for source in sources:
        documents.setdefault(source.document_id, []).append(source)
    return list(documents.values())
