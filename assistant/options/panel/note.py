"""Makes the note of a conversation from its stored answers. Documents' lines are read when it is made.

    28 Nov 2026, 10:02 to 10:04 CST

    Asked 10:02: How long may the vaccine stay outside the refrigerator?
      Unopened vials may stand at up to 25 °C for 30 days.
        (Cold chain, Excursions)
      Sent 10:04: It may stand outside for 30 days.

Docstrings of the models are in ``docs/openapi.json``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import groupby
from typing import Literal

from assistant.answer.excerpts import shown_title
from assistant.domain.answers import AnswerRecord, Outcome, Sentence, Source, StoredAnswer, StoredSent
from assistant.domain.public import PublicModel
from assistant.stores.ports import DocumentTexts

Why = Literal["no_document", "failed", "not_sent"]
WHY: Mapping[Why, str] = {
    "no_document": "no document answers",
    "failed": "the answer failed",
    "not_sent": "nothing was sent",
}


class NoteLine(PublicModel):
    """A line that answered."""

    text: str
    """Empty where it may not be read any more."""
    title: str
    headings: str = ""
    document_id: str
    content_hash: str
    span: tuple[int, int] | None = None
    """None of a line that is part of a quoted section."""
    url: str | None = None
    withdrawn: bool = False

    @property
    def source(self) -> str:
        """The source in words."""
        names = [self.title, *filter(None, self.headings.split(" > ")), *["withdrawn"] * self.withdrawn]
        return f"({', '.join(names)})"


class NoteSent(PublicModel):
    """A text that was sent."""

    at: datetime
    text: str
    reason: str | None = None


class NoteEntry(PublicModel):
    """A question of the conversation."""

    answer_id: str
    at: datetime
    question: str
    lines: tuple[NoteLine, ...]
    sent: tuple[NoteSent, ...]
    open: tuple[tuple[str, Why], ...] = ()
    """Questions that stayed open, and why."""


class Note(PublicModel):
    """``GET /v1/conversations/{id}/note``."""

    conversation_id: str
    entries: tuple[NoteEntry, ...]

    def as_text(self, zone: tzinfo = UTC) -> str:
        """Return the note as plain text, with the times of a zone."""
        first, last = self.entries[0].at.astimezone(zone), self._last.astimezone(zone)
        until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%d %b %Y, %H:%M}"
        parts = [f"{first:%d %b %Y, %H:%M} to {until} {last:%Z}".removeprefix("0")]
        parts += ["\n".join(_entry_lines(entry, zone)) for entry in self.entries]
        if left := [f"  {_line(text)} ({WHY[why]})" for row in self.entries for text, why in row.open]:
            parts.append("\n".join(["Open", *left]))
        return "\n\n".join(parts) + "\n"

    @property
    def _last(self) -> datetime:
        return max(at for entry in self.entries for at in (entry.at, *(sent.at for sent in entry.sent)))


def _entry_lines(entry: NoteEntry, zone: tzinfo) -> Iterator[str]:
    """Yield a note's lines about a question: the question, each source below its lines, what was sent."""
    yield f"Asked {entry.at.astimezone(zone):%H:%M}: {_line(entry.question)}"
    for source, lines in groupby(entry.lines, key=lambda line: line.source):
        yield from (f"  {_line(line.text)}" for line in lines if line.text)
        yield f"    {source}"
    for sent in entry.sent:
        why = f" (sent in spite of the check: {_line(sent.reason)})" if sent.reason else ""
        yield f"  Sent {sent.at.astimezone(zone):%H:%M}: {_line(sent.text)}{why}"


def _line(text: str) -> str:
    return " ".join(text.split())


async def make_note(
    conversation_id: str, answers: Sequence[StoredAnswer], texts: DocumentTexts, *, labels: frozenset[str]
) -> Note:
    """Return the note of a conversation's answers, oldest first. ``labels``: the access labels of the agent
    who reads the note. Raises DependencyError."""
    entries = [
        NoteEntry(
            answer_id=answer.record.answer_id,
            at=answer.record.asked_at,
            question=answer.record.question,
            lines=tuple([await _read(*place, texts=texts, labels=labels) for place in _places(answer)]),
            sent=tuple(map(_note_sent, answer.sent)),
            open=tuple(_left_open(answer.record, is_sent=bool(answer.sent))),
        )
        for answer in answers
    ]
    return Note(conversation_id=conversation_id, entries=tuple(entries))


def _note_sent(stored: StoredSent) -> NoteSent:
    return NoteSent(at=stored.at, text=stored.sent.text, reason=stored.sent.reason)


def _places(answer: StoredAnswer) -> Sequence[tuple[Source, str | tuple[int, int]]]:
    """Return where the lines stand that answered, each once: the units that written sentences cite, by their
    span in the source, then the marked lines of quotes (where none is marked, all that are not folded), by
    their words."""
    record, sources = answer.record, {source.n: source for source in answer.sources}
    quoted = [line for line in record.sentences if _is_quoted(line, sources)]
    marked = [line for line in quoted if line.is_key] or [line for line in quoted if line.quote != "folded"]
    written = [line for line in record.sentences if line.quote is None]
    spans = [(unit.n, (unit.start, unit.end)) for line in written for unit in line.cited]
    words = [(line.citations[0], record.text[line.start : line.end]) for line in marked]
    return [(sources[n], where) for n, where in dict.fromkeys([*spans, *words]) if n in sources]


def _is_quoted(sentence: Sentence, sources: Mapping[int, Source]) -> bool:
    """Return whether a sentence is text of a document or of an approved answer, unchanged."""
    cites = sentence.citations if sentence.quote or not sentence.cited else ()
    source = sources.get(cites[0]) if cites else None
    return source is not None and (sentence.quote is not None or source.kind == "approved")


async def _read(
    source: Source, where: str | tuple[int, int], *, texts: DocumentTexts, labels: frozenset[str]
) -> NoteLine:
    """Return a line of a source as the document has it now.

    ``where``: its span, or its words, which are searched for. The line has no words where the document was
    withdrawn or is not open to these labels; no span where the words are not in it: the answer had live
    values in them.
    """
    parsed = await texts.read(source.document_id, source.content_hash, labels=labels)
    line = NoteLine(
        text="",
        title=shown_title(source.title),
        document_id=source.document_id,
        content_hash=source.content_hash,
        url=source.url,
        withdrawn=parsed is None or source.withdrawn,
    )
    if parsed is None or source.withdrawn:
        return line
    at = parsed.text.find(where) if isinstance(where, str) else where[0]
    if at < 0 and isinstance(where, str):  # with words in place of live values
        return line.model_copy(update={"text": where})
    span = (at, at + len(where)) if isinstance(where, str) else where
    heading = next((unit.heading for unit in parsed.units if unit.span.start <= at < unit.span.end), "")
    first, _, below = heading.partition(" > ")  # the first may repeat the title
    heading = below if first == source.title else heading
    more = {"text": parsed.text[slice(*span)], "span": span, "headings": heading}
    return line.model_copy(update=more)


def _left_open(record: AnswerRecord, *, is_sent: bool) -> Iterator[tuple[str, Why]]:
    """Yield the questions of an answer that stayed open. A message may have several (``unanswered``)."""
    if record.outcome is not Outcome.DONE:
        yield record.question, "failed"
    elif record.is_unanswered:
        if record.reading is None or record.reading.asks:  # else thanks, or a greeting
            yield record.question, "no_document"
    else:
        for question in record.unanswered:
            yield question, "no_document"
        if not is_sent:
            yield record.question, "not_sent"
