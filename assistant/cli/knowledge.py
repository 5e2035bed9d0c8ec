"""``assistant knowledge add``, ``withdraw``, ``reindex``; the load at the start of ``ask`` and ``demo``."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from shutil import disk_usage

import typer

from assistant.cli.loading import (
    LoadReport,
    Reading,
    SourceFolders,
    check_paths,
    chosen_folders,
    finish,
    follow_worker,
    own_folders,
)
from assistant.cli.local import LocalRuntime, local_runtime, require_node
from assistant.cli.terminal import GlobalOptions, Terminal, plain
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import ConfigurationError, ConflictError, LocalRuntimeError, NotFoundError
from assistant.knowledge.add_documents import AddDocuments, AddSummary
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.reading import pages_of
from assistant.knowledge.reindexing import ReindexReport
from assistant.knowledge.sources import Writer
from assistant.knowledge.withdrawal import WithdrawDocuments
from assistant.local.layout import WORKER, models_dir
from assistant.settings.local_models import (
    PACKAGED_EMBEDDING,
    PACKAGED_NAME,
    AddedEmbedding,
    added_models,
    choose_beside,
    keep_live_only,
)
from assistant.wiring.live_index import open_reindexing

_WITHDRAWAL_TIMEOUT_S = 30.0
_POLL_S = 0.1
_REINDEX = "assistant knowledge reindex"
_MIB = 1024 * 1024
_WRITER = "assistant knowledge"
"""The writer in the records, for every person on this machine."""


def add_documents(
    options: GlobalOptions, *, tenant: str, source: str | None, paths: Sequence[Path], labels: Sequence[str]
) -> None:
    """Load the paths, or the tenant file's own; status 1 if something failed, the rest is loaded."""
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    chosen = chosen_folders(options, tenant, source=source, paths=paths)
    began_s = time.monotonic()
    reading = Reading.of(options.tenant(tenant))
    summary = asyncio.run(_store(runtime, tenant, chosen, reading, labels=labels))
    failed: tuple[DocumentStatus, ...] = ()
    removed = [*summary.withdrawn_ids, *(one.document_id for one in summary.withheld)]
    if summary.enqueued_ids or removed:  # else nothing has to be started: all of it is live already
        with runtime.processes(runtime.layout.for_loading, command="assistant knowledge add"):
            asyncio.run(_await_removal(runtime, tenant, removed))
            failed = asyncio.run(_follow(runtime, tenant, summary.enqueued_ids))
    finish(options, terminal, LoadReport(summary, failed, time.monotonic() - began_s, reading))


async def load(runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders]) -> LoadReport:
    """Load the folders, with a progress bar until all documents are live. The worker must run.

    Raises LocalRuntimeError when the worker ends or finishes nothing.
    """
    began_s = time.monotonic()
    reading = Reading.of(runtime.options.tenant(tenant))
    summary = await _store(runtime, tenant, folders, reading)
    failed = await _follow(runtime, tenant, summary.enqueued_ids)
    return LoadReport(summary, failed, time.monotonic() - began_s, reading)


async def _store(
    runtime: LocalRuntime,
    tenant: str,
    folders: Sequence[SourceFolders],
    reading: Reading,
    *,
    labels: Sequence[str] = (),
) -> AddSummary:
    """Store what is new or changed and enqueue it for the worker, which need not run."""
    total = AddSummary()
    writer = Writer(_WRITER, frozenset(labels))
    async with runtime.options.stores(tenant) as stores:
        with runtime.terminal.counting(f"reading for {tenant}", "documents") as show:
            add = AddDocuments(stores.knowledge, clock=SystemClock(), accesses=stores.records)
            for folder in folders:
                before = total.lines

                def progress(so_far: AddSummary, before: int = before) -> None:
                    show(before + so_far.lines, 0)

                items = reading.items(folder)
                total.include(await add(items, source=folder.source, writer=writer, progress=progress))
    return total


async def _follow(
    runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]
) -> tuple[DocumentStatus, ...]:
    """Wait for the worker, with a progress bar; return the documents that failed."""
    async with runtime.options.stores(tenant) as stores:
        with runtime.terminal.counting(f"loading {tenant}", "documents") as show:
            alive = _worker_is_alive(runtime)
            return await follow_worker(
                stores.knowledge.states, document_ids, worker_is_alive=alive, show=show
            )


def _worker_is_alive(runtime: LocalRuntime) -> Callable[[], bool]:
    return lambda: WORKER in runtime.supervisor.registry.read_living().processes


async def load_if_empty(runtime: LocalRuntime, tenant: str) -> None:
    """Load the tenant file's own knowledge when no document of the tenant is indexed yet."""
    async with runtime.options.stores(tenant) as stores:
        if await has_knowledge(stores.knowledge):
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
    for failure in report.failure_lines():
        runtime.terminal.say(f"not loaded: {failure}")
    for remark in report.reading.remarks():
        runtime.terminal.say(remark)


