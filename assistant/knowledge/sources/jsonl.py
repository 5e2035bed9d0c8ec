"""Question-and-answer pairs, one JSON object a line, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

import orjson

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.parsing_process import ParsingRequest
from assistant.knowledge.sources.front_matter import (
    RESTRICTING_KEYS,
    is_withdrawn,
    labels_of,
    refuse_near_keys,
)
from assistant.knowledge.sources.items import (
    LARGEST_DOCUMENT_BYTES,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    as_item,
    invalid,
    open_regular,
    questions_field,
    refuse_double_keys,
    text_field,
    too_large,
)

LONGEST_LINE_BYTES = 2 * LARGEST_DOCUMENT_BYTES
LARGEST_FILE_BYTES = 4_000_000_000
"""Of all lines together, not compressed: a compressed file of 4 MB can hold so much."""
_LONGEST_TITLE = 1000
_ID = re.compile(rb'"id"\s{0,9}:\s{0,9}"([^"\\\\\s/?#]{1,256})"')


def jsonl_lines(path: Path, *, name: str) -> Iterator[ParsingRequest | SourceFailure]:
    """Yield each line that is not blank, in order, and what cannot be one."""
    try:
        with open_regular(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            size = 0
            for number, line in _lines(cast(BinaryIO, file)):
                if line is None:
                    yield too_large(f"{name}:{number}", LONGEST_LINE_BYTES)
                    continue
                size += len(line)
                if size > LARGEST_FILE_BYTES:
                    yield too_large(f"{name}:{number}", LARGEST_FILE_BYTES)
                    return
                yield ParsingRequest(operation="line", header={"name": f"{name}:{number}"}, body=line)
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


def line_item(origin: str, line: bytes) -> SourceItem:
    """Return the document of one line."""
    try:
        line.decode("utf-8")
        line = line.removeprefix(b"\xef\xbb\xbf")
        data = orjson.loads(line)
        refuse_double_keys(line)
    except UnicodeDecodeError as error:
        return named_by_line(invalid(origin, f"not UTF-8 at byte {error.start}"), line)
    except orjson.JSONDecodeError as error:
        return named_by_line(invalid(origin, f"not JSON: {error.msg} at character {error.pos}"), line)
    except DocumentInvalidError as error:
        return named_by_line(invalid(origin, error.message), line)
    if not isinstance(data, dict):
        return invalid(origin, "not a JSON object")
    fields = cast(Mapping[str, object], data)
    try:
        return _read(origin, fields)
    except DocumentInvalidError as error:
        failure = invalid(origin, error.message)
    return replace(failure, own_id=text_field(fields.get("id")))


def _read(origin: str, fields: Mapping[str, object]) -> SourceItem:
    """Raises DocumentInvalidError."""
    refuse_near_keys(fields)
    _refuse_nested(fields)
    own_id = text_field(fields.get("id"))
    if own_id is not None and is_withdrawn(fields):
        return SourceWithdrawal(own_id, origin)
    missing = [key for key in ("id", "question", "answer") if text_field(fields.get(key)) is None]
    if missing:
        raise DocumentInvalidError(f"missing or empty: {', '.join(missing)}")
    item = as_item(origin, _document_fields(fields))
    return replace(item, own_id=own_id) if isinstance(item, SourceFailure) else item


def _refuse_nested(fields: Mapping[str, object]) -> None:
    """Raise DocumentInvalidError for a restriction that stands inside of another key."""
    for key, value in fields.items():
        if not isinstance(value, dict):
            continue
        inside = cast(Mapping[str, object], value)
        found = next((name for name in inside if name.casefold() in RESTRICTING_KEYS), None)
        if found is not None:
            raise DocumentInvalidError(f'"{found}" stands inside of "{key}"; write it beside id and question')


def named_by_line(failure: SourceFailure, line: bytes) -> SourceFailure:
    """Return the failure with the document that a line was meant to be, where just one id can be read."""
    found = {match[1] for match in _ID.finditer(line[:LONGEST_LINE_BYTES])}
    if len(found) != 1:
        return failure
    return replace(failure, own_id=found.pop().decode("utf-8", errors="replace"))


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
        **labels_of(fields),
        "questions": questions_field(fields.get("questions")),
    }
