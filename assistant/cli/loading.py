"""Loads documents: chooses folders, sends them to a service elsewhere, follows and reports a load."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import typer
from rapidfuzz.distance import OSA

from assistant.cli.terminal import GlobalOptions, Terminal, plain
from assistant.client import AssistantClient, NotAllowedError, NotThereError, RejectedError
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.elements import ElementKind
from assistant.domain.errors import (
    ConfigurationError,
    DocumentInvalidError,
    LabelsWidenedError,
    LocalRuntimeError,
    NotFoundError,
)
from assistant.knowledge.add_documents import AddSummary
from assistant.knowledge.files import (
    SourceDocument,
    SourceFailure,
    SourceItem,
    SourceWithdrawal,
    read_sources,
    skipped_files,
)
from assistant.knowledge.ports import DocumentStates
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources
from assistant.live.markup import Tag, tags_in
from assistant.settings.tenant import TenantConfig

_POLL_S = 0.2
_WINDOW = 64
"""Documents whose state is read at once. Few: the worker needs the processor more."""
_STALLED_S = 120.0
_REMOTE_WINDOW = 8
_REMOTE_POLL_S = 0.5
_REMOTE_STALLED_S = 300.0
_MAX_REASON = 1000
_FAILED = frozenset({DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHHELD})
_FINAL = _FAILED | {DocumentState.LIVE, DocumentState.WITHDRAWN}
_SHOWN_FAILURES = 100
_SHOWN_SKIPPED = 5
_SHOWN_TAGS = 20
_SHOWN_NAMES = 5
_TAG_LIKE = re.compile(r"\{\{[^{}\n]{1,100}\}\}")
"""A tag, or what was meant as one."""

Show = Callable[[int, int], None]
"""Shows the documents that are done, and all."""


@dataclass(frozen=True, slots=True)
class SourceFolders:
    """Files and folders that are loaded into one source."""

    source: KnowledgeSource
    paths: tuple[Path, ...]


def chosen_folders(
    options: GlobalOptions, tenant: str, *, source: str | None, paths: Sequence[Path]
) -> list[SourceFolders]:
    """Return what to load: the paths, or those of the tenant file, for one source or for all.

    Raises NotFoundError for a source or a path that does not exist, before anything is started;
    SourceNeededError; ConfigurationError where no path is named.
    """
    if paths:
        chosen = [SourceFolders(KnowledgeSources.of(options.tenant(tenant)).named(source), tuple(paths))]
    else:
        chosen = own_folders(options, tenant, source=source)
    if not chosen:
        raise ConfigurationError(
            f"{options.tenants_dir / tenant}.toml names no paths for {source or 'any source'}; name a PATH, "
            "or add paths to a [[sources]] entry there."
        )
    check_paths(chosen)
    return chosen


def own_folders(options: GlobalOptions, tenant: str, *, source: str | None = None) -> list[SourceFolders]:
    """Return the paths of the tenant file, of all its sources or of one; they are relative to the file."""
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)
    return [
        SourceFolders(one, tuple(options.tenants_dir / path for path in one.entry.paths))
        for one in wanted
        if one.entry.paths
    ]


@dataclass(frozen=True, slots=True)
class Reading:
    """Reads the files of one load, and remembers what their owner should know though nothing failed."""

    elements: Mapping[str, ElementKind] = field(default_factory=dict[str, ElementKind])
    """The tenant's live elements: ``orders.status`` = its kind."""
    skipped: list[str] = field(default_factory=list[str])
    """Files of a kind that is not read."""
    tags: list[str] = field(default_factory=list[str])
    """By document, tags that nothing fills: agents see them as they are written."""

    @classmethod
    def of(cls, tenant: TenantConfig) -> Reading:
        return cls(
            {
                f"{entry.name}.{element.name}": element.kind
                for entry in tenant.systems
                if entry.inline is not None
                for element in entry.inline.elements
            }
        )

    def items(self, folder: SourceFolders) -> Iterator[SourceItem]:
        """Yield the items of one source's files. Raises as ``read_sources``."""
        self.skipped.extend(skipped_files(folder.paths))
        for item in read_sources(folder.paths):
            if isinstance(item, SourceDocument):
                self.tags.extend(f"{item.origin}: {said}" for said in self._unfilled(item, folder.source))
            yield item

    def remarks(self) -> list[str]:
        """Return what to tell the owner, one line each, a bounded number."""
        lines: list[str] = []
        if self.skipped:
            named = first_names(self.skipped, most=_SHOWN_SKIPPED)
            lines.append(f"skipped, neither Markdown nor HTML nor JSON Lines: {named}")
        lines += self.tags[:_SHOWN_TAGS]
        if len(self.tags) > _SHOWN_TAGS:
            lines.append(f"… and {len(self.tags) - _SHOWN_TAGS:,} more tags that nothing fills")
        return lines

    def _unfilled(self, item: SourceDocument, source: KnowledgeSource) -> Iterator[str]:
        """Yield why tags of a document stay text, each tag once."""
        for written in dict.fromkeys(_TAG_LIKE.findall(item.document.content)):
            tag = next((part for part in tags_in(written, lambda _: True) if isinstance(part, Tag)), None)
            kind = None if tag is None else self.elements.get(tag.name)
            if not source.entry.elements:
                if kind is not None:  # other braces are the document's own
                    yield f'{written} stays text: the source "{source.name}" has no elements = true'
            elif tag is None or kind is None:
                yield f"{written} names no live element and stays text; {self._names_near(written)}"
            elif tag.kind not in (None, kind):
                yield f"{written} stays text: {tag.name} is a {kind}. Write {{{{{tag.name}}}}}"

    def _names_near(self, written: str) -> str:
        if not self.elements:
            return "this tenant has none"
        name = written.strip("{} ").rpartition(" ")[2].casefold()
        near = sorted(self.elements, key=lambda one: (OSA.distance(name, one), one))
        return f"there are {first_names(near, most=_SHOWN_NAMES)}"


