"""Prints answers on the terminal: one that arrives, a recorded one again, and how it was made.

What is printed cannot be changed. So a sentence is printed when it has ended, with its mark (citations, and
what is wrong with it). From the first label of a live value on, text waits for the answer's end, when all
values are known. Words for codes are in ``answer_words.toml``.
"""

from __future__ import annotations

import re
import time
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path

from rich.style import Style
from rich.text import Text

from assistant.answer import events
from assistant.answer.events import AnswerEvent, Done, Problem
from assistant.client import AssistantClient, Question
from assistant.client.connection import refusal
from assistant.domain import answers
from assistant.domain.live import Element, ElementData, ElementState, ElementValue, LiveText
from assistant.terminal.terminal import Terminal, plain, styled

_UNCERTAIN = "Not certain: check before you send."
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_INDENT = "  "
_LONGEST_LINK = 100
"""Characters of an address that is printed as text too."""
_MAYBE_LABEL = re.compile(r"\[(?!\d+\])[^\[\]\n]{1,120}\]")
"""Brackets around words, not around the number of a source."""
_TONES = {"neutral": "bold", "good": "bold green", "warning": "bold yellow", "bad": "bold red"}
_CANDIDATES = 5
"""Candidates that are shown; ``--json`` has them all."""

# Fields of a record, and of its passages, that ``explain`` prints.
_OF_MODEL = {
    *("prompt_id", "prompt_hash", "dropped_passages"),
    *("model_id", "model_digest", "parameters", "usage"),
}
_EXPLAINED = _OF_MODEL | {
    *("retrieval_question", "candidates", "gate", "quoted", "removed_markers", "asked", "live_matches"),
    *("elements", "index_version", "weights", "settings_hash", "timings_ms"),
}
_OF_PASSAGE = {
    *("n", "rank", "fused_score", "lexical_rank", "lexical_score", "vector_rank", "cosine", "in_prompt"),
    "passage_id",
}


@cache
def _words(kind: str) -> Mapping[str, str]:
    """Return what ``answer_words.toml`` says for each code of a kind: "quoted" of "made" is "Quoted word for
    word"."""
    words = tomllib.loads(Path(__file__).with_name("answer_words.toml").read_text(encoding="utf-8"))
    return words[kind]


@dataclass(frozen=True, slots=True)
class _Piece:
    shown: Text
    text: str
    """As it came; empty for a mark, which has no labels."""
    start: int
    """Of ``text`` in the answer."""


