"""``assistant learn routing``: a router of sources from labelled questions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import typer

from assistant.answering.evidence import FindEvidence
from assistant.answering.services import TenantServices
from assistant.answering.tables import source_ids
from assistant.answering.vocabulary import KnownWordsReader
from assistant.cli.evaluate import open_services
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.ranking import as_json as release_as_json
from assistant.cli.terminal import GlobalOptions, Terminal, plain, table
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.desk import DeskKind, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.routing import load_routed
from assistant.tuning.releases import Release
from assistant.tuning.routing import LearnRouting, Read, routing_report_of
from assistant.wiring.feedback import open_learning

_EMBEDDING_LIMIT_S = 60.0
_FILES = ("tuning.jsonl", "routing.jsonl")
_NAMES = " or ".join(_FILES)


def learn_routing(
    options: GlobalOptions, *, tenant: str, paths: Sequence[Path], seed: int, dry_run: bool
) -> None:
    """Learn, cross-validate and show the release. Status 1 where it does not beat the words of the kinds."""
    terminal = Terminal()
    paths = paths or question_files(options, tenant)
    if not paths:
        raise ConfigurationError(f"evaluation/{tenant} has no {_NAMES}: name a file with --questions.")
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.for_loading, command="assistant learn") as ports:
        asyncio.run(load_if_empty(runtime, tenant))
        release = asyncio.run(_learn(runtime, ports, tenant=tenant, paths=paths, seed=seed, dry_run=dry_run))
    _show(terminal, release, dry_run=dry_run, as_json=options.json)
    if release.content.state is ReleaseState.REFUSED and not dry_run:
        raise typer.Exit(1)


def question_files(options: GlobalOptions, tenant: str) -> list[Path]:
    """Return the tenant's own files of labelled questions that routers learn from."""
    folder = options.tenants_dir.parent / "evaluation" / tenant
    return [path for name in _FILES if (path := folder / name).is_file()]


async def learn_first_router(
    runtime: LocalRuntime, ports: Mapping[str, int], *, tenant: str
) -> Release[RouterRelease] | None:
    """Learn a router where the tenant has questions for one and never had a release; else None."""
    options = runtime.options
    paths, config = question_files(options, tenant), options.tenant(tenant)
    if not paths or len(config.sources) < 2:
        return None
    async with open_learning(config, state_dir=options.state_dir.resolve()) as stores:
        if await stores.desk.list(DeskKind.ROUTER_RELEASE):
            return None
    return await _learn(runtime, ports, tenant=tenant, paths=paths)


async def _learn(
    runtime: LocalRuntime,
    ports: Mapping[str, int],
    *,
    tenant: str,
    paths: Sequence[Path],
    seed: int = 0,
    dry_run: bool = False,
) -> Release[RouterRelease]:
    options, clock = runtime.options, SystemClock()
    config = options.tenant(tenant)
    labelled = [question for path in paths for question in load_routed(path)]
    async with (
        open_services(runtime, ports, [tenant]) as services,
        open_learning(config, state_dir=options.state_dir.resolve()) as stores,
    ):

        async def embed(texts: Sequence[str]) -> list[list[float]]:
            deadline = Deadline.after(_EMBEDDING_LIMIT_S, clock=clock)
            return await services[tenant].embedder.embed(texts, deadline=deadline)

        return await LearnRouting(config, desk=stores.desk, clock=clock).learn(
            labelled,
            file_sha256=sha256(b"".join(path.read_bytes() for path in paths)).hexdigest(),
            read=await _reading(services[tenant]),
            embed=embed,
            seed=seed,
            dry_run=dry_run,
        )


async def _reading(services: TenantServices) -> Read:
    """Return what reads questions as serving does: with the items that the index holds now."""
    items_of = source_ids(services.tenant, kind="catalogue")
    known = await KnownWordsReader(services.search, clock=services.clock, items_of=items_of).read()
    return partial(FindEvidence(services).without_items, known=known)


def _show(terminal: Terminal, release: Release[RouterRelease], *, dry_run: bool, as_json: bool) -> None:
    content, report = release.content, routing_report_of(release.content)
    if as_json:
        terminal.json(release_as_json(release))
        return
    state = "dry run, nothing is stored" if dry_run else content.state.value
    terminal.out.print(plain(f"{release.name}: {state}", style="bold"))
    rows = [(name, str(count)) for name, count in report.of_source.items()]
    terminal.out.print(table("right source", "questions", right=("questions",), rows=rows))
    terminal.out.print(
        plain(
            f"right source first {report.right_first:.1%}, by the words of the kinds "
            f"{report.keywords_right_first:.1%}; gain at least {100 * report.gain_low:.1f} points (95 %), "
            f"cross-validated by item; {report.words} words, artifact {content.artifact_hash[:16]}"
        )
    )
    if report.refused_because:
        terminal.out.print(plain(f"refused: {report.refused_because}", style="yellow"))
