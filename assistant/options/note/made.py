"""Makes the note of a conversation from its stored answers. Documents' lines are read when it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
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
_HASH_DIGITS = 8


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
        place = f"{self.title} > {self.headings}" if self.headings else self.title
        digits = f", content {self.content_hash[:_HASH_DIGITS]}" if self.content_hash else ""
        return f"{place} (document {self.document_id}{digits}{', withdrawn' if self.withdrawn else ''})"


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

    def as_text(self) -> str:
        """Return the note as plain text."""
        first, last, many = self.entries[0].at, self.entries[-1].at, len(self.entries)
        until = f"{last:%H:%M}" if first.date() == last.date() else f"{last:%Y-%m-%d %H:%M}"
        asked = f"{many} question{'' if many == 1 else 's'}, {first:%Y-%m-%d %H:%M} to {until} UTC"
        parts = [f"Conversation {self.conversation_id}, {asked}"]
        parts += ["\n".join(_of_entry(entry)) for entry in self.entries]
        if left := [
            f"  {one.at:%H:%M} {_line(asked)} ({WHY[why]})" for one in self.entries for asked, why in one.open
        ]:
            parts.append("\n".join(["Open", *left]))
        return "\n\n".join(parts) + "\n"


def _of_entry(entry: NoteEntry) -> Iterator[str]:
    yield f"{entry.at:%H:%M} {_line(entry.question)}"
    for source, lines in groupby(entry.lines, key=lambda line: line.source):
        yield from (f"  {_line(line.text)}" for line in lines if line.text)
        yield f"    {source}"
    for sent in entry.sent:
        why = f" (sent in spite of the check: {_line(sent.reason)})" if sent.reason else ""
        yield f"  Sent {sent.at:%H:%M}: {_line(sent.text)}{why}"


def _line(text: str) -> str:
    return " ".join(text.split())


async def make_note(
    conversation_id: str, answers: Sequence[StoredAnswer], texts: DocumentTexts, *, labels: frozenset[str]
) -> Note:
    """Return the note of a conversation's answers, oldest first. Raises DependencyError."""
    entries = [
        NoteEntry(
            answer_id=answer.record.answer_id,
            at=answer.record.asked_at,
            question=answer.record.question,
            lines=tuple([await _read(*place, texts=texts, labels=labels) for place in _places(answer)]),
            sent=tuple(map(_of_sent, answer.sent)),
            open=tuple(_left_open(answer.record, is_sent=bool(answer.sent))),
        )
        for answer in answers
    ]
    return Note(conversation_id=conversation_id, entries=tuple(entries))


def _of_sent(stored: StoredSent) -> NoteSent:
    return NoteSent(at=stored.at, text=stored.sent.text, reason=stored.sent.reason)


def _places(answer: StoredAnswer) -> Sequence[tuple[Source, str | tuple[int, int]]]:
    """Return where the lines stand that answered: a span, or their words, each once."""
    record, sources = answer.record, {source.n: source for source in answer.sources}
    quoted = [one for one in record.sentences if _is_quoted(one, sources)]
    marked = [one for one in quoted if one.is_key] or [one for one in quoted if one.quote != "folded"]
    written = [(unit.n, (unit.start, unit.end)) for one in record.sentences for unit in one.cited]
    words = [(one.citations[0], record.text[one.start : one.end]) for one in marked]
    return [(sources[n], where) for n, where in dict.fromkeys([*written, *words]) if n in sources]


def _is_quoted(sentence: Sentence, sources: Mapping[int, Source]) -> bool:
    """Return whether a sentence stands as a document, or an approved answer, has it."""
    source = sources.get(sentence.citations[0]) if sentence.citations and not sentence.cited else None
    return source is not None and (sentence.quote is not None or source.kind == "approved")


async def _read(
    source: Source, where: str | tuple[int, int], *, texts: DocumentTexts, labels: frozenset[str]
) -> NoteLine:
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
    heading = next((one.heading for one in parsed.units if one.span.start <= at < one.span.end), "")
    more = {"text": parsed.text[slice(*span)], "span": span, "headings": heading}
    return line.model_copy(update=more)


def _left_open(record: AnswerRecord, *, is_sent: bool) -> Iterator[tuple[str, Why]]:
    if record.outcome is not Outcome.DONE:
        yield record.question, "failed"
    elif record.is_unanswered:
        yield record.question, "no_document"
    else:
        for asked in record.unanswered:
            yield asked, "no_document"
        if not is_sent:
            yield record.question, "not_sent"
