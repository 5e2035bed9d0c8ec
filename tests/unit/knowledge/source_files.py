"""Files of a test's own, and the one document or failure that reading such a file gives."""

from __future__ import annotations

from pathlib import Path

from assistant.domain.documents import Document
from assistant.knowledge.files import SourceDocument, SourceFailure, read_sources


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(path: Path) -> Document:
    (item,) = read_sources([path])
    assert isinstance(item, SourceDocument), item
    return item.document


def failure(path: Path) -> SourceFailure:
    (item,) = read_sources([path])
    assert isinstance(item, SourceFailure), item
    return item