@dataclass(slots=True)
class AnswerPrinter:
    """Prints the events of one answer in order, and keeps its id, timings and problem.

    Example::

        printer = AnswerPrinter(terminal, base_url="http://127.0.0.1:8700")
        printer.show(Token("Call the plan. T"))  # prints nothing: no sentence has ended
        printer.show(SentenceEnded(start=0, end=14, citations=(1, 2), …))  # "Call the plan. [1][2]"
        printer.show(Done(…))  # " T", remarks, sources and timings

    ``Started`` and ``Sources`` come before the text; ``ElementChanged`` at each change of a live element;
    ``Done`` or ``Problem`` ends it; ``Checked`` may follow.
    """

    terminal: Terminal
    base_url: str
    shows_section: bool = True
    """Whether the section beside a written answer is printed before it."""
    began_s: float = field(default_factory=time.monotonic)
    answer_id: str | None = None
    first_text_s: float | None = None
    """Seconds from the question to the first text."""
    done: Done | None = None
    problem: Problem | None = None
    _sources: Sequence[answers.Source] = ()
    _sentences: list[answers.Sentence] = field(default_factory=list[answers.Sentence])
    _text: str = ""
    """All that came."""
    _added_to: int = 0
    """Where in the text ends what was written: the end of a sentence."""
    _elements: dict[str, Element] = field(default_factory=dict[str, Element])
    """The present state of each live element, by id."""
    _waiting: list[_Piece] = field(default_factory=list[_Piece])
    """What is not printed yet: the first piece may have the label of an element."""
    _in_text: set[str] = field(default_factory=set[str])
    """Ids of the elements whose values were printed in the text."""

    @property
    def live(self) -> tuple[LiveText, ...]:
        """The live values that the answer shows, with their MACs."""
        return tuple(
            text
            for element in self._elements.values()
            if element.data is not None
            for text in element.texts
            if text.value in {value.text for value in element.data.values}
        )

    @property
    def gist(self) -> str:
        """How the answer was made, its live values and its first sentence, on one line."""
        first = [self._text[each.start : each.end] for each in self._sentences[:1]]
        made = _words("made").get(str(self.done and self.done.mode), _words("ending")["no_evidence"])
        return _line(f"{made}: {'; '.join([*(each.value for each in self.live), *first])}")

    @property
    def is_written(self) -> bool:
        """Whether the answer ended as text of a model."""
        return self.done is not None and self.done.mode is answers.Mode.WRITTEN

    def show(self, event: AnswerEvent) -> None:
        """Take the next event, and print what is ready; nothing of a preview, which cannot be taken back."""
        match event:
            case events.Started() | events.RedFlags() | events.Preview():
                self._show_first(event)
            case events.Sources():
                self._sources = event.sources
                _show_beside(self.terminal, event, shows_section=self.shows_section)
            case events.Token():
                self._show_text(event.text)
            case events.SentenceEnded():
                self._show_sentence(event)
            case events.ElementChanged():
                self._elements[event.id] = event
            case Done() | events.Checked():
                self._show_end(event)
            case events.Checks() | Problem():  # checks come with a reply alone
                self.end_text()
                self.problem = event if isinstance(event, Problem) else None

    def _show_first(self, event: events.Started | events.RedFlags | events.Preview) -> None:
        if isinstance(event, events.Started):
            self.answer_id = event.answer_id
            _show_started(self.terminal, event)
        elif isinstance(event, events.RedFlags):
            _show_flags(self.terminal, event.red_flags)
            if not (event.red_flags or self._text):
                self.terminal.show("The model has read it, and names no emergency.", "dim")

    def _show_text(self, text: str) -> None:
        if self.first_text_s is None:
            self.first_text_s = time.monotonic() - self.began_s
        self._text += text

    def _show_sentence(self, sentence: answers.Sentence) -> None:
        """Write a sentence, or the row of a table, with its mark."""
        self._sentences.append(sentence)
        self._add_to(sentence.end)
        self._write(mark_of(sentence, after=self._text[: sentence.end]))

    def _add_to(self, end: int) -> None:
        """Write the text that is not written yet, up to ``end``."""
        text = self._text[self._added_to : end]
        self._write(with_bold(text), text=text, start=self._added_to)
        self._added_to = max(self._added_to, end)

    def _show_end(self, event: Done | events.Checked) -> None:
        if isinstance(event, Done):
            self._show_done(event)
        else:
            self._show_checked(event)

    def _show_done(self, done: Done) -> None:
        self.done = done
        total_s = time.monotonic() - self.began_s
        self.end_text()
        live_only = bool(self._elements) and not self._sentences
        show_remarks(self.terminal, done, self._sentences, live_only=live_only)
        looked_at = done.finish_reason is answers.FinishReason.NO_EVIDENCE
        sources = self._sources
        if self._elements and not looked_at:  # what is not cited has nothing to do with the values
            cited = {*done.citations, *(n for also in done.also for n in also.citations)}
            sources = [source for source in sources if source.n in cited]
        print_sources(
            self.terminal, sources, cited=done.citations, base_url=self.base_url, looked_at=looked_at
        )
        first = "" if self.first_text_s is None else f"first text after {self.first_text_s:.2f} s, "
        tokens = f", {done.usage.completion_tokens} tokens" if done.usage.completion_tokens else ""
        timings = f"\n{first}whole answer after {total_s:.2f} s{tokens} · {self.answer_id}"
        self.terminal.out.print(Text(timings, style="dim"))

    def _show_checked(self, checked: events.Checked) -> None:
        """Print what a model says of the sentences: in one line where all are held."""
        if not checked.sentences:
            self.terminal.show(_words("checked")["none"], "dim")
            return
        doubted = [check for check in checked.sentences if check.verdict != "held"]
        held = len(checked.sentences) - len(doubted)
        found = f"all {held} sentences are held" if not doubted else f"{held} sentences are held"
        self.terminal.show(f"Checked by {checked.by}: {found}", "dim")
        texts = {sentence.index: self._text[sentence.start : sentence.end] for sentence in self._sentences}
        for check in doubted:
            words = f" ({check.words})" if check.words else ""
            said = _line(texts.get(check.index, ""))
            self.terminal.show(f"{_words('checked')[check.verdict]}{words}: {said}", "yellow")

    def end_text(self) -> None:
        """Print what waits, and the elements that have no place in the text."""
        self._add_to(len(self._text.rstrip()))
        for piece in self._waiting:
            self.terminal.out.print(self._filled(piece), end="")
        self._waiting.clear()
        left = [element for element in self._elements.values() if element.id not in self._in_text]
        elements = [element for element in left if not is_in_text(element, self._text)]
        if self._text:
            self.terminal.out.print()
        for element in elements:
            title = plain(f"  {_line(element.title)}: ")
            self.terminal.out.print(title.append_text(shown_element(element)))

    def _write(self, shown: Text, *, text: str = "", start: int = 0) -> None:
        """Print a piece, unless it or one before it may have the label of an element.

        ``text``: as it came; ``start``: where it starts in the answer. A mark has no text.
        """
        if self._waiting or _MAYBE_LABEL.search(text):
            self._waiting.append(_Piece(shown, text, start))
        else:
            self.terminal.out.print(shown, end="")

    def _filled(self, piece: _Piece) -> Text:
        """Return a piece with values in place of labels.

        A label is text such as "[Order status]" that an element names by its span. Labels are found by their
        words: ``shown`` is shorter than ``text``, where "**" has become bold.
        """
        filled, rest = Text(), piece.shown
        for element in sorted(self._elements.values(), key=lambda element: element.display.start):
            start, end = element.display.start - piece.start, element.display.end - piece.start
            if not 0 <= start < end <= len(piece.text) or element.state is ElementState.PENDING:
                continue
            label = piece.text[start:end]
            if (at := rest.plain.find(label)) >= 0:
                self._in_text.add(element.id)
                filled.append_text(rest[:at]).append_text(shown_element(element, label=label))
                rest = rest[at + len(label) :]
        return filled.append_text(rest)


