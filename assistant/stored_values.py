"""How both twins store a document's units and card, and a batch of an answer's event log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import Any

import orjson

from assistant.answering.ports import LogBatch
from assistant.domain.answers import Excerpt
from assistant.domain.documents import DocumentCard, KnownWords, Passage, Span, Unit, UnitKind

LONGEST_WHOLE_TEXT = 200_000
"""Some 30,000 words: in UTF-8 less than one bulk call takes."""
_KINDS: tuple[UnitKind, ...] = tuple(UnitKind)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Return microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def unit_values(passage: Passage) -> dict[str, Any]:
    """Return the units of a passage: each heading once, and the text only where the passage's text does not
    hold all of it."""
    headings = list(dict.fromkeys(unit.heading for unit in passage.units))
    places = {heading: place for place, heading in enumerate(headings)}
    rows: list[list[Any]] = []
    for unit in passage.units:
        row = [
            unit.ordinal,
            _KINDS.index(unit.kind),
            unit.span.start,
            unit.span.end,
            places[unit.heading],
            unit.parent,
            " ".join(unit.terms),
        ]
        rows.append(row if _slice(passage.text, passage.span, unit.span) == unit.text else [*row, unit.text])
    return {"headings": headings, "rows": rows}


def units_from(values: Mapping[str, Any], *, text: str, span: Span) -> tuple[Unit, ...]:
    """Return what ``unit_values`` was made from; ``text`` and ``span`` are the passage's.

    Raises KeyError, IndexError, TypeError or ValueError when it is something else.
    """
    headings = values["headings"]
    units: list[Unit] = []
    rows: list[list[Any]] = values["rows"]
    for ordinal, kind, start, end, heading, parent, terms, *own_text in rows:
        within = Span(start, end)
        units.append(
            Unit(
                ordinal=ordinal,
                kind=_KINDS[int(kind)],
                text=own_text[0] if own_text else _slice(text, span, within),
                span=within,
                heading=headings[heading],
                parent=parent,
                terms=tuple(terms.split()),
            )
        )
    return tuple(units)


def _slice(text: str, span: Span, wanted: Span) -> str:
    start = wanted.start - span.start
    return text[start : start + wanted.end - wanted.start] if start >= 0 else ""


def card_values(card: DocumentCard) -> dict[str, Any]:
    return {
        "document_id": card.document_id,
        "content_hash": card.content_hash,
        "title": card.title,
        "questions": card.questions,
        "source": card.source,
        "type": card.type,
        "url": card.url,
        "owner": card.owner,
        "effective_date": card.effective_date and card.effective_date.isoformat(),
        "updated_at_us": microseconds(card.updated_at),
        "labels": card.labels,
        "abbreviations": card.abbreviations,
        "words": " ".join(card.words),
    }


def card_from(values: Mapping[str, Any]) -> DocumentCard:
    """Return what ``card_values`` was made from. Raises KeyError, TypeError or ValueError when it is
    something else."""
    effective = values["effective_date"]
    return DocumentCard(
        document_id=values["document_id"],
        content_hash=values["content_hash"],
        title=values["title"],
        questions=tuple(values["questions"]),
        source=values["source"],
        type=values["type"],
        url=values["url"],
        owner=values["owner"],
        effective_date=None if effective is None else date.fromisoformat(effective),
        updated_at=from_microseconds(values["updated_at_us"]),
        labels=tuple(values["labels"]),
        abbreviations=tuple((short, long) for short, long in values["abbreviations"]),
        words=tuple(values["words"].split()),
    )


def whole_text(passages: Iterable[Passage]) -> str:
    """Return a document's text as its passages hold it, each heading once where it begins.

    Of a longer text the first LONGEST_WHOLE_TEXT characters count: its passages find the rest.
    """
    parts: list[str] = []
    heading = ""
    for passage in passages:
        if passage.heading != heading:
            heading = passage.heading
            parts.append(heading)
        parts.append(passage.text)
    return "\n".join(parts)[:LONGEST_WHOLE_TEXT]


def known_words_of(words: Mapping[str, int], definitions: Mapping[tuple[str, str], int]) -> KnownWords:
    """Return the words with the abbreviations that documents define alike.

    ``definitions`` counts the documents of each (short form, long form). A short form whose long forms differ
    in more than a plural "s" is left out.
    """
    long_forms: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (short, long), documents in definitions.items():
        long_forms[short][long] = documents
    agreed = {
        short: min(longs, key=lambda long: (-longs[long], len(long), long))
        for short, longs in long_forms.items()
        if len({long.removesuffix("s") for long in longs}) == 1
    }
    return KnownWords(words=dict(words), abbreviations=agreed)


# One batch of an answer's event log as bytes, the same in every store: a line of JSON, then the frames.


def encode_log_batch(batch: LogBatch) -> bytes:
    """Return ``batch`` without its number, which is its key in the store."""
    head: list[Any] = [batch.first_sequence, batch.ended, [len(frame) for frame in batch.frames]]
    if batch.excerpts:
        head.append([excerpt.model_dump(mode="json", exclude_defaults=True) for excerpt in batch.excerpts])
    return b"\n".join((orjson.dumps(head), b"".join(batch.frames)))


def decode_log_batch(number: int, stored: bytes) -> LogBatch:
    """Return the batch that ``to_bytes`` wrote."""
    head, _, joined = stored.partition(b"\n")
    values: list[Any] = orjson.loads(head)
    sizes: list[int] = values[2]
    ends = list(accumulate(sizes))
    return LogBatch(
        number=number,
        first_sequence=values[0],
        frames=tuple(joined[end - size : end] for end, size in zip(ends, sizes, strict=True)),
        ended=values[1],
        excerpts=tuple(Excerpt.model_validate(excerpt) for excerpt in values[3]) if values[3:] else (),
    )
