"""``assistant knowledge read-again``: has documents of a tenant read again by this release's readers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from assistant.client import AssistantClient, ConflictingError
from assistant.documents.readable import pages_of
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.documents.uploads import BeginReadingAgain
from assistant.domain import errors
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    HELD_STATES,
    WAITING_STATES,
    DocumentState,
    DocumentStatus,
    UploadResult,
)
from assistant.stores.documents import STATES
from assistant.stores.uploads import UPLOADS, upload_key
from assistant.terminal.loading import Looks, follow, looks_here
from assistant.terminal.local import local_runtime
from assistant.terminal.sending import OWNER, looks_there
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, within

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

READ_BY = "Have this service read its own, with the token in ASSISTANT_LOCAL_SERVICE_TOKEN. Default: here."
_STATES = (*HELD_STATES, *WAITING_STATES, DocumentState.FAILED)
"""States of the documents that are read again."""
_AT_ONCE = 32
"""Documents that are read at a time; the files of so many are copied as uploads."""
_PAGE = 500
_POLL_S = 0.2
_STALLED_S = 900.0
"""Longest wait without any result: reading one file with many scanned pages may take as long."""
_WRITER = "assistant knowledge"
"""Who uploads, as a part of the keys of uploads."""


@dataclass(frozen=True, slots=True)
class ReadingHere:
    """Documents in the stores of this machine. ``_read_all`` calls ``pages``, then ``begin`` for each
    document, then polls ``results``; the worker reads the documents meanwhile. ``ReadingThere`` has the same
    methods."""

    stores: EmbeddedTenant
    sources: KnowledgeSources
    """All sources of the tenant."""
    wanted: Sequence[KnowledgeSource]
    """Those whose documents are read again."""

    async def pages(self) -> AsyncIterator[Sequence[DocumentStatus]]:
        """Yield the states of all documents to read again, a page at a time."""
        for ids in self.sources.ranges_of(self.wanted):
            async for page in pages_of(self.stores.get(STATES), _STATES, ids=ids):
                yield page

    async def begin(self, status: DocumentStatus) -> str | None:
        """Have a document read again, and return the id of the upload that has its result later; None where
        the document needs no reading.

        Raises ConflictError where the original file is not kept, DocumentInvalidError.
        """
        begin = BeginReadingAgain(self.stores.knowledge, self.stores.get(UPLOADS), SystemClock())
        if (source := self.sources.of_document(status.document_id)) is None:
            return None
        upload = await begin(status, source=source, by=_WRITER, labels=status.labels or ())
        return upload.upload_id if upload else None

    async def results(self, upload_ids: Sequence[str]) -> Mapping[str, UploadResult]:
        """Return the results that exist already, by upload."""
        uploads = self.stores.get(UPLOADS)
        results = {name: await uploads.result(upload_key(_WRITER, name)) for name in upload_ids}
        return {name: result for name, result in results.items() if result is not None}


@dataclass(frozen=True, slots=True)
class ReadingThere:
    """Documents of a service elsewhere, with the methods of ``ReadingHere``. ``begin`` raises
    ConflictingError in place of ConflictError."""

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
        uploads = (await self.client.upload_results(upload_ids)).uploads
        return {upload.upload_id: upload.result for upload in uploads if upload.result is not None}


@dataclass(slots=True)
class ReadingReport:
    """What became of the documents; all names are document ids."""

    current: int = 0
    """Documents that this release's readers had read before."""
    unchanged: int = 0
    """Documents that were read again, with the same words."""
    changed: dict[str, UploadResult] = field(default_factory=dict[str, UploadResult])
    """Documents that were read again, with other words."""
    refused: dict[str, str] = field(default_factory=dict[str, str])
    """Documents that go on to answer as before, with the reason why their file is refused now."""
    without_original: list[str] = field(default_factory=list[str])
    """Documents that cannot be read again, since their original file is not kept."""
    failed: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Documents that could not be indexed, with the reason; their earlier text goes on to answer."""
    enqueued: list[str] = field(default_factory=list[str])
    """Documents to be indexed, those of a killed run included."""
    seconds: float = 0.0

    def add(self, document_id: str, result: UploadResult) -> None:
        """Count the result of one document."""
        if result.refused:
            self.refused[document_id] = result.refusals[0].reason
            return
        self.enqueued.append(document_id)
        if result.words_changed:
            self.changed[document_id] = result
        elif result.words:
            self.unchanged += 1
        else:  # no words: a killed run had it read, or it was changed meanwhile
            self.current += 1

    def lines(self) -> Iterator[str]:
        """Yield a line for each document that the owner has to look at."""
        for name, result in self.changed.items():
            losses = f". {' '.join(result.notes)}" if result.notes else ""
            yield f"{name}: {result.words_changed:,} words of {result.words:,} are others{losses}"
        for name, reason in self.refused.items():
            yield f"{name}: refused now, answers as before: {reason}"
        for name in self.without_original:
            yield f"{name}: the file that it was converted from is not kept; load it again from its source"
        for name, reason in self.failed.items():
            yield f"{name}: not indexed, the text before answers: {reason}"


async def _read_all(
    terminal: Terminal, place: ReadingHere | ReadingThere, looks: Looks, *, check: Callable[[], None]
) -> ReadingReport:
    """Have all documents of the place read again, some at a time, and indexed; return what became of them.

    ``check`` raises to end the wait. Raises LocalRuntimeError when nothing is read for 15 minutes.
    """
    report, done_count, began_s = ReadingReport(), 0, time.monotonic()
    with terminal.counting("reading again", "documents") as show:
        async for page in place.pages():
            for start in range(0, len(page), _AT_ONCE):
                batch = page[start : start + _AT_ONCE]
                await _await_results(place, await _begin(place, batch, report), report, check)
                done_count += len(batch)
                show(done_count, 0)
    with terminal.counting("indexing", "documents") as show:
        failed = await follow(report.enqueued, looks, show=show, check=check)
    report.failed = {status.document_id: status.failure_reason for status in failed}
    report.seconds = round(time.monotonic() - began_s, 3)
    return report


async def _await_results(
    place: ReadingHere | ReadingThere, begun: dict[str, str], report: ReadingReport, check: Callable[[], None]
) -> None:
    """Poll until every upload of ``begun`` (upload id = document id) has a result; empties it into the
    report."""
    last_result_s = time.monotonic()
    while begun:
        for upload_id, result in (await place.results(list(begun))).items():
            report.add(begun.pop(upload_id), result)
            last_result_s = time.monotonic()
        check()
        if time.monotonic() - last_result_s > _STALLED_S:
            raise errors.LocalRuntimeError(f"No document was read for {_STALLED_S:.0f} s. Run it again.")
        await asyncio.sleep(_POLL_S if begun else 0)


async def _begin(
    place: ReadingHere | ReadingThere, statuses: Sequence[DocumentStatus], report: ReadingReport
) -> dict[str, str]:
    """Have the documents read; return those that are read now: upload id = document id. Adds all others to
    the report."""
    begun: dict[str, str] = {}
    for status in statuses:
        try:
            upload_id = await place.begin(status)
        except (errors.ConflictError, ConflictingError):
            report.without_original.append(status.document_id)
        except errors.DocumentInvalidError as error:
            report.refused[status.document_id] = error.message
        else:
            report.current += upload_id is None
            report.enqueued += [status.document_id] * (status.state in WAITING_STATES)
            begun |= {} if upload_id is None else {upload_id: status.document_id}
    return begun


def read_again(
    context: typer.Context,
    tenant: Tenant,
    source: Annotated[str | None, Option(metavar="NAME", help="Only of this source.")] = None,
    service: Annotated[str | None, Option(metavar="URL", help=READ_BY)] = None,
) -> None:
    """Read documents again from what is kept of them, by the readers of this release. The texts before answer
    until the new ones are indexed; run it again after a kill."""
    options, terminal = GlobalOptions.of(context), Terminal()
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)
    if service is None:
        runtime = local_runtime(options, terminal)

        async def here(stores: EmbeddedTenant) -> ReadingReport:
            place, looks = ReadingHere(stores, sources, wanted), looks_here(stores.get(STATES))
            return await _read_all(terminal, place, looks, check=runtime.check)

        with runtime.site(command="assistant knowledge read-again"):
            report = options.with_stores(tenant, here)
    else:

        async def there(client: AssistantClient) -> ReadingReport:
            place = ReadingThere(client, wanted)
            return await _read_all(terminal, place, looks_there(client), check=lambda: None)

        report = within(options.service_client(service, of=OWNER), there)
    if not options.writes(report):
        counted = f"{report.unchanged:,} with the same words, {len(report.changed):,} with others"
        current = f"{report.current:,} were read by this release before"
        terminal.show(f"Read again in {report.seconds:.1f} s: {counted}; {current}")
        for line in report.lines():
            terminal.warn(line, "yellow")
    if report.refused or report.failed or report.without_original:
        raise typer.Exit(1)