def with_bold(text: str) -> Text:
    """Return Markdown with its bold parts in bold; other marks stay as written."""
    shown = Text()
    for place, part in enumerate(_BOLD.split(text)):
        shown.append_text(plain(part, style="bold" if place % 2 else ""))
    return shown


def prints(event: AnswerEvent) -> bool:
    """Return whether an answer's printer prints anything when the event comes."""
    match event:
        case events.Started():
            return bool(event.red_flags or event.unchecked_language or event.recorded_model)
        case events.Sources():
            return event.offered is not None or event.section is not None
        case events.Preview():
            return False
        case _:
            return True


def _show_started(terminal: Terminal, started: events.Started) -> None:
    _show_flags(terminal, started.red_flags)
    if started.unchecked_language is not None:
        notice = events.unchecked_notice(started.unchecked_language)
        terminal.out.print(styled((notice, "bold yellow")))
    if started.recorded_model:
        terminal.show(f"Plays recorded answers of {started.recorded_model}.", "dim")
    if prints(started):
        terminal.out.print()


def _show_flags(terminal: Terminal, flags: Sequence[answers.RedFlag]) -> None:
    for flag in flags:
        terminal.out.print(styled((flag.text, "bold red"), (f"  Call: {flag.call}", "bold red")))


def _show_beside(terminal: Terminal, event: events.Sources, *, shows_section: bool) -> None:
    """Print what is offered before the text: an approved answer, and the section of a document."""
    if (offered := event.offered) is not None:
        head = ("Approved answer to a near question", "bold cyan")
        terminal.out.print(styled(head, (f"  {offered.question}", "bold"), (f" [{offered.n}]", "cyan")))
        terminal.out.print(with_bold(f"{_indented(offered.text)}\n"))
    if event.section is not None and shows_section:
        _show_other(terminal, "While the model writes", event.section)
        terminal.out.print()


