"""``assistant knowledge add`` and ``withdraw``, and the load that ``ask`` and ``demo`` begin with."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import typer

from assistant.cli.global_options import GlobalOptions
from assistant.cli.loading import LoadFollower, LoadReport, report_as_json, show_report
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal, plain
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import ConfigurationError, LocalRuntimeError, NotFoundError
from assistant.knowledge.add_documents import AddDocuments, AddSummary
from assistant.knowledge.files import read_sources
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.reading import pages_of
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.knowledge.withdrawal import WithdrawDocuments
from assistant.local.layout import WORKER
from assistant.wiring.stores import open_stores

_WITHDRAWAL_TIMEOUT_S = 30.0
_POLL_S = 0.1
_LOCAL = "assistant knowledge"
"""Who somebody on this machine is, in the records."""


@dataclass(frozen=True, slots=True)
class SourceFolders:
    """Files and folders that are loaded as one source's."""

    source: KnowledgeSource
    paths: tuple[Path, ...]


def add_documents(
    options: GlobalOptions,
    *,
    tenant: str,
    source: str | None,
    paths: Sequence[Path],
    labels: Sequence[str],
) -> None:
    """Load the paths as the source's, or the tenant file's own; status 1 if something failed, the rest is
    loaded."""
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    chosen = chosen_folders(options, tenant, source=source, paths=paths)
    began_s = time.monotonic()
    summary = asyncio.run(_take_in(runtime, tenant, chosen, labels=labels))
    failed: tuple[DocumentStatus, ...] = ()
    out = [*summary.withdrawn_ids, *(one.document_id for one in summary.withheld)]
    if summary.enqueued_ids or out:  # else nothing has to be started: all of it is live already
        with runtime.processes(runtime.layout.for_loading, command="assistant knowledge add"):
            asyncio.run(_take_out(runtime, tenant, out))
            failed = asyncio.run(_follow(runtime, tenant, summary.enqueued_ids))
    report = LoadReport(summary, failed, time.monotonic() - began_s)
    if options.json:
        terminal.line(report_as_json(report))
    else:
        show_report(terminal, report)
    if report.has_failures:
        raise typer.Exit(1)


def chosen_folders(
    options: GlobalOptions, tenant: str, *, source: str | None, paths: Sequence[Path]
) -> list[SourceFolders]:
    """Return what to load: the paths, or those that the tenant file names for the source, or for all.

    Raises NotFoundError for a source or a path that is not there, before anything is started;
    SourceNeededError; ConfigurationError where no path is named.
    """
    sources = KnowledgeSources.of(options.tenant(tenant))
    if paths:
        chosen = [SourceFolders(sources.named(source), tuple(paths))]
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


def check_paths(folders: Sequence[SourceFolders]) -> None:
    """Raise NotFoundError before anything is started for a path that is not there."""
    missing = [str(path) for folder in folders for path in folder.paths if not path.exists()]
    if missing:
        raise NotFoundError(f"There is no such file or folder: {', '.join(missing)}.")


async def load(runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders]) -> LoadReport:
    """Bring everything below the paths in, a progress bar until it is live. The worker must run.

    Raises LocalRuntimeError when the worker ends or nothing moves.
    """
    began_s = time.monotonic()
    summary = await _take_in(runtime, tenant, folders)
    failed = await _follow(runtime, tenant, summary.enqueued_ids)
    return LoadReport(summary, failed, time.monotonic() - began_s)


async def _take_in(
    runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders], *, labels: Sequence[str] = ()
) -> AddSummary:
    """Store what is new or changed and enqueue it for the worker, which need not run."""
    state_dir = runtime.layout.state_dir.resolve()
    async with open_stores(runtime.tenants[tenant], state_dir=state_dir) as stores:
        with runtime.terminal.counting(f"reading for {tenant}", "documents") as show:
            add = AddDocuments(stores.knowledge, clock=SystemClock(), accesses=stores.records)
            writer = Writer(_LOCAL, frozenset(labels))
            total = AddSummary()
            for folder in folders:
                before = total.lines

                def progress(so_far: AddSummary, before: int = before) -> None:
                    show(before + so_far.lines, 0)

                total.include(
                    await add(
                        read_sources(folder.paths), source=folder.source, writer=writer, progress=progress
                    )
                )
            return total


async def _follow(
    runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]
) -> tuple[DocumentStatus, ...]:
    """Wait for the worker, a progress bar meanwhile; return the documents that failed."""
    state_dir = runtime.layout.state_dir.resolve()
    async with open_stores(runtime.tenants[tenant], state_dir=state_dir) as stores:
        with runtime.terminal.counting(f"loading {tenant}", "documents") as show:
            follower = LoadFollower(stores.knowledge.states, _worker_is_alive(runtime), show)
            return await follower.follow(document_ids)


async def load_if_empty(runtime: LocalRuntime, tenant: str) -> None:
    """Load the tenant file's own knowledge when nothing of the tenant answers yet."""
    async with open_stores(runtime.tenants[tenant], state_dir=runtime.layout.state_dir.resolve()) as stores:
        if await answers_something(stores.knowledge):
            return
    folders = own_folders(runtime.options, tenant)
    if not folders:
        runtime.terminal.say(
            f"{tenant} has no knowledge yet: add some with assistant knowledge add --tenant {tenant} PATH"
        )
        return
    check_paths(folders)
    report = await load(runtime, tenant, folders)
    runtime.terminal.say(f"{report.live} documents of {tenant} loaded in {report.seconds:.1f} s")
    for failure in report.summary.failures:
        runtime.terminal.say(f"not loaded: {failure.origin}: {failure.reason}")
    for status in report.failed:
        runtime.terminal.say(f"not loaded: {status.document_id}: {status.failure_reason}")