def first_names(names: Sequence[str], *, most: int) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def check_paths(folders: Sequence[SourceFolders]) -> None:
    """Raise NotFoundError for paths that do not exist."""
    missing = [str(path) for folder in folders for path in folder.paths if not path.exists()]
    if missing:
        raise NotFoundError(f"There is no such file or folder: {', '.join(missing)}.")


async def follow_worker(
    states: DocumentStates, document_ids: Sequence[str], *, worker_is_alive: Callable[[], bool], show: Show
) -> tuple[DocumentStatus, ...]:
    """Wait until the local worker has finished each document; return those that failed.

    Raises LocalRuntimeError when the worker ended, or finished nothing for two minutes; the rest stays in
    the queue for the next load.
    """

    async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
        return (await states.get_many(window)).values()

    def check(pending: int, idle_s: float) -> None:
        if not worker_is_alive():
            raise LocalRuntimeError(
                f"The ingestion worker ended before {pending} documents were processed. They stay queued: "
                "run the command again."
            )
        if idle_s > _STALLED_S:
            raise LocalRuntimeError(
                f"The worker finished no document for {_STALLED_S:.0f} s, and {pending} wait. See its log. "
                "They stay queued: run the command again."
            )

    return await _follow(document_ids, read, check, show=show, window=_WINDOW, poll_s=_POLL_S)