def show_remarks(
    terminal: Terminal,
    ending: Done | answers.AnswerRecord,
    sentences: Sequence[answers.Sentence],
    *,
    live_only: bool = False,
) -> None:
    """Print below an answer's text how it was made, how certain it is, and its alternatives.

    ``ending``: the last event of an answer that arrived, or the record of one. ``live_only``: its text is
    nothing but live elements.
    """
    out = terminal.out
    if ending.mode is not None:
        out.print()
        _show_how_made(terminal, ending, live_only=live_only)
    else:
        _show_no_answer(terminal, ending)
    if ending.escalation:
        out.print(styled(("Ask: ", "bold"), (ending.escalation, "")))
    _show_withheld(terminal, sentences)
    _show_missing(terminal, ending)
    for question in ending.unanswered:
        out.print(styled(("Not answered: ", "bold yellow"), (question, "yellow")))
    if ending.clarify:
        out.print(styled(("\nAsk back  ", "bold cyan"), (ending.clarify, "")))
    for also in ending.also:
        _show_other(terminal, "\nAlso possible", also)


def _show_missing(terminal: Terminal, ending: answers.AnswerEnding) -> None:
    for missing in ending.loading:
        text = str(missing)
        terminal.show(f"{text[0].upper()}{text[1:]}. The answer may change.", "yellow")
    if ending.degraded:
        terminal.show(f"Left out, because it failed or was late: {', '.join(ending.degraded)}.", "yellow")
    if silent := [source.name for source in ending.asked if source.state in ("late", "failed")]:
        terminal.show(f"Did not answer: {', '.join(silent)}.", "yellow")


def _show_withheld(terminal: Terminal, sentences: Sequence[answers.Sentence]) -> None:
    withheld = [sentence for sentence in sentences if sentence.detail == "withheld"]
    if withheld:
        values = ", ".join(dict.fromkeys(value for sentence in withheld for value in sentence.values))
        counted = "1 sentence" if len(withheld) == 1 else f"{len(withheld)} sentences"
        terminal.show(f"Withheld: {counted} of the model's; no source has {values}.", "yellow")


def _show_how_made(terminal: Terminal, ending: Done | answers.AnswerRecord, *, live_only: bool) -> None:
    if ending.certainty is answers.Certainty.POSSIBLY:
        terminal.show(_UNCERTAIN, "bold yellow")
    badge = _words("made")["live" if live_only else str(ending.mode)]
    if ending.fallback:
        why = _words("fallback").get(ending.fallback, f"it did not answer ({ending.fallback})")
        badge += f", in place of the model's text: {why}"
    terminal.show(badge, "dim")
    if ending.mode is answers.Mode.WRITTEN and isinstance(ending, Done) and not ending.check_follows:
        terminal.show(_words("checked")["none"], "dim")
    if ending.finish_reason in (answers.FinishReason.LENGTH, answers.FinishReason.CONTENT_FILTER):
        terminal.show(_words("ending")[str(ending.finish_reason)], "yellow")


def _show_no_answer(terminal: Terminal, ending: Done | answers.AnswerRecord) -> None:
    """Print why there is no text. A record keeps the reason as a code only."""
    detail = _words("ending").get(ending.finish_reason or "")
    reason = ending.reason if isinstance(ending, Done) else None
    if ending.finish_reason is answers.FinishReason.NO_EVIDENCE:
        detail, reason = reason or detail, None
    if detail:
        terminal.show(detail, "yellow")
    if reason:
        terminal.show(reason, "dim")


