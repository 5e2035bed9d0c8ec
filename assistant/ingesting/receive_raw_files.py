"""Raw files that other systems put into the inbox become documents, by the API's own use case."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath
from typing import Protocol

import structlog

from assistant.ingesting.add_documents import AddDocuments, AddSummary
from assistant.ingesting.sources.reader import read_source

_log = structlog.get_logger(__name__)


class RawFiles(Protocol):
    async def fetch(self, key: str, into: Path) -> bool:
        """Write the newest content of a raw file to ``into``; False when it is no longer there.

        Raises TooLargeError, DependencyError.
        """
        ...


class ReceiveRawFiles:
    """``add`` takes in what is wanted soon; ``add_bulk`` files whose key begins with ``bulk_prefix``."""

    def __init__(
        self, files: RawFiles, *, add: AddDocuments, add_bulk: AddDocuments, bulk_prefix: str
    ) -> None:
        self._files = files
        self._add = add
        self._add_bulk = add_bulk
        self._bulk_prefix = bulk_prefix

    async def __call__(self, key: str) -> AddSummary:
        """Take in one file. What it holds that is no document is logged by place and code, and stops nothing.

        A document without an id of its own is named by the file's key, however it came. Raises TooLargeError,
        DependencyError.
        """
        name = key.removeprefix(self._bulk_prefix)
        add = self._add if name == key else self._add_bulk
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"raw{''.join(PurePosixPath(name).suffixes[-2:])}"
            if not await self._files.fetch(key, path):
                _log.info("raw_file_gone", key=key)
                return AddSummary()
            summary = await add(read_source(path, name=name))
        for failure in summary.failures:
            _log.warning("raw_document_refused", origin=failure.origin, code=failure.code)
        _log.info(
            "raw_file_received",
            key=key,
            documents=summary.documents,
            enqueued=len(summary.enqueued_ids),
            refused=len(summary.failures),
        )
        return summary