async def _follow(
    document_ids: Sequence[str],
    read: Callable[[Sequence[str]], Awaitable[Iterable[DocumentStatus]]],
    check: Callable[[int, float], None],
    *,
    show: Show,
    window: int,
    poll_s: float,
) -> tuple[DocumentStatus, ...]:
    """Poll a window of the pending documents until all are finished; return those that failed.

    Documents are finished about in the order they came. Where all of a window stay unfinished (they are tried
    again later), the next window is behind them. ``check(pending, idle_s)`` raises to end the wait.
    """
    pending = deque(document_ids)
    failed: list[DocumentStatus] = []
    moved_s = time.monotonic()
    while pending:
        show(len(document_ids) - len(pending), len(document_ids))
        asked = [pending.popleft() for _ in range(min(window, len(pending)))]
        finished = {one.document_id: one for one in await read(asked) if one.state in _FINAL}
        left = [document_id for document_id in asked if document_id not in finished]
        failed += [one for one in finished.values() if one.state in _FAILED]
        if finished:
            pending.extendleft(reversed(left))
            moved_s = time.monotonic()
        else:
            pending.extend(left)
            check(len(pending), time.monotonic() - moved_s)
            await asyncio.sleep(poll_s)
    show(len(document_ids), len(document_ids))
    return tuple(failed)


def add_to_service(
    options: GlobalOptions, *, tenant: str, source: str | None, paths: Sequence[Path], service_url: str
) -> None:
    """Send the paths, or the tenant file's own, to the service; status 1 if something failed.

    Raises ConfigurationError without a token, LocalRuntimeError when nothing is finished for five minutes,
    and what the client raises.
    """
    terminal = Terminal()
    token = options.service_token(of="a knowledge owner's")
    chosen = chosen_folders(options, tenant, source=source, paths=paths)
    reading = Reading.of(options.tenant(tenant))
    finish(options, terminal, asyncio.run(_load_remotely(terminal, chosen, reading, service_url, token)))


