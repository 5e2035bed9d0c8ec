"""What one tenant keeps as plain files: documents, and the power switch of its model endpoints."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import structlog

from assistant.domain.clock import Clock
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import DependencyError
from assistant.private_files import make_private_folder, write_private
from assistant.settings.deployed_names import CLOSED, ON
from assistant.twins import decode_document, decode_parsed, encode_document, encode_parsed

READABLE_NAME_CHARS = 100
"""A file name has at most 255 bytes; the hash after the readable part makes names unique."""
_DIGEST = re.compile(r"-([0-9a-f]{32})(?:\..*\.parsed)?\.json$")
_POWER_REFRESH_S = 2.0
_POWER_BYTES = 64
_log = structlog.get_logger(__name__)


class FileDocumentStore:
    """A ``DocumentStore`` on a folder that belongs to one tenant.

    ``<directory>/<2 hex>/<name>.json`` is the canonical document, ``<name>.<content hash>.parsed.json`` the
    parsed text of one content. A file is written under another name and renamed, so a reader sees the old
    file or the new one, never half of one. It is not fsynced: a document can be added again from its source,
    one fsync a document would make a load of 16,000 take minutes on a laptop's disk, and a file that a power
    cut damaged does not parse, which is reported.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, document: Document) -> None:
        path = self._document_path(document.document_id)
        await asyncio.to_thread(_write, path, encode_document(document))

    async def get(self, document_id: str) -> Document | None:
        content = await asyncio.to_thread(_read, self._document_path(document_id))
        return decode_document(content, document_id=document_id)

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        path = self._parsed_path(document_id, content_hash)
        await asyncio.to_thread(_write, path, encode_parsed(parsed))

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await asyncio.to_thread(_read, self._parsed_path(document_id, content_hash))
        return decode_parsed(content, document_id=document_id)

    async def delete(self, document_id: str) -> None:
        await asyncio.to_thread(_delete, self._document_path(document_id))

    def _document_path(self, document_id: str) -> Path:
        digest = hashlib.sha256(document_id.encode()).hexdigest()
        readable = quote(document_id, safe="")[:READABLE_NAME_CHARS]
        return self._directory / digest[:2] / f"{readable}-{digest[:32]}.json"

    def _parsed_path(self, document_id: str, content_hash: str) -> Path:
        return self._document_path(document_id).with_suffix(f".{quote(content_hash, safe='')}.parsed.json")


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{_digest_of(path)}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        try:
            write_private(draft, content)
        except FileNotFoundError:
            make_private_folder(path.parent)
            write_private(draft, content)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise DependencyError(f"The document store cannot write: {error.strerror}.") from error


def _digest_of(path: Path) -> str:
    """Return the digest of the document's id, which is part of the names of all its files."""
    found = _DIGEST.search(path.name)
    assert found is not None, path  # noqa: S101 - _document_path makes every path
    return found[1]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DependencyError(f"The document store cannot read: {error.strerror}.") from error


def _delete(path: Path) -> None:
    # The name ends with a hash and quote() leaves no wildcard: the patterns match this document alone.
    parsed, drafts = f"{path.stem}.*.parsed.json", f".{_digest_of(path)}.*.tmp"  # drafts of killed writers
    try:
        for file in (path, *path.parent.glob(parsed), *path.parent.glob(drafts)):
            file.unlink(missing_ok=True)
    except OSError as error:
        raise DependencyError(f"The document store cannot delete: {error.strerror}.") from error


class FilePower:
    """``EndpointPower`` by the file ``path``, which has ``on`` or a word of ``CLOSED``; no file means on.

    The file is read at most every 2 s. Any other word is logged and means on. While the file cannot be read,
    the last state is kept.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._paused = False
        self._read_at_s: float | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= _POWER_REFRESH_S:
            self._read_at_s = now_s
            self._read()
        return self._paused

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                word = file.read(_POWER_BYTES).strip().decode("utf-8", "replace")
        except FileNotFoundError:
            word = ON
        except OSError as error:
            _log.warning("power_not_read", reason=type(error).__name__)
            return
        if word != ON and word not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = word in CLOSED