def _show_other(terminal: Terminal, head: str, also: answers.AlsoPossible) -> None:
    """Print another section than the answer's."""
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
        reasons = ", ".join(_words("unsupported").get(reason, reason) for reason in sentence.reasons)
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
    """Print the numbered sources, those that the answer cites in bold, their titles as links (OSC 8).

    The signed address of a document of our own is too long to read: ``--json`` has it.
    """
    if not sources:
        return
    terminal.out.print(Text("\nLooked at" if looked_at else "\nSources", style="bold"))
    documents = defaultdict[str, list[answers.Source]](list)
    for source in sources:
        documents[source.document_id].append(source)
    numbers = [", ".join(str(source.n) for source in same) for same in documents.values()]
    width = max(map(len, numbers))
    for listed, same in zip(numbers, documents.values(), strict=True):
        first = same[0]
        is_cited = any(source.n in cited for source in same)
        link = _line(plain(first.url or base_url + first.document_url).plain)
        shown = styled((f"  {listed:>{width}}  ", "cyan"), (first.title, "bold" if is_cited else ""))
        shown.stylize(Style(link=link), width + 4)
        about = f"  {first.document_id}{_effective(first.effective_date)}"
        terminal.out.print(shown.append_text(plain(about, style="dim")))
        if first.banner:
            terminal.show(f"{'':{width + 4}}{first.banner}", "yellow")
        if len(link) <= _LONGEST_LINK:
            terminal.show(f"{'':{width + 4}}{link}", "dim")


# --- live elements -------------------------------------------------------------------------------------
def shown_element(element: Element, *, label: str = "") -> Text:
    """Return the values with source and time, "Delayed (orders, 14:02)"; or the label and what happened."""
    if element.state is ElementState.READY and element.data is not None:
        return Text(" · ").join(_values(element.data)).append_text(_origin(element))
    words = _words("element").get(element.problem or "")
    reason = words.format(source=element.source) if words else element.detail
    return plain(label).append_text(_remark(reason, style="yellow"))


def _origin(element: Element) -> Text:
    """Return source, time and what it is about: "(orders, 14:02, order 4471-2208)"."""
    parts = (element.source, _time(element), element.about)
    return _remark(", ".join(part for part in parts if part), style="dim")


def _values(data: ElementData) -> Iterator[Text]:
    """Yield the values, rows and link of an element, each for one line: "Status Delayed", "Cup: price $4"."""
    several = len(data.values) > 1
    for value in data.values:
        name = f"{_line(value.label)} " if several and value.label else ""
        yield styled((name, ""), (_line(value.text), _TONES[value.tone]))
    for row in data.rows:
        cells = ", ".join(_cell(value, data.columns) for value in row.values)
        yield styled((f"{_line(row.title)}: ", ""), (cells, "bold"))
    if data.url:
        yield plain(_line(data.url), style="underline")


def _cell(value: ElementValue, columns: Sequence[ElementValue]) -> str:
    label = next((column.label for column in columns if column.name == value.name), value.label)
    return _line(f"{label} {value.text}")


def _time(element: Element) -> str:
    at = element.as_of
    if at is None:
        return ""
    return f"{at.astimezone():%H:%M}" if isinstance(at, datetime) else at.isoformat()


def _remark(words: str, *, style: str) -> Text:
    return plain(f" ({_line(words)})", style=style)


def _line(text: str) -> str:
    """Return untrusted text on one line."""
    return " ".join(text.split())


def is_in_text(element: Element, text: str) -> bool:
    """Return whether the answer's text has all that a table shows, so that the table is not printed.

    The text is that of the element's ``display`` span, which a page replaces by the table.
    """
    if element.data is None or not element.data.rows:
        return False
    words = _line(text[element.display.start : element.display.end])
    rows = element.data.rows
    return all(
        _line(shown) in words for row in rows for shown in (row.title, *(value.text for value in row.values))
    )


# --- records -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Replayed:
    """A record with the text of its passages, where the document store still has it."""

    record: answers.AnswerRecord
    texts: tuple[str | None, ...]
    """In the order of the record's passages; None where the text was removed or replaced."""
    verdicts: tuple[answers.StoredVerdict, ...]


def show_replayed(terminal: Terminal, replayed: Replayed) -> None:
    """Print a record with the text of its passages, how it was made and its verdicts."""
    record = replayed.record
    terminal.show(record.question, "bold")
    terminal.out.print(
        plain(f"{record.agent}, {record.asked_at:%Y-%m-%d %H:%M:%S} UTC, {record.answer_id}", style="dim")
    )
    terminal.out.print()
    _show_text(terminal, record)
    for use, text in zip(record.passages, replayed.texts, strict=True):
        title, passage_id = (use.title, "bold"), (f"  {use.passage_id}", "dim")
        terminal.out.print(styled((f"\n{use.n:>3}  ", "cyan"), title, passage_id))
        gone = "(no longer stored: the document was withdrawn or replaced)"
        terminal.out.print(plain(gone, style="dim") if text is None else plain(text))
    explain(terminal, record)
    for stored in replayed.verdicts:
        show_verdict(terminal, stored)