async def _load_remotely(
    terminal: Terminal, folders: Sequence[SourceFolders], reading: Reading, service_url: str, token: str
) -> LoadReport:
    began_s = time.monotonic()
    summary = AddSummary()
    async with AssistantClient(service_url, token=token) as client:

        async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
            return await asyncio.gather(*(client.document_status(one) for one in window))

        def check(pending: int, idle_s: float) -> None:
            if idle_s > _REMOTE_STALLED_S:
                raise LocalRuntimeError(
                    f"The service finished no document for {_REMOTE_STALLED_S:.0f} s, and {pending} wait in "
                    "its queue. Check that its worker runs."
                )

        with terminal.counting("sending", "documents") as show:
            await _Sender(client, summary, show).send(folders, reading)
        with terminal.counting("loading", "documents") as show:
            ids = list(dict.fromkeys(summary.enqueued_ids))
            failed = await _follow(ids, read, check, show=show, window=_REMOTE_WINDOW, poll_s=_REMOTE_POLL_S)
    return LoadReport(summary, failed, time.monotonic() - began_s, reading)


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends the documents of one load to a service, eight at a time.

    Only the service knows whether a document is new or changed: all that it takes count as added, except
    those that were live already with the same content.
    """

    client: AssistantClient
    summary: AddSummary
    show: Show

    async def send(self, folders: Sequence[SourceFolders], reading: Reading) -> None:
        free = asyncio.Semaphore(_REMOTE_WINDOW)

        def read() -> list[tuple[KnowledgeSource, SourceItem]]:
            return [(folder.source, item) for folder in folders for item in reading.items(folder)]

        async with asyncio.TaskGroup() as group:
            for source, item in await asyncio.to_thread(read):
                self.summary.lines += 1
                if isinstance(item, SourceFailure):
                    await self._withhold(source, item)
                elif isinstance(item, SourceWithdrawal):
                    self.summary.withdrawn += 1
                    with suppress(NotThereError):
                        await self.client.withdraw_document(source.document_id(item.own_id))
                else:
                    await free.acquire()
                    group.create_task(self._send_one(item, source.name, free))
                    self.show(self.summary.documents, 0)

    async def _send_one(self, item: SourceDocument, source: str, free: asyncio.Semaphore) -> None:
        try:
            status = await self.client.bring_document(item.document, knowledge_source=source)
        except (RejectedError, NotAllowedError) as error:
            if isinstance(error, NotAllowedError) and error.problem.code != LabelsWidenedError.code:
                raise
            self.summary.failures.append(SourceFailure(item.origin, error.problem.code, error.message))
        else:
            if status.state == DocumentState.LIVE:
                self.summary.unchanged += 1
            else:
                self.summary.added += 1
                self.summary.enqueued_ids.append(status.document_id)
        finally:
            free.release()

    async def _withhold(self, source: KnowledgeSource, item: SourceFailure) -> None:
        """Withhold the service's document that an invalid file was meant to replace, if there is one."""
        self.summary.failures.append(item)
        if item.own_id is not None:
            with suppress(DocumentInvalidError, NotThereError):
                reason = f"{item.origin}: {item.reason}"[:_MAX_REASON]
                document_id = source.document_id(item.own_id)
                self.summary.withheld.append(await self.client.withhold_document(document_id, reason=reason))


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of one load."""

    summary: AddSummary
    failed: tuple[DocumentStatus, ...]
    """Documents that were stored and then could not be indexed."""
    seconds: float
    reading: Reading = field(default_factory=Reading)

    @property
    def live(self) -> int:
        """Documents of this load that answer with their newest content."""
        return self.summary.documents - len(self.failed)

    @property
    def has_failures(self) -> bool:
        return bool(self.summary.failures or self.failed)

    def failure_lines(self) -> list[str]:
        """Return one line for each failure."""
        return [
            *(f"{one.origin}: {one.reason}" for one in self.summary.failures),
            *(f"{one.document_id}: {one.failure_reason}" for one in self.failed),
        ]


def finish(options: GlobalOptions, terminal: Terminal, report: LoadReport) -> None:
    """Print the report; end the command with status 1 if something failed."""
    if options.json:
        terminal.json(_as_json(report))
    else:
        _show(terminal, report)
    if report.has_failures:
        raise typer.Exit(1)


def _show(terminal: Terminal, report: LoadReport) -> None:
    """Print the counts and every failure by name and line."""
    summary = report.summary
    terminal.out.print(
        f"{summary.lines:,} read = {summary.documents:,} documents + {summary.duplicates:,} duplicates "
        f"+ {summary.withdrawn:,} withdrawn + {len(summary.failures):,} failures"
    )
    terminal.out.print(
        f"{summary.documents:,} documents = {summary.added:,} added + {summary.changed:,} changed "
        f"+ {summary.unchanged:,} unchanged"
    )
    terminal.out.print(f"{report.live:,} live, {len(report.failed):,} failed, after {report.seconds:.1f} s")
    failures = [
        *(f"{one.origin}: {one.reason} ({one.code})" for one in summary.failures),
        *(f"{one.document_id}: {one.failure_reason} ({one.failure_code})" for one in report.failed),
        *(f"{one.document_id}: withheld; it answers again once it is sent again" for one in summary.withheld),
    ]
    for failure in failures[:_SHOWN_FAILURES]:
        terminal.err.print(plain(failure, style="red"))
    if len(failures) > _SHOWN_FAILURES:
        terminal.err.print(f"… and {len(failures) - _SHOWN_FAILURES:,} more; --json names all", style="red")
    for remark in report.reading.remarks():
        terminal.err.print(plain(remark, style="yellow"))


def _as_json(report: LoadReport) -> dict[str, object]:
    summary = report.summary
    counts = ("lines", "documents", "added", "changed", "unchanged", "duplicates", "withdrawn")
    return {
        **{name: getattr(summary, name) for name in counts},
        "withheld": [one.document_id for one in summary.withheld],
        "live": report.live,
        "seconds": round(report.seconds, 3),
        "skipped": report.reading.skipped,
        "unfilled_tags": report.reading.tags,
        "failures": [
            {"origin": one.origin, "code": one.code, "reason": one.reason} for one in summary.failures
        ],
        "failed_documents": [
            {
                "document_id": one.document_id,
                "state": one.state,
                "code": one.failure_code,
                "reason": one.failure_reason,
            }
            for one in report.failed
        ],
    }
