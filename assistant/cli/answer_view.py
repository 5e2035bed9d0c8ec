"""Prints an answer on the terminal: text as it arrives, marks, remarks, sources and timings."""

from __future__ import annotations

import re
import time
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

from rich.text import Text

from assistant.answering.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.cli.element_view import LiveText, below_the_text, is_in_text
from assistant.cli.terminal import Terminal, plain, styled
from assistant.domain import answers

_POSSIBLE_END = re.compile(r"[.!?…。！？][.!?…\"'”’»)\]*_]*|(?=\n)")  # noqa: RUF001 - as the service cuts


@dataclass(slots=True)
class MarkedText:
    """Splits arriving text so that a mark can be printed behind each sentence.

    A sentence's event comes right after the token that made its end certain, and that token already holds the
    first letter of the next sentence. So text behind a possible end is held back until the next event.
    """

    text: str = ""
    _shown: int = 0
    _decided: int = 0
    """Every possible end before it is decided."""

    def take(self, piece: str) -> str:
        """Add a piece and return what may be shown now."""
        before = len(self.text)
        self.text += piece
        at = self._decided
        while found := _POSSIBLE_END.search(self.text, at):
            if not self.text[found.end() : before].strip():
                self._decided = found.start()
                return self._show(found.end())
            at = found.end() + 1  # a later piece came without a sentence: this was no end
        self._decided = before
        return self._show(len(self.text))

    def take_sentence(self, end: int) -> str:
        """Return what may be shown before the mark of the sentence that ends at ``end``."""
        self._decided = end
        return self._show(end)

    def take_rest(self) -> str:
        return self._show(len(self.text))

    @property
    def shown(self) -> int:
        """How many characters may be shown."""
        return self._shown

    def _show(self, end: int) -> str:
        shown = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return shown


_DETAILS = {
    answers.FinishReason.NO_EVIDENCE: "Not in the knowledge base.",
    answers.FinishReason.REFUSED: "The assistant does not answer this.",
    answers.FinishReason.SOURCES_ONLY: "Nothing could be quoted; these passages were found.",
    answers.FinishReason.LENGTH: "The answer was cut at its longest length.",
}
_BADGES = {
    answers.Mode.QUOTED: "Quoted word for word",
    answers.Mode.WRITTEN: "Written by the model, each sentence checked",
}
_LIVE_ONLY = "Live values; no document is quoted"
_POSSIBLY = "Possibly: check before you send."
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_INDENT = "  "


@cache
def _words() -> Mapping[str, Mapping[str, str]]:
    """Return what ``answer_words.toml`` says for each code, by kind of code."""
    return tomllib.loads(Path(__file__).with_name("answer_words.toml").read_text(encoding="utf-8"))


@dataclass(slots=True)
class AnswerPrinter:
    """Prints the events of one answer in order, and keeps its id, timings and problem."""

    terminal: Terminal
    base_url: str
    began_s: float = field(default_factory=time.monotonic)
    answer_id: str | None = None
    first_text_s: float | None = None
    """Seconds from the question to the first text."""
    done: Done | None = None
    problem: Problem | None = None
    _sources: Sequence[answers.Source] = ()
    _sentences: list[answers.Sentence] = field(default_factory=list[answers.Sentence])
    _marked: MarkedText = field(default_factory=MarkedText)
    _live: LiveText = field(init=False)

    def __post_init__(self) -> None:
        self._live = LiveText(lambda text: self.terminal.out.print(text, end=""))

    @property
    def is_waiting(self) -> bool:
        """Whether text waits for a live value."""
        return self._live.is_waiting

    def release(self) -> None:
        """Print the text that waits. Its live values are printed below the answer."""
        self._live.release()

    def show(self, event: AnswerEvent) -> None:
        match event:
            case Started():
                self.answer_id = event.answer_id
                _show_started(self.terminal, event)
            case Sources():
                self._sources = event.sources
                if event.offered is not None:
                    _show_offered(self.terminal, event.offered)
                if event.section is not None:
                    _show_other(self.terminal, "While the model writes", event.section)
            case Token():
                self._show_text(event.text)
            case SentenceEnded():
                self._sentences.append(event)
                self._write(self._marked.take_sentence(event.end))
                self._live.add(mark_of(event, after=self._marked.text[: event.end]))
            case ElementChanged():
                self._live.take(event)
            case Done():
                self._show_done(event)
            case Problem():
                self._end_text()
                self.problem = event

    def _show_text(self, text: str) -> None:
        if self.first_text_s is None:
            self.first_text_s = time.monotonic() - self.began_s
        self._live.know(len(self._marked.text))
        self._write(self._marked.take(text))

    def _write(self, text: str) -> None:
        if text:
            self._live.add(with_bold(text), text=text, start=self._marked.shown - len(text))

    def _show_done(self, done: Done) -> None:
        self.done = done
        total_s = time.monotonic() - self.began_s
        self._end_text()
        live_only = self._live.has_elements and not self._sentences
        show_remarks(self.terminal, done, self._sentences, live_only=live_only)
        looked_at = done.finish_reason is answers.FinishReason.NO_EVIDENCE
        sources = self._sources
        if self._live.has_elements and not looked_at:  # what is not cited has nothing to do with the values
            cited = {*done.citations, *(n for also in done.also for n in also.citations)}
            sources = [one for one in sources if one.n in cited]
        print_sources(
            self.terminal, sources, cited=done.citations, base_url=self.base_url, looked_at=looked_at
        )
        self.terminal.out.print(Text(self._timings(done, total_s=total_s), style="dim"))

    def _timings(self, done: Done, *, total_s: float) -> str:
        first = "" if self.first_text_s is None else f"first text after {self.first_text_s:.2f} s, "
        tokens = f", {done.usage.completion_tokens} tokens" if done.usage.completion_tokens else ""
        return f"\n{first}whole answer after {total_s:.2f} s{tokens} · {self.answer_id}"

    def _end_text(self) -> None:
        start, rest = self._marked.shown, self._marked.take_rest().rstrip()
        self._live.add(with_bold(rest), text=rest, start=start)
        printed = self._marked.text
        elements = [one for one in self._live.end() if not is_in_text(one, printed)]
        if self._marked.text:
            self.terminal.out.print()
        for line in below_the_text(elements):
            self.terminal.out.print(line)


