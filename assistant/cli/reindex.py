"""``assistant knowledge reindex``: fills an index of another model beside the live one, and switches."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from shutil import disk_usage

from assistant.cli.global_options import GlobalOptions
from assistant.cli.local import LocalRuntime, local_runtime, require_node
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, ConflictError, LocalRuntimeError, NotFoundError
from assistant.knowledge.reindexing import ReindexReport
from assistant.local.layout import models_dir
from assistant.settings.local_models import (
    PACKAGED_EMBEDDING,
    PACKAGED_NAME,
    AddedEmbedding,
    added_models,
    choose_beside,
    keep_live_only,
)
from assistant.wiring.index_versions import open_reindexing

_COMMAND = "assistant knowledge reindex"
_MIB = 1024 * 1024


def reindex_to(options: GlobalOptions, *, tenants: list[str], model: str) -> None:
    """Fill an index of the model for each tenant, and make it live; the one before is kept."""
    folder, terminal = models_dir(options.state_dir), Terminal()
    target = _named(folder, model)
    for tenant in tenants:
        before = options.local_models([tenant])[tenant]
        if before.embedding != target:
            _refuse_other(tenant, before.beside, target)
            _refuse_full_disk(options, tenant)
            choose_beside(folder, tenant, target)
        runtime = local_runtime(options, terminal)
        try:
            with runtime.processes(runtime.layout.for_loading, command=_COMMAND):
                report = asyncio.run(_run(runtime, tenant, model))
        except (ConfigurationError, NotFoundError):
            if before.beside is None:
                keep_live_only(folder, tenant, before.embedding)
            raise
        _show(options, terminal, tenant, report)


def reindex_back(options: GlobalOptions, *, tenants: list[str]) -> None:
    """Make the index before live again, after it has caught up."""
    terminal = Terminal()
    runtime = local_runtime(options, terminal)
    for tenant in tenants:
        with runtime.processes(runtime.layout.for_loading, command=_COMMAND):
            report = asyncio.run(_run(runtime, tenant, None))
        _show(options, terminal, tenant, report)


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


async def _run(runtime: LocalRuntime, tenant: str, model: str | None) -> ReindexReport:
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


def _named(folder: Path, model: str) -> AddedEmbedding | None:
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


def _refuse_other(tenant: str, beside: AddedEmbedding | str | None, target: AddedEmbedding | None) -> None:
    name = beside.name if isinstance(beside, AddedEmbedding) else beside
    wanted = PACKAGED_NAME if target is None else target.name
    if name not in (None, wanted):
        raise ConflictError(
            f"{tenant} has an index of {name} beside the live one, to go back to or not whole yet. Go on "
            f"with that one, or delete it: {_COMMAND} --drop-old --tenant {tenant}"
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


def _show(options: GlobalOptions, terminal: Terminal, tenant: str, report: ReindexReport) -> None:
    if options.json:
        terminal.json({"tenant": tenant} | asdict(report))
        return
    if report.before is None:
        terminal.out.print(f"{tenant}: {report.live} is live already.", markup=False)
        return
    done = f"{report.documents:,} documents embedded in {report.seconds:.1f} s"
    terminal.out.print(f"{tenant}: {done}; {report.live} is live.", markup=False)
    terminal.say(f"{report.before} is kept, and receives changes: {_COMMAND} --back, or --drop-old")
