"""Raw files that other systems put into the inbox become documents, by the API's own use case."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path, PurePosixPath
from typing import Protocol

import structlog

from assistant.knowledge.add_documents import AddDocuments, AddSummary
from assistant.knowledge.files import read_source
from assistant.knowledge.parsing_process import Parsing
from assistant.knowledge.sources import KnowledgeSources, Writer

INBOX = Writer("inbox")
"""Whoever may put files into it holds no labels: what it brings never becomes readable to more."""
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
        self,
        files: RawFiles,
        *,
        sources: KnowledgeSources,
        add: AddDocuments,
        add_bulk: AddDocuments,
        bulk_prefix: str,
        parsing: Parsing | None = None,
    ) -> None:
        self._files = files
        self._sources = sources
        self._add = add
        self._add_bulk = add_bulk
        self._bulk_prefix = bulk_prefix
        self._parsing = parsing
        self._reading = asyncio.Lock()

    async def __call__(self, key: str) -> AddSummary:
        """Take in one file. What it holds that is no document is logged by place and code, and stops nothing.

        The first folder of its key names the source. A document without an id of its own is named by the rest
        of the key, however it came. Raises SourceNeededError, TooLargeError, DependencyError.
        """
        below = key.removeprefix(self._bulk_prefix)
        add = self._add if below == key else self._add_bulk
        source, name = self._sources.of_key(below)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"raw{''.join(PurePosixPath(name).suffixes[-2:])}"
            if not await self._files.fetch(key, path):
                _log.info("raw_file_gone", key=key)
                return AddSummary()
            async with self._reading:  # files come several at once, and the parsing process takes one
                items = read_source(path, name=name, parsing=self._parsing)
                summary = await add(items, source=source, writer=INBOX)
        for failure in summary.failures:
            _log.warning("raw_document_refused", origin=failure.origin, code=failure.code)
        _log.info(
            "raw_file_received",
            key=key,
            source=source.name,
            documents=summary.documents,
            enqueued=len(summary.enqueued_ids),
            refused=len(summary.failures),
        )
        return summary