def embed_again(options: GlobalOptions, terminal: Terminal, *, tenant: str) -> None:
    """Bring the tenant's documents into the index of the embedding model that was just chosen.

    Nothing is started where the tenant has no documents yet, or its index of that model is whole.
    """
    runtime = local_runtime(options, terminal)
    if not asyncio.run(_has_documents(runtime, tenant)):
        return
    began_s = time.monotonic()
    with runtime.processes(runtime.layout.for_loading, command="assistant models"):
        waiting = asyncio.run(_waiting(runtime, tenant))  # the worker enqueues what its index lacks
        failed = asyncio.run(_follow(runtime, tenant, waiting))
    seconds = time.monotonic() - began_s
    terminal.say(f"{len(waiting) - len(failed)} documents of {tenant} embedded in {seconds:.1f} s")
    for status in failed:
        terminal.say(f"not embedded: {status.document_id}: {status.failure_reason}")


async def _has_documents(runtime: LocalRuntime, tenant: str) -> bool:
    async with open_stores(runtime.tenants[tenant], state_dir=runtime.layout.state_dir.resolve()) as stores:
        return bool(await stores.knowledge.states.count_by_state())


async def _waiting(runtime: LocalRuntime, tenant: str) -> list[str]:
    """Return the ids of the documents on their way into the index."""
    on_the_way = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
    async with open_stores(runtime.tenants[tenant], state_dir=runtime.layout.state_dir.resolve()) as stores:
        pages = pages_of(stores.knowledge.states, on_the_way)
        return [status.document_id async for page in pages for status in page]


async def answers_something(knowledge: KnowledgeStores) -> bool:
    """Return whether at least one document of the tenant is in the index."""
    counts = await knowledge.states.count_by_state()
    return bool(counts.get(DocumentState.LIVE) or counts.get(DocumentState.STALE))


def withdraw_documents(
    options: GlobalOptions, *, tenant: str, document_ids: Sequence[str], yes: bool
) -> None:
    """Withdraw after a question (or ``yes``), until the index has forgotten them; 1 if an id is unknown."""
    options.tenant(tenant)
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    known = asyncio.run(_statuses(runtime, tenant, document_ids))
    unknown = [document_id for document_id in document_ids if document_id not in known]
    if known and not yes:
        _confirm(terminal, list(known.values()))
    if known:
        with runtime.processes(runtime.layout.for_loading, command="assistant knowledge withdraw"):
            asyncio.run(_withdraw(runtime, tenant, list(known)))
    if options.json:
        terminal.line(orjson.dumps({"withdrawn": list(known), "unknown": unknown}).decode())
    elif known:
        terminal.out.print(f"Withdrawn: {', '.join(known)}.", markup=False)
    if unknown:
        raise NotFoundError(f"{tenant} has no document {', '.join(unknown)}.")


def _confirm(terminal: Terminal, statuses: Sequence[DocumentStatus]) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Withdrawing asks before it deletes; with nobody to ask, add --yes.")
    for status in statuses:
        terminal.err.print(plain(f"  {status.document_id}  {status.title}"))
    typer.confirm("Withdraw and delete their text?", abort=True, err=True)


async def _statuses(
    runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]
) -> dict[str, DocumentStatus]:
    state_dir = runtime.layout.state_dir.resolve()
    async with open_stores(runtime.tenants[tenant], state_dir=state_dir) as stores:
        found = await stores.knowledge.states.get_many(list(dict.fromkeys(document_ids)))
        return {one: found[one] for one in dict.fromkeys(document_ids) if one in found}


async def _withdraw(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    state_dir = runtime.layout.state_dir.resolve()
    until_s = time.monotonic() + _WITHDRAWAL_TIMEOUT_S
    async with open_stores(runtime.tenants[tenant], state_dir=state_dir) as stores:
        await WithdrawDocuments(stores.knowledge, clock=SystemClock())(document_ids)
        await _until_out(stores.knowledge, document_ids, until_s=until_s)


async def _take_out(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    state_dir = runtime.layout.state_dir.resolve()
    until_s = time.monotonic() + _WITHDRAWAL_TIMEOUT_S
    async with open_stores(runtime.tenants[tenant], state_dir=state_dir) as stores:
        await _until_out(stores.knowledge, document_ids, until_s=until_s)


async def _until_out(stores: KnowledgeStores, document_ids: Sequence[str], *, until_s: float) -> None:
    """Wait until the index has forgotten what was withdrawn or withheld. Raises LocalRuntimeError."""
    out = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
    while any(
        status.state in out and status.live_content_hash is not None
        for status in (await stores.states.get_many(document_ids)).values()
    ):
        if time.monotonic() > until_s:
            raise LocalRuntimeError(
                "Nobody reads the documents any more, but the worker has not taken their passages out of the "
                "index yet; it will when it runs (assistant local up)."
            )
        await asyncio.sleep(_POLL_S)


def _worker_is_alive(runtime: LocalRuntime) -> Callable[[], bool]:
    def is_alive() -> bool:
        running = runtime.supervisor.registry.read()
        one = None if running is None else running.processes.get(WORKER)
        return one is not None and one.identity.is_alive()

    return is_alive
