"""A passage as it stands in the index, and back.

Fields are for searching only; what is given back stands whole in ``kept``, a binary column, packed: to read
stored fields of both legs costs the domain 10 ms a search, columns 1 ms (decision 0008), and every hit's
column travels while only those that are shown are unpacked.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from assistant.domain.documents import Passage, Span

UNLABELLED = "*"
"""Stands in ``visible_to`` of a passage that every agent sees."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def visibility_terms(labels: Iterable[str]) -> list[str]:
    """Return labels as ``visible_to`` holds them: the prefix keeps any label apart from ``UNLABELLED``."""
    return [f"={label}" for label in labels]


def microseconds(instant: datetime) -> int:
    """Return microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def row_of(passage: Passage, vector: Sequence[float], *, indexed_at: datetime, leads: bool) -> dict[str, Any]:
    """Return the body that is indexed under the passage's id. Exactly one passage of a document leads."""
    return {
        "passage_id": passage.passage_id,
        "document_id": passage.document_id,
        "ordinal": passage.ordinal,
        "leads": leads,
        "title": passage.title,
        "heading": passage.heading,
        "body": passage.text,
        "source": passage.source,
        "type": passage.type,
        "visible_to": visibility_terms(passage.labels) if passage.labels else [UNLABELLED],
        "updated_at_us": microseconds(passage.updated_at),
        "indexed_at_us": microseconds(indexed_at),
        "kept": base64.b64encode(zlib.compress(orjson.dumps(_kept(passage)))).decode("ascii"),
        "vector": vector,
    }


def passage_of(kept: str) -> Passage:
    """Return the passage that a row keeps (base64 without padding, as columns give it back).

    Raises ValueError, TypeError or KeyError when it is something else.
    """
    packed = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4))
    try:
        row = orjson.loads(zlib.decompress(packed))
    except zlib.error as error:
        raise ValueError("not packed") from error
    start, end = row["span"]
    return Passage(
        passage_id=row["passage_id"],
        document_id=row["document_id"],
        content_hash=row["content_hash"],
        ordinal=row["ordinal"],
        title=row["title"],
        heading=row["heading"],
        text=row["text"],
        span=Span(start, end),
        token_count=row["token_count"],
        source=row["source"],
        type=row["type"],
        url=row["url"],
        updated_at=from_microseconds(row["updated_at_us"]),
        labels=tuple(row["labels"]),
    )


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
    }
