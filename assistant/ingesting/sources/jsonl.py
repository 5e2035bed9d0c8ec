"""Question-and-answer pairs, one JSON object a line, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from assistant.domain.errors import DocumentInvalidError
from assistant.ingesting.sources.front_matter import labels_of, refuse_near_labels
from assistant.ingesting.sources.items import (
    LARGEST_DOCUMENT_BYTES,
    SourceItem,
    as_item,
    invalid,
    questions_field,
    text_field,
    too_large,
)

LONGEST_LINE_BYTES = 2 * LARGEST_DOCUMENT_BYTES
_LONGEST_TITLE = 1000


def read_jsonl(path: Path, *, name: str) -> Iterator[SourceItem]:
    """Yield an item for each line that is not blank, in order."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in _lines(cast(BinaryIO, file)):
                yield _item(f"{name}:{number}", line)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield invalid(name, f"not a whole gzip file: {error}")
    except OSError as error:
        yield invalid(name, f"cannot be read: {error.strerror}")


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield (number from 1, line); None for a line over the limit, whose rest is skipped."""
    number = 0
    while line := file.readline(LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > LONGEST_LINE_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE_BYTES)
            yield number, None
        elif line.strip():
            yield number, line


def _item(origin: str, line: bytes | None) -> SourceItem:
    if line is None:
        return too_large(origin, LONGEST_LINE_BYTES)
    try:
        line.decode("utf-8")
        data = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except UnicodeDecodeError as error:
        return invalid(origin, f"not UTF-8 at byte {error.start}")
    except orjson.JSONDecodeError as error:
        return invalid(origin, f"not JSON: {error.msg} at character {error.pos}")
    if not isinstance(data, dict):
        return invalid(origin, "not a JSON object")
    fields = cast(Mapping[str, object], data)
    missing = [key for key in ("id", "question", "answer") if text_field(fields.get(key)) is None]
    if missing:
        return invalid(origin, f"missing or empty: {', '.join(missing)}")
    try:
        refuse_near_labels(fields)
        return as_item(origin, _document_fields(fields))
    except DocumentInvalidError as error:
        return invalid(origin, error.message)


def _document_fields(fields: Mapping[str, object]) -> dict[str, object]:
    question = text_field(fields["question"]) or ""
    title = text_field(fields.get("title")) or question
    if len(title) > _LONGEST_TITLE:  # the whole question stands in the text then
        title = text_field(fields.get("focus")) or f"{title[: _LONGEST_TITLE - 1]}…"
    return {
        "document_id": text_field(fields["id"]),
        "title": title,
        "content": text_field(fields["answer"]),
        "media_type": "text/plain",
        "question": question,
        "source": text_field(fields.get("source")) or "",
        "type": text_field(fields.get("type")) or "",
        "url": text_field(fields.get("url")),
        "owner": text_field(fields.get("owner")),
        "effective_date": text_field(fields.get("effective_date")),
        "labels": labels_of(fields),
        "questions": questions_field(fields.get("questions")),
    }