def with_bold(text: str, *, style: str = "") -> Text:
    """Return Markdown with its bold parts in bold; other marks stay as written."""
    shown = Text()
    for place, part in enumerate(_BOLD.split(text)):
        shown.append_text(plain(part, style=f"{style} bold".strip() if place % 2 else style))
    return shown


def prints(event: AnswerEvent) -> bool:
    """Return whether an answer's printer prints anything when the event comes."""
    match event:
        case Started():
            return bool(event.red_flags or event.recorded_model)
        case Sources():
            return event.offered is not None or event.section is not None
        case _:
            return True


def _show_started(terminal: Terminal, started: Started) -> None:
    for flag in started.red_flags:
        terminal.out.print(styled((flag.text, "bold red"), (f"  Call: {flag.call}", "bold red")))
    if started.recorded_model:
        terminal.out.print(plain(f"Plays recorded answers of {started.recorded_model}.", style="dim"))
    if not started.red_flags and not started.recorded_model:
        return
    terminal.out.print()


def _show_offered(terminal: Terminal, offered: answers.OfferedAnswer) -> None:
    head = ("Approved answer to a near question", "bold cyan")
    terminal.out.print(styled(head, (f"  {offered.question}", "bold"), (f" [{offered.n}]", "cyan")))
    terminal.out.print(with_bold(f"{_indented(offered.text)}\n"))


def show_remarks(
    terminal: Terminal,
    said: Done | answers.AnswerRecord,
    sentences: Sequence[answers.Sentence],
    *,
    live_only: bool = False,
) -> None:
    """Print how an answer was made, how certain it is, and its alternatives. ``live_only``: its text is
    nothing but live elements."""
    out = terminal.out
    if said.mode is not None:
        out.print()
        _show_certainty(terminal, said, live_only=live_only)
    else:
        _show_no_answer(terminal, said)
    if withheld := [one for one in sentences if one.detail == "withheld"]:
        values = ", ".join(dict.fromkeys(value for one in withheld for value in one.values))
        counted = "1 sentence" if len(withheld) == 1 else f"{len(withheld)} sentences"
        out.print(plain(f"Withheld: {counted} of the model's; no source has {values}.", style="yellow"))
    if said.degraded:
        out.print(
            plain(f"Left out, because it failed or was late: {', '.join(said.degraded)}.", style="yellow")
        )
    if silent := [one.name for one in said.asked if one.state in ("late", "failed")]:
        out.print(plain(f"Did not answer: {', '.join(silent)}.", style="yellow"))
    for question in said.unanswered:
        out.print(styled(("Not answered: ", "bold yellow"), (question, "yellow")))
    if said.clarify:
        out.print(styled(("\nAsk back  ", "bold cyan"), (said.clarify, "")))
    for also in said.also:
        _show_other(terminal, "\nAlso possible", also)
    if said.reply_draft:
        out.print(styled(("\nReply draft", "bold cyan"), ("  edit it before you send it", "dim")))
        out.print(with_bold(_indented(said.reply_draft)))


