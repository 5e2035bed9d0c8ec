"""Files of a test's own, and the one document or failure that reading such a file gives."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path

from assistant.documents.files import SourceDocument, SourceFailure, SourceItem, read_sources
from assistant.documents.parsing_process import ParsingProcess
from assistant.domain.documents import Document

_PARSING = ParsingProcess()
"""Shared by all tests of a pytest process: a child takes 0.3 s of CPU to start."""
atexit.register(_PARSING.close)


def read(*paths: Path) -> Iterator[SourceItem]:
    """Read files and folders as ``read_sources`` does, in the shared parsing process."""
    return read_sources(paths, parsing=_PARSING)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(path: Path) -> Document:
    (item,) = read(path)
    assert isinstance(item, SourceDocument), item
    return item.document


def failure(path: Path) -> SourceFailure:
    (item,) = read(path)
    assert isinstance(item, SourceFailure), item
    return item