def _show_text(terminal: Terminal, record: answers.AnswerRecord) -> None:
    """Print the answer's text with the marks behind its sentences."""
    printer = AnswerPrinter(terminal, base_url="")
    printer.show(events.Token(record.text))
    for sentence in record.sentences:
        printer.show(events.SentenceEnded(**dict(sentence)))
    printer.end_text()
    live_only = bool(record.elements) and not record.sentences
    show_remarks(terminal, record, record.sentences, live_only=live_only)
    reason = record.finish_reason or record.error_code or ""
    terminal.show(f"({record.outcome}: {reason})", "dim")


def show_verdict(terminal: Terminal, stored: answers.StoredVerdict) -> None:
    """Print a verdict with its reasons and the better text."""
    verdict = stored.verdict
    style = "green" if verdict.label is answers.VerdictLabel.GOOD else "red"
    at, label = (f"{stored.at:%Y-%m-%d %H:%M}  ", "dim"), (f"{verdict.label.value:<5}", style)
    rest = f" {stored.answer_id}  {stored.agent}  {', '.join(verdict.reasons)}"
    terminal.out.print(styled(at, label, (rest, "")))
    if verdict.better_text:
        terminal.show(f"      better: {verdict.better_text}")


def explain(terminal: Terminal, record: answers.AnswerRecord) -> None:
    """Print the record's retrieval, ranking, gate, quotes, prompt, model and timings: a line a field."""
    terminal.out.print()
    fields = record.model_dump(mode="json", include=_EXPLAINED)
    if record.gate is not None:
        fields["gate"] = record.gate.model_dump(exclude_defaults=True)
    if record.prompt_hash is None:
        fields = {name: value for name, value in fields.items() if name not in _OF_MODEL}
        fields["model"] = "not asked"
    for match in fields["live_matches"]:
        match["state"] = _words("live_match")[match["state"]]
    more = len(record.candidates) - _CANDIDATES
    first = {
        "passages": [use.model_dump(include=_OF_PASSAGE) for use in record.passages],
        "candidates": fields.pop("candidates")[:_CANDIDATES],
        "more": f"{more}: --json" if more > 0 else "",
    }
    terminal.fields(first | fields)


async def answer_on(
    terminal: Terminal, client: AssistantClient, question: Question, *, shows_section: bool = True
) -> AnswerPrinter:
    """Show one streamed answer, below a spinner that the first print ends.

    Raises RefusedByServiceError, UnreachableError.
    """
    printer = AnswerPrinter(terminal, base_url=client.base_url, shows_section=shows_section)
    with ExitStack() as waiting:
        waiting.enter_context(terminal.waiting("reading the knowledge base"))
        async with aclosing(client.stream(question)) as events:
            async for event in events:
                if prints(event):
                    waiting.close()
                printer.show(event)
    if printer.problem is not None:
        raise refusal(printer.problem)
    return printer


async def reply_on(terminal: Terminal, client: AssistantClient, answer: AnswerPrinter) -> None:
    """Show a reply to the patient below its answer, with what the check found. Raises RefusedByServiceError
    (no model writes), UnreachableError."""
    reply = await client.write_reply(answer.answer_id or "", answers.ReplyBody(live=answer.live))
    terminal.out.print(styled(("\nFor the patient  ", "bold cyan"), (reply.text, "")))
    for check in reply.checks:
        where = [", ".join(check.values), f"“{reply.text[check.start : check.end]}”" if check.end else ""]
        terminal.show(f"{_words('reply')[check.kind]}: {' in '.join(filter(None, where))}", "yellow")
        if check.line:
            terminal.show(f"  {check.line}", "dim")
    if reply.degraded:
        terminal.show(_words("reply")["unread"], "yellow")


def question_of(text: str, *, context: str | None = None) -> Question:
    """Return a question whose answer ends when the command ends."""
    return Question(question=text, context=context, resume_window_s=0)