def _show_certainty(terminal: Terminal, said: Done | answers.AnswerRecord, *, live_only: bool) -> None:
    if said.certainty is answers.Certainty.POSSIBLY:
        whom = f" Ask: {said.escalation}" if said.escalation else ""
        terminal.out.print(styled((_POSSIBLY, "bold yellow"), (whom, "yellow")))
    if said.mode is not None:
        badge = _LIVE_ONLY if live_only else _BADGES[said.mode]
        if said.fallback:
            why = _words()["fallback"].get(said.fallback, f"it did not answer ({said.fallback})")
            badge += f", in place of the model's text: {why}"
        terminal.out.print(plain(badge, style="dim"))
    if said.finish_reason is answers.FinishReason.LENGTH:
        terminal.out.print(plain(_DETAILS[answers.FinishReason.LENGTH], style="yellow"))


def _show_no_answer(terminal: Terminal, said: Done | answers.AnswerRecord) -> None:
    """Print why there is no text, and whom to ask. A record keeps the reason as a code only."""
    detail = _DETAILS.get(said.finish_reason) if said.finish_reason else None
    reason = said.reason if isinstance(said, Done) else None
    if said.finish_reason is answers.FinishReason.NO_EVIDENCE:
        detail, reason = reason or detail, None
    if detail:
        terminal.out.print(plain(detail, style="yellow"))
    if reason:
        terminal.out.print(plain(reason, style="dim"))
    if said.escalation:
        terminal.out.print(styled(("Ask: ", "bold"), (said.escalation, "")))


def _show_other(terminal: Terminal, head: str, also: answers.AlsoPossible) -> None:
    numbers = "".join(f"[{n}]" for n in also.citations)
    title, effective = (also.title, "bold"), (_effective(also.effective_date), "dim")
    terminal.out.print(styled((f"{head}  ", "bold cyan"), title, effective, (f" {numbers}", "cyan")))
    terminal.out.print(with_bold(_indented(also.text)))


def _effective(day: date | None) -> str:
    return "" if day is None else f", effective {day:%Y-%m-%d}"


def _indented(text: str) -> str:
    return "\n".join(f"{_INDENT}{line}" if line else "" for line in text.split("\n"))


def mark_of(sentence: answers.Sentence, *, after: str = "") -> Text:
    """Return the mark behind a sentence: its citations, whether it is one of the lines that matter most, and
    whether it is to check; nothing for a withheld one.

    ``after`` is the text before the mark; a citation at its end is not repeated.
    """
    mark = Text()
    if sentence.detail == "withheld":
        return mark
    numbers = "".join(f"[{n}]" for n in sentence.citations)
    if numbers and not after.rstrip(" .!?").endswith(numbers):
        mark.append(f" {numbers}", style="cyan")
    if sentence.is_key:
        mark.append(" \u25c2", style="bold cyan")
    if sentence.support is answers.Support.UNSUPPORTED:
        word = sentence.detail or "unsupported"
        reasons = ", ".join(_words()["unsupported"].get(reason, reason) for reason in sentence.reasons)
        mark.append(f" ({word}{f': {reasons}' if reasons else ''})", style="yellow")
    return mark


def print_sources(
    terminal: Terminal,
    sources: Sequence[answers.Source],
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
        about = f"  {first.document_id}{_effective(first.effective_date)}{_facts(first.facts)}"
        terminal.out.print(styled(number, title, (about, "dim")))
        link = first.url or base_url + first.document_url
        terminal.out.print(plain(f"{'':{width + 4}}{link}", style="dim"))


def _facts(facts: answers.SourceFacts | None) -> str:
    """Return price, stars and votes of a shop's source, each after a comma."""
    if facts is None:
        return ""
    said = [f"{facts.price} {facts.currency or ''}".strip() if facts.price is not None else ""]
    if facts.rating is not None:
        mean = f" of {facts.ratings} ratings" if facts.ratings is not None else ""
        said.append(f"{facts.rating:g} of 5 stars{mean}")
    if facts.helpful_votes:
        said.append(f"{facts.helpful_votes} found it helpful")
    return "".join(f", {one}" for one in said if one)


def _by_document(sources: Sequence[answers.Source]) -> list[list[answers.Source]]:
    """Return the sources grouped by document, in the order of each document's first."""
    documents: dict[str, list[answers.Source]] = {}
    for source in sources:
        documents.setdefault(source.document_id, []).append(source)
    return list(documents.values())