def embed_again(options: GlobalOptions, terminal: Terminal, *, tenant: str) -> None:
    """Bring the tenant's documents into the index of the embedding model that was just chosen.

    Starts nothing where the tenant has no documents yet.
    """
    runtime = local_runtime(options, terminal)
    if not asyncio.run(_has_documents(options, tenant)):
        return
    began_s = time.monotonic()
    with runtime.processes(runtime.layout.for_loading, command="assistant models"):
        waiting = asyncio.run(_unfinished(options, tenant))  # the worker enqueues what its index lacks
        failed = asyncio.run(_follow(runtime, tenant, waiting))
    seconds = time.monotonic() - began_s
    terminal.say(f"{len(waiting) - len(failed)} documents of {tenant} embedded in {seconds:.1f} s")
    for status in failed:
        terminal.say(f"not embedded: {status.document_id}: {status.failure_reason}")


async def _has_documents(options: GlobalOptions, tenant: str) -> bool:
    async with options.stores(tenant) as stores:
        return bool(await stores.knowledge.states.count_by_state())


async def _unfinished(options: GlobalOptions, tenant: str) -> list[str]:
    """Return the ids of the documents that are not indexed yet."""
    unfinished = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
    async with options.stores(tenant) as stores:
        pages = pages_of(stores.knowledge.states, unfinished)
        return [status.document_id async for page in pages for status in page]


async def has_knowledge(knowledge: KnowledgeStores) -> bool:
    """Return whether at least one document of the tenant is in the index."""
    counts = await knowledge.states.count_by_state()
    return bool(counts.get(DocumentState.LIVE) or counts.get(DocumentState.STALE))


async def require_knowledge(tenant: str, knowledge: KnowledgeStores) -> None:
    """Raise ConfigurationError when no document of the tenant is in the index."""
    if not await has_knowledge(knowledge):
        raise ConfigurationError(
            f"{tenant} has no knowledge yet: add some with assistant knowledge add --tenant {tenant} PATH."
        )


def withdraw_documents(
    options: GlobalOptions, *, tenant: str, document_ids: Sequence[str], yes: bool
) -> None:
    """Withdraw documents and wait until they are out of the index; status 1 if an id is unknown.

    Asks first, unless ``yes``.
    """
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    ids = list(dict.fromkeys(document_ids))
    found = asyncio.run(_statuses(options, tenant, ids))
    known = {one: found[one] for one in ids if one in found}
    unknown = [one for one in document_ids if one not in found]
    if known and not yes:
        _confirm(terminal, list(known.values()))
    if known:
        with runtime.processes(runtime.layout.for_loading, command="assistant knowledge withdraw"):
            asyncio.run(_withdraw(runtime, tenant, list(known)))
    if options.json:
        terminal.json({"withdrawn": list(known), "unknown": unknown})
    elif known:
        terminal.out.print(f"Withdrawn: {', '.join(known)}.", markup=False)
    if unknown:
        raise NotFoundError(f"{tenant} has no document {', '.join(unknown)}.")


def _confirm(terminal: Terminal, statuses: Sequence[DocumentStatus]) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Withdrawing asks before it deletes; without a terminal, add --yes.")
    for status in statuses:
        terminal.err.print(plain(f"  {status.document_id}  {status.title}"))
    typer.confirm("Withdraw and delete their text?", abort=True, err=True)


async def _statuses(
    options: GlobalOptions, tenant: str, document_ids: Sequence[str]
) -> dict[str, DocumentStatus]:
    async with options.stores(tenant) as stores:
        return dict(await stores.knowledge.states.get_many(document_ids))


