"""``assistant knowledge add --service URL``: the same files into a service anywhere, over its API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import typer

from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import SourceFolders, chosen_folders
from assistant.cli.loading import LoadReport, report_as_json, show_report
from assistant.cli.terminal import Terminal
from assistant.client import AssistantClient, NotAllowedError, NotThereError, RejectedError
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import (
    ConfigurationError,
    DocumentInvalidError,
    LabelsWidenedError,
    LocalRuntimeError,
)
from assistant.knowledge.add_documents import AddSummary
from assistant.knowledge.files import read_sources
from assistant.knowledge.items import SourceDocument, SourceFailure, SourceItem, SourceWithdrawal
from assistant.knowledge.sources import KnowledgeSource
from assistant.settings.process import LocalSettings

_AT_ONCE = 8
_POLL_S = 0.5
_STALLED_S = 300.0
_LONGEST_REASON = 1000
_FAILED = (DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHHELD)
_FINAL = (*_FAILED, DocumentState.LIVE, DocumentState.WITHDRAWN)

Show = Callable[[int, int], None]


def add_to_service(
    options: GlobalOptions, *, tenant: str, source: str | None, paths: Sequence[Path], service_url: str
) -> None:
    """Bring the paths, or the tenant file's own, to the service; status 1 if something failed.

    Raises ConfigurationError without a token, LocalRuntimeError when nothing moves for five minutes, and
    what the client raises.
    """
    terminal = Terminal()
    token = options.local_settings().service_token
    if token is None:
        raise ConfigurationError(
            f"{LocalSettings.variable('service_token')} must hold a knowledge owner's token of the service."
        )
    chosen = chosen_folders(options, tenant, source=source, paths=paths)
    began_s = time.monotonic()
    load = _RemoteLoad(chosen, lambda what: terminal.counting(what, "documents"))
    failed = asyncio.run(load.run(service_url, token))
    report = LoadReport(load.summary, failed, time.monotonic() - began_s)
    if options.json:
        terminal.line(report_as_json(report))
    else:
        show_report(terminal, report)
    if report.has_failures:
        raise typer.Exit(1)


@dataclass(slots=True)
class _RemoteLoad:
    """One load: every document is brought, then followed until it answers or failed.

    Whether a document is new or changed only the service knows: all it takes count as added, but those
    that were live already with the same content.
    """

    folders: Sequence[SourceFolders]
    counting: Callable[[str], AbstractContextManager[Show]]
    summary: AddSummary = field(default_factory=AddSummary)

    async def run(self, service_url: str, token: str) -> tuple[DocumentStatus, ...]:
        """Return the documents that failed on their way into the index."""
        async with AssistantClient(service_url, token=token) as client:
            with self.counting("bringing") as show:
                await self._bring(client, show)
            with self.counting("loading") as show:
                return await self._follow(client, show)

    async def _bring(self, client: AssistantClient, show: Show) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def bring(item: SourceDocument, source: str) -> None:
            try:
                status = await client.bring_document(item.document, knowledge_source=source)
            except (RejectedError, NotAllowedError) as error:
                if isinstance(error, NotAllowedError) and error.problem.code != LabelsWidenedError.code:
                    raise
                self.summary.failures.append(SourceFailure(item.origin, error.problem.code, error.message))
            else:
                self._count(status)
            finally:
                places.release()

        async with asyncio.TaskGroup() as group:
            for source, item in await asyncio.to_thread(self._read):
                self.summary.lines += 1
                if isinstance(item, SourceFailure):
                    await self._withhold(client, source, item)
                elif isinstance(item, SourceWithdrawal):
                    await self._withdraw(client, source, item)
                else:
                    await places.acquire()
                    group.create_task(bring(item, source.name))
                    show(self.summary.documents, 0)

    def _read(self) -> list[tuple[KnowledgeSource, SourceItem]]:
        return [(folder.source, item) for folder in self.folders for item in read_sources(folder.paths)]

    async def _withhold(self, client: AssistantClient, source: KnowledgeSource, item: SourceFailure) -> None:
        """Have the document withheld that a file was meant to be, if the service has it."""
        self.summary.failures.append(item)
        if item.own_id is None:
            return
        with suppress(DocumentInvalidError, NotThereError):
            reason = f"{item.origin}: {item.reason}"[:_LONGEST_REASON]
            document_id = source.document_id(item.own_id)
            self.summary.withheld.append(await client.withhold_document(document_id, reason=reason))

    async def _withdraw(
        self, client: AssistantClient, source: KnowledgeSource, item: SourceWithdrawal
    ) -> None:
        self.summary.withdrawn += 1
        with suppress(NotThereError):
            await client.withdraw_document(source.document_id(item.own_id))

    def _count(self, status: DocumentStatus) -> None:
        if status.state == DocumentState.LIVE:
            self.summary.unchanged += 1
        else:
            self.summary.added += 1
            self.summary.enqueued_ids.append(status.document_id)

    async def _follow(self, client: AssistantClient, show: Show) -> tuple[DocumentStatus, ...]:
        pending: list[str] = list(dict.fromkeys(self.summary.enqueued_ids))
        failed: list[DocumentStatus] = []
        total = len(pending)
        moved_s = time.monotonic()
        while pending:
            found = await asyncio.gather(*(client.document_status(one) for one in pending[:_AT_ONCE]))
            done = {one.document_id: one for one in found if one.state in _FINAL}
            failed += [one for one in done.values() if one.state in _FAILED]
            waiting = [one for one in pending[:_AT_ONCE] if one not in done]
            pending = [*pending[_AT_ONCE:], *waiting]  # a document that is tried again later holds up none
            show(total - len(pending), total)
            if done:
                moved_s = time.monotonic()
            elif time.monotonic() - moved_s > _STALLED_S:
                raise LocalRuntimeError(
                    f"{len(pending)} documents wait and none has moved for {_STALLED_S:.0f} s: does the "
                    "service's worker run? They stay in its queue."
                )
            else:
                await asyncio.sleep(_POLL_S)
        return tuple(failed)
