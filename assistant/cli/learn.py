"""``assistant learn routing``: learns a router from labelled questions. Options add commands to the group.

A *router* tells how much each source matters for a question. A *release* of it is an item of the tenant's
desk; the service uses the live release, or keywords where there is none.

Most imports are inside the functions, so that other commands start without numpy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer import Option

from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind, ReleaseState
from assistant.domain.errors import ConfigurationError
from assistant.option import installed
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal

if TYPE_CHECKING:
    from assistant.answer.services import TenantServices
    from assistant.evaluation.routing import Release
    from assistant.process.settings import PreparingSettings
    from assistant.stores.desk import StoredDesk
    from assistant.terminal.local import LocalRuntime

Result = TypeVar("Result")
app = typer.Typer(no_args_is_help=True, add_completion=False)
DEPLOYED = (
    "Work on a deployment's stores, which ASSISTANT_PREPARE_… name, and not on this machine's: inside the "
    "deployment's network."
)
LABELLED = "Labelled questions, by default evaluation/T/tuning.jsonl and routing.jsonl. Repeatable."
_ROUTING_FILES = ("tuning.jsonl", "routing.jsonl")


@app.callback()
def stores(
    context: typer.Context, deployed: Annotated[bool, Option("--deployed", help=DEPLOYED)] = False
) -> None:
    context.obj = replace(GlobalOptions.of(context), deployed=deployed)


@app.command()
def routing(
    context: typer.Context,
    tenant: Tenant,
    questions: Annotated[list[Path] | None, Option(metavar="FILE", help=LABELLED)] = None,
    rollback: Annotated[bool, Option("--rollback", help="Take the live router back instead.")] = False,
) -> None:
    """Learn how much each source matters for a question; what routes better than keywords serves."""
    from assistant.evaluation.routing import routing_report_of

    options = GlobalOptions.of(context)
    if rollback:
        _roll_back(options, tenant)
        return
    paths = questions or _question_files(options, tenant)
    if not paths:
        names = " or ".join(_ROUTING_FILES)
        raise ConfigurationError(f"evaluation/{tenant} has no {names}: name a file with --questions.")
    learn = partial(_learn_router, options, paths=paths)
    release = _with_services(options, tenant, learn)
    report = routing_report_of(release.content)
    shown = report.model_dump() | {"artifact_hash": release.content.artifact_hash}
    _show_release(options, release, shown)


def _roll_back(options: GlobalOptions, tenant: str) -> None:
    """Take the live router back, and print what serves now: the release before it, or keywords."""
    from assistant.evaluation.routing import RouterReleases

    async def move() -> tuple[str, str]:
        async with _open_desk(options, tenant) as desk:
            rolled_back, serves = await RouterReleases(desk, clock=SystemClock()).roll_back()
        return rolled_back.name, "keywords" if serves is None else serves.name

    with Terminal().waiting("learning"):
        rolled_back, serves = asyncio.run(move())
    if not options.writes({"rolled_back": rolled_back, "serves": serves}):
        Terminal().show(f"{rolled_back} is rolled back; now serving: {serves}.")


def _question_files(options: GlobalOptions, tenant: str) -> list[Path]:
    """Return the committed files of the tenant's labelled questions that exist."""
    folder = _questions_folder(options) / tenant
    return [path for name in _ROUTING_FILES if (path := folder / name).is_file()]


async def learn_first_router(runtime: LocalRuntime, *, tenant: str) -> Release | None:
    """Learn a router where the tenant has labelled questions, two sources or more, and no release yet; else
    return None. The demo calls it."""
    from assistant.terminal.local import open_services

    options = runtime.options
    paths, config = _question_files(options, tenant), options.tenant(tenant)
    if not paths or len(config.sources) < 2:
        return None
    async with _open_desk(options, tenant) as desk:
        if await desk.list(DeskKind.ROUTER_RELEASE):
            return None
    async with open_services(runtime, [tenant]) as services:
        return await _learn_router(options, services[tenant], paths=paths)