async def _withdraw(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    async with runtime.options.stores(tenant) as stores:
        await WithdrawDocuments(stores.knowledge, clock=SystemClock())(document_ids)
    await _await_removal(runtime, tenant, document_ids)


async def _await_removal(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    """Wait until withdrawn or withheld documents are out of the index. Raises LocalRuntimeError."""
    until_s = time.monotonic() + _WITHDRAWAL_TIMEOUT_S
    removed = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
    async with runtime.options.stores(tenant) as stores:
        while any(
            status.state in removed and status.live_content_hash is not None
            for status in (await stores.knowledge.states.get_many(document_ids)).values()
        ):
            if time.monotonic() > until_s:
                raise LocalRuntimeError(
                    "No answer uses the documents any more, but the worker has not yet removed their "
                    "passages from the index. It does so when it runs (assistant local up)."
                )
            await asyncio.sleep(_POLL_S)


# Reindexing


def reindex_to(options: GlobalOptions, *, tenants: list[str], model: str) -> None:
    """Fill an index of the model for each tenant, and make it live; the one before is kept."""
    folder, terminal = models_dir(options.state_dir), Terminal()
    target = _embedding_named(folder, model)
    for tenant in tenants:
        before = options.local_models([tenant])[tenant]
        if before.embedding != target:
            _refuse_other_index(tenant, before.beside, target)
            _refuse_full_disk(options, tenant)
            choose_beside(folder, tenant, target)
        runtime = local_runtime(options, terminal)
        try:
            with runtime.processes(runtime.layout.for_loading, command=_REINDEX):
                report = asyncio.run(_reindex(runtime, tenant, model))
        except (ConfigurationError, NotFoundError):
            if before.beside is None:
                keep_live_only(folder, tenant, before.embedding)
            raise
        _show_reindex(options, terminal, tenant, report)


def reindex_back(options: GlobalOptions, *, tenants: list[str]) -> None:
    """Make the index before live again, after it has caught up."""
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    for tenant in tenants:
        with runtime.processes(runtime.layout.for_loading, command=_REINDEX):
            report = asyncio.run(_reindex(runtime, tenant, None))
        _show_reindex(options, terminal, tenant, report)


def drop_old(options: GlobalOptions, *, tenants: list[str]) -> None:
    """Delete every index of the tenants that is not live."""
    terminal, folder = Terminal(), models_dir(options.state_dir)
    runtime = local_runtime(options, terminal)
    require_node(runtime.settings)
    for tenant in tenants:
        with terminal.waiting("waiting until no answer reads the index before"):
            dropped, live = asyncio.run(_drop(runtime, tenant))
        added = {one.name: one for one in added_models(folder) if isinstance(one, AddedEmbedding)}
        keep_live_only(folder, tenant, added.get(live))
        if options.json:
            terminal.json({"tenant": tenant, "dropped": dropped, "live_model": live})
        else:
            what = f"Deleted {', '.join(dropped)}." if dropped else "There was no other index."
            terminal.out.print(f"{tenant}: {what} {live} is live.", markup=False)


async def _reindex(runtime: LocalRuntime, tenant: str, model: str | None) -> ReindexReport:
    ports = runtime.supervisor.registry.read_living().ports
    settings = runtime.layout.worker_settings(ports)
    with runtime.terminal.counting(f"embedding {tenant}", "documents") as show:
        async with open_reindexing(settings, tenant) as reindexing:
            if model is None:
                return await reindexing.back(progress=show)
            return await reindexing.to_model(model, progress=show)


async def _drop(runtime: LocalRuntime, tenant: str) -> tuple[list[str], str]:
    settings = runtime.layout.worker_settings(runtime.supervisor.wishes.choose({}))
    async with open_reindexing(settings, tenant) as reindexing:
        live = await reindexing.live_model()
        if live is None:
            raise ConfigurationError(f"The model of {tenant}'s live index is not known here. Add it again.")
        return await reindexing.drop_others(), live


def _embedding_named(folder: Path, model: str) -> AddedEmbedding | None:
    """Return the added embedding model of a name; None for the packaged one. Raises NotFoundError."""
    if model == PACKAGED_EMBEDDING:
        return None
    there = {one.name: one for one in added_models(folder) if isinstance(one, AddedEmbedding)}
    if model not in there:
        names = ", ".join((PACKAGED_EMBEDDING, *there))
        raise NotFoundError(
            f"There is no embedding model {model}; there are: {names}. Add one: assistant models add FOLDER."
        )
    return there[model]


def _refuse_other_index(
    tenant: str, beside: AddedEmbedding | str | None, target: AddedEmbedding | None
) -> None:
    name = beside.name if isinstance(beside, AddedEmbedding) else beside
    wanted = PACKAGED_NAME if target is None else target.name
    if name not in (None, wanted):
        raise ConflictError(
            f"{tenant} has an index of {name} beside the live one, to go back to or not whole yet. Go on "
            f"with that one, or delete it: {_REINDEX} --drop-old --tenant {tenant}"
        )


def _refuse_full_disk(options: GlobalOptions, tenant: str) -> None:
    """Raise LocalRuntimeError where a second index of the size of the first does not fit."""
    index = options.state_dir.resolve() / "tenants" / tenant / "index"
    needed = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    free = disk_usage(options.state_dir).free if options.state_dir.exists() else needed
    if free < needed:
        raise LocalRuntimeError(
            f"The disk has {free // _MIB} MiB free, and a second index of {tenant} takes about "
            f"{needed // _MIB} MiB. Make room; nothing was changed."
        )


def _show_reindex(options: GlobalOptions, terminal: Terminal, tenant: str, report: ReindexReport) -> None:
    if options.json:
        terminal.json({"tenant": tenant} | asdict(report))
        return
    if report.before is None:
        terminal.out.print(f"{tenant}: {report.live} is live already.", markup=False)
        return
    done = f"{report.documents:,} documents embedded in {report.seconds:.1f} s"
    terminal.out.print(f"{tenant}: {done}; {report.live} is live.", markup=False)
    terminal.say(f"{report.before} is kept, and receives changes: {_REINDEX} --back, or --drop-old")
