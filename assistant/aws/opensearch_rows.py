"""Rows of the index: a passage, or a document's title or one of its questions; and what they keep, back.

The row of the title leads: it stands for the document, with its card, its words and its whole text. Fields
are for searching only; what is given back stands whole in ``kept``, a binary column, packed: to read stored
fields of both legs costs the domain 10 ms a search, columns 1 ms (decision 0008), and every hit's column
travels while only those that are shown are unpacked. A document stands packed in ``card``.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson

from assistant.adapters.index_values import (
    card_from,
    card_values,
    from_microseconds,
    microseconds,
    unit_values,
    units_from,
    whole_text,
)
from assistant.domain.documents import DocumentCard, IndexedDocument, Passage, Span

UNLABELLED = "*"
"""Stands in ``visible_to`` of a row that every agent sees."""
DEFINES = "\t"
"""Between the short and the long form of an abbreviation."""

Kind = Literal["passage", "title"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a document, under its id."""

    row_id: str
    body: dict[str, Any]


def row_id(document_id: str, kind: Kind, ordinal: int) -> str:
    """Return the id of a row; no document id holds a "#"."""
    return f"{document_id}#{ordinal}" if kind == "passage" else f"{document_id}#title{ordinal}"


def document_id_of(row_id: str) -> str:
    return row_id.rpartition("#")[0]


def visibility_terms(labels: Iterable[str]) -> list[str]:
    """Return labels as ``visible_to`` holds them: the prefix keeps any label apart from ``UNLABELLED``."""
    return [f"={label}" for label in labels]


def rows_of(document: IndexedDocument, *, indexed_at: datetime) -> Iterator[Row]:
    """Yield the rows of a document, passages first. A document without passages has none."""
    if not document.passages:
        return
    for passage, vector in document.passages:
        yield passage_row(passage, vector, indexed_at=indexed_at)
    card = document.card
    asked = zip((card.title, *card.questions), document.title_vectors, strict=True)
    for ordinal, (text, vector) in enumerate(asked):
        name = row_id(card.document_id, "title", ordinal)
        body = _filtered("title", name, ordinal, card, indexed_at)
        body |= {"asked": text, "title_vector": vector, "leads": ordinal == 0}
        if ordinal == 0:
            body |= {
                "text": whole_text(passage for passage, _ in document.passages),
                "words": card.words,
                "abbreviations": [DEFINES.join(pair) for pair in card.abbreviations],
                "card": _packed(card_values(card)),
            }
        yield Row(name, body)


def passage_row(passage: Passage, vector: Sequence[float], *, indexed_at: datetime) -> Row:
    body = _filtered("passage", passage.passage_id, passage.ordinal, passage, indexed_at)
    body |= {
        "title": passage.title,
        "heading": passage.heading,
        "body": passage.text,
        "kept": _packed(_kept(passage)),
        "vector": vector,
    }
    return Row(passage.passage_id, body)


def passage_of(kept: str) -> Passage:
    """Return the passage that a row keeps (base64 without padding, as columns give it back).

    Raises ValueError, TypeError, KeyError or IndexError when it is something else.
    """
    row = _unpacked(kept)
    span = Span(*row["span"])
    return Passage(
        passage_id=row["passage_id"],
        document_id=row["document_id"],
        content_hash=row["content_hash"],
        ordinal=row["ordinal"],
        title=row["title"],
        heading=row["heading"],
        text=row["text"],
        span=span,
        token_count=row["token_count"],
        source=row["source"],
        type=row["type"],
        url=row["url"],
        updated_at=from_microseconds(row["updated_at_us"]),
        labels=tuple(row["labels"]),
        units=units_from(row["units"], text=row["text"], span=span),
    )


def card_of(kept: str) -> DocumentCard:
    """Return the card that a leading row keeps. Raises as ``passage_of``."""
    return card_from(_unpacked(kept))


def _filtered(
    kind: Kind, name: str, ordinal: int, of: Passage | DocumentCard, indexed_at: datetime
) -> dict[str, Any]:
    """Return what every row has."""
    return {
        "row_id": name,
        "kind": kind,
        "document_id": of.document_id,
        "ordinal": ordinal,
        "source": of.source,
        "type": of.type,
        "visible_to": visibility_terms(of.labels) if of.labels else [UNLABELLED],
        "updated_at_us": microseconds(of.updated_at),
        "indexed_at_us": microseconds(indexed_at),
    }


def _kept(passage: Passage) -> dict[str, Any]:
    return {
        "passage_id": passage.passage_id,
        "document_id": passage.document_id,
        "content_hash": passage.content_hash,
        "ordinal": passage.ordinal,
        "title": passage.title,
        "heading": passage.heading,
        "text": passage.text,
        "span": [passage.span.start, passage.span.end],
        "token_count": passage.token_count,
        "source": passage.source,
        "type": passage.type,
        "url": passage.url,
        "updated_at_us": microseconds(passage.updated_at),
        "labels": passage.labels,
        "units": unit_values(passage),
    }


def _packed(values: dict[str, Any]) -> str:
    return base64.b64encode(zlib.compress(orjson.dumps(values))).decode("ascii")


def _unpacked(kept: str) -> Any:
    packed = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4))
    try:
        return orjson.loads(zlib.decompress(packed))
    except zlib.error as error:
        raise ValueError("not packed") from error
