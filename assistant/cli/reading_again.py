"""``assistant knowledge read-again``: has the documents of a tenant read again by this release's readers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from assistant.client import AssistantClient, ConflictingError
from assistant.documents.readable import pages_of
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.documents.uploads import BeginReadingAgain
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    HELD_STATES,
    WAITING_STATES,
    DocumentState,
    DocumentStatus,
    UploadResult,
)
from assistant.domain.errors import ConflictError, DocumentInvalidError, LocalRuntimeError
from assistant.stores.documents import STATES
from assistant.stores.uploads import upload_key

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

_STATES = (*HELD_STATES, *WAITING_STATES, DocumentState.FAILED)
_AT_ONCE = 32
"""Documents that are read at a time: of so many the files are copied."""
_PAGE = 500
_POLL_S = 0.2
_STALLED_S = 900.0
"""Without any result. The longest reading of one file, with its scans, takes as long."""
_WRITER = "assistant knowledge"


@dataclass(frozen=True, slots=True)
class ReadingHere:
    """Documents in the stores of this machine. The worker reads them."""

    stores: EmbeddedTenant
    sources: KnowledgeSources
    """Of the tenant."""
    wanted: Sequence[KnowledgeSource]

    async def pages(self) -> AsyncIterator[Sequence[DocumentStatus]]:
        for ids in self.sources.ranges_of(self.wanted):
            async for page in pages_of(self.stores.get(STATES), _STATES, ids=ids):
                yield page

    async def begin(self, status: DocumentStatus) -> str | None:
        """Return what ``results`` takes; None where nothing is to be read. Raises ConflictError where no
        original is kept, DocumentInvalidError."""
        from assistant.stores.uploads import UPLOADS

        begin = BeginReadingAgain(self.stores.knowledge, self.stores.get(UPLOADS), SystemClock())
        if (source := self.sources.of_document(status.document_id)) is None:
            return None
        upload = await begin(status, source=source, by=_WRITER, labels=status.labels or ())
        return upload.upload_id if upload else None

    async def results(self, upload_ids: Sequence[str]) -> Mapping[str, UploadResult]:
        """Return the results that are there."""
        from assistant.stores.uploads import UPLOADS

        found = [await self.stores.get(UPLOADS).result(upload_key(_WRITER, one)) for one in upload_ids]
        return {name: result for name, result in zip(upload_ids, found, strict=True) if result is not None}


@dataclass(frozen=True, slots=True)
class ReadingThere:
    """Documents of a service elsewhere, as ``ReadingHere``; ``begin`` raises ConflictingError."""

    client: AssistantClient
    wanted: Sequence[KnowledgeSource]

    async def pages(self) -> AsyncIterator[Sequence[DocumentStatus]]:
        names, after = {source.name for source in self.wanted}, ""
        while after is not None:
            page = await self.client.list_documents(state=_STATES, after=after or None, limit=_PAGE)
            yield [status for status in page.documents if status.knowledge_source in names]
            after = page.next_after

    async def begin(self, status: DocumentStatus) -> str | None:
        return (await self.client.read_document_again(status.document_id)).upload_id

    async def results(self, upload_ids: Sequence[str]) -> Mapping[str, UploadResult]:
        found = (await self.client.upload_results(upload_ids)).uploads
        return {state.upload_id: state.result for state in found if state.result is not None}


@dataclass(slots=True)
class ReadingReport:
    """What became of the documents, by their ids."""

    current: int = 0
    """Documents that these readers had read."""
    unchanged: int = 0
    """Documents that were read again, with the same words."""
    changed: dict[str, UploadResult] = field(default_factory=dict[str, UploadResult])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Documents that go on to answer as before, with the reason why their file is refused now."""
    without_original: list[str] = field(default_factory=list[str])
    failed: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Documents that could not be indexed, with the reason; the text before answers."""
    enqueued: list[str] = field(default_factory=list[str])
    """Documents to be indexed, those of a run that was killed included."""
    seconds: float = 0.0

    def add(self, document_id: str, result: UploadResult) -> None:
        if result.refused:
            self.refused[document_id] = result.refusals[0].reason
            return
        self.enqueued.append(document_id)
        if result.words_changed:
            self.changed[document_id] = result
        elif result.words:
            self.unchanged += 1
        else:  # of a run that was killed, or changed meanwhile
            self.current += 1

    def lines(self) -> Iterator[str]:
        """Yield what the owner has to know, a line for each document."""
        for name, one in self.changed.items():
            losses = f"; not in its text: {', '.join(one.notes)}" if one.notes else ""
            yield f"{name}: {one.words_changed:,} words of {one.words:,} are others{losses}"
        for name, reason in self.refused.items():
            yield f"{name}: refused now, answers as before: {reason}"
        for name in self.without_original:
            yield f"{name}: the file that it was converted from is not kept; load it again from its source"
        for name, reason in self.failed.items():
            yield f"{name}: not indexed, the text before answers: {reason}"


async def read_all(
    place: ReadingHere | ReadingThere, *, show: Callable[[int, int], None], check: Callable[[], None]
) -> ReadingReport:
    """Have all documents of the place read again, some at a time; return what became of them. They may not be
    indexed yet.

    ``check`` raises to end the wait. Raises LocalRuntimeError when nothing is read for 15 minutes.
    """
    report, seen = ReadingReport(), 0
    async for page in place.pages():
        for start in range(0, len(page), _AT_ONCE):
            some = page[start : start + _AT_ONCE]
            begun, moved_s = await _begin(place, some, report), time.monotonic()
            while begun:
                for upload_id, result in (await place.results(list(begun))).items():
                    report.add(begun.pop(upload_id), result)
                    moved_s = time.monotonic()
                check()
                if time.monotonic() - moved_s > _STALLED_S:
                    raise LocalRuntimeError(f"No document was read for {_STALLED_S:.0f} s. Run it again.")
                await asyncio.sleep(_POLL_S if begun else 0)
            seen += len(some)
            show(seen, 0)
    return report


async def _begin(
    place: ReadingHere | ReadingThere, statuses: Sequence[DocumentStatus], report: ReadingReport
) -> dict[str, str]:
    """Return by upload the documents that are read now."""
    begun: dict[str, str] = {}
    for status in statuses:
        try:
            upload_id = await place.begin(status)
        except (ConflictError, ConflictingError):
            report.without_original.append(status.document_id)
        except DocumentInvalidError as error:
            report.refused[status.document_id] = error.message
        else:
            report.current += upload_id is None
            report.enqueued += [status.document_id] * (status.state in WAITING_STATES)
            begun |= {} if upload_id is None else {upload_id: status.document_id}
    return begun