async def _learn_router(
    options: GlobalOptions, services: TenantServices, *, paths: Sequence[Path]
) -> Release:
    """Learn a router from the files' questions, and store it as a release.

    It learns from the questions without names of items, as the service routes them.
    """
    from assistant.answer.adaptations import Adaptations
    from assistant.answer.find import source_ids
    from assistant.answer.vocabulary import KnownWordsReader
    from assistant.evaluation.questions import load_rows
    from assistant.evaluation.routing import LabelledQuestion, RoutedQuestion, RouterReleases, learn_routing
    from assistant.evaluation.trials import embedded

    config, adaptations = services.tenant, Adaptations(services)
    items_of = source_ids(config, kind="catalogue")
    known = await KnownWordsReader(services.search, clock=services.clock, items_of=items_of).read()
    routed = [
        (question, adaptations.without_names(question.question, known=known))
        for path in paths
        for question in load_rows(path, RoutedQuestion)
        if question.sources
    ]
    vectors = await embedded(services.embedder, [text for _, text in routed], clock=services.clock)
    async with _open_desk(options, config.name) as desk:
        return await learn_routing(
            config,
            [LabelledQuestion(text, vectors[text], row.sources, row.group) for row, text in routed],
            RouterReleases(desk, clock=SystemClock()),
            questions_sha256=sha256(b"".join(path.read_bytes() for path in paths)).hexdigest(),
        )


@asynccontextmanager
async def _open_desk(options: GlobalOptions, tenant: str) -> AsyncGenerator[StoredDesk]:
    """Open the tenant's desk, which has the releases: of the deployment with --deployed, else of this
    machine. Raises ConfigurationError, DependencyError."""
    from assistant.stores.desk import DESK
    from assistant.stores.opened import open_deployed

    if options.deployed:
        async with open_deployed(options.preparing(), tenant) as (_, deployed):
            yield await deployed.of(DESK)
        return
    async with options.stores(tenant) as embedded:
        yield await embedded.of(DESK)


def _questions_folder(options: GlobalOptions) -> Path:
    """Return the folder of committed questions; with --deployed after downloading the deployment's into
    it."""
    from assistant.terminal.local import committed

    folder = committed(options)
    if options.deployed:
        settings = options.preparing()
        if settings.evaluation_s3 is not None:
            asyncio.run(_copy_questions(settings, folder))
    return folder


async def _copy_questions(settings: PreparingSettings, folder: Path) -> None:
    """Download the deployment's folder of questions from S3."""
    from assistant.stores.clients import open_clients
    from assistant.stores.s3 import download_folder

    async with open_clients(settings) as clients:
        await download_folder(await clients.aws("s3"), uri=str(settings.evaluation_s3), into=folder)


def _with_services(
    options: GlobalOptions, tenant: str, use: Callable[[TenantServices], Awaitable[Result]]
) -> Result:
    """Return the result of ``use`` for the tenant's services: those of its deployment, or of local processes,
    which load the tenant's knowledge first."""
    from assistant.service.opened import open_tenants
    from assistant.terminal.loading import load_if_empty
    from assistant.terminal.local import local_runtime, open_services

    async def run_deployed() -> Result:
        async with open_tenants(options.preparing(), only=[tenant], generates=False) as opened:
            return await use(opened[tenant].answering)

    async def run() -> Result:
        await load_if_empty(runtime, tenant)
        async with open_services(runtime, [tenant]) as services:
            return await use(services[tenant])

    if options.deployed:
        return asyncio.run(run_deployed())
    runtime = local_runtime(options, Terminal())
    with runtime.site(command="assistant learn"):
        return asyncio.run(run())


def _show_release(options: GlobalOptions, release: Release, shown: Mapping[str, Any]) -> None:
    """Print a new release, and ``shown`` about it. Exits with status 1 where the release was refused."""
    state = release.content.state
    if not options.writes(_as_json(release)):
        Terminal().show(f"{release.name}: {state.value}", "bold")
        Terminal().fields(shown)
    if state is ReleaseState.REFUSED:
        raise typer.Exit(1)


def _as_json(release: Release) -> Mapping[str, object]:
    """Return a release without the artifact."""
    content = release.content.model_dump(mode="json", exclude={"router_json", "report"})
    report = json.loads(release.content.report) if release.content.report else None
    return {"release": release.name, "note": release.item.note, **content, "report": report}


for option in installed():
    option.add_to_learn(app)
