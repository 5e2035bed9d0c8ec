"""``assistant learn``: routers from labelled questions, training sets from what agents did, and what is
forgotten again.

What a command works with is imported when it runs: the other commands start without numpy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.table import Table
from typer import Option

from assistant.domain.clock import SystemClock
from assistant.domain.errors import ConfigurationError
from assistant.domain.revisions import DeskKind, ReleaseState
from assistant.option import Place
from assistant.stores.desk import DESK
from assistant.stores.erasure import ERASURE_KEYS
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, instant, plain

if TYPE_CHECKING:
    from assistant.answer.services import TenantServices
    from assistant.evaluation.fit_router import Release
    from assistant.options.feedback.opened import LearningStores
    from assistant.process.settings import PreparingSettings
    from assistant.stores.opened import EmbeddedTenant
    from assistant.terminal.local import LocalRuntime

Result = TypeVar("Result")
app = typer.Typer(no_args_is_help=True, add_completion=False)
DEPLOYED = (
    "Work on a deployment's stores, which ASSISTANT_PREPARE_… name, and not on this machine's: inside the "
    "deployment's network."
)
BY = "Name of the person who exports: under hipaa needed with --deployed. Else this machine's user counts."
CONTENTS = "Of the second person, under hipaa: the contents that the first one's refusal told."
LABELLED = "Labelled questions, by default evaluation/T/tuning.jsonl and routing.jsonl. Repeatable."
END = "End of the window, UTC. Default: now."
Until = Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=END)]
FIRST_DAY = "First day of the window, UTC. Default: 90 days before its end."
Since = Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=FIRST_DAY)]
SETS_DAYS = 90
_ROUTING_FILES = ("tuning.jsonl", "routing.jsonl")


@app.callback()
def stores(
    context: typer.Context, deployed: Annotated[bool, Option("--deployed", help=DEPLOYED)] = False
) -> None:
    context.obj = replace(GlobalOptions.of(context), deployed=deployed)


@app.command()
def erase(
    context: typer.Context,
    tenant: Tenant,
    member: Annotated[
        str, Option("--member", metavar="NUMBER", help="Member number, however it is written.")
    ],
    contents: Annotated[str | None, Option(metavar="HASH", help=CONTENTS)] = None,
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are. Under the
    profile hipaa a second person must give the same command."""
    from assistant.options.feedback.opened import feedback_of, local_signals, two_people_of
    from assistant.options.feedback.signals import Erased, ErasePatient
    from assistant.terminal.terminal import cli_reader

    options = GlobalOptions.of(context)
    config, state_dir = options.tenant(tenant), options.state_dir.resolve()
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    signals = local_signals(config, tenants_dir=options.tenants_dir, state_dir=state_dir)

    async def destroy(stores: EmbeddedTenant) -> Erased:
        keys, feedback = stores.get(ERASURE_KEYS), await feedback_of(stores, config.name)
        two_people = two_people_of(config, stores.get(DESK))
        erase = ErasePatient(signals=signals, keys=keys, feedback=feedback, two_people=two_people)
        return await erase(member, by=cli_reader(), named=contents)

    erased = options.with_stores(tenant, destroy)
    told = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        told = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    show(options, asdict(erased), told, *(f"  {name}" for name in (erased.subject, *erased.texts)))


# Routers


@app.command()
def routing(
    context: typer.Context,
    tenant: Tenant,
    questions: Annotated[list[Path] | None, Option(metavar="FILE", help=LABELLED)] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Learn and measure; store nothing.")] = False,
    rollback: Annotated[bool, Option("--rollback", help="Take the live router back instead.")] = False,
) -> None:
    """Learn how much each source matters for a question; what routes better than keywords serves."""
    from assistant.evaluation.fit_router import routing_report_of

    options = GlobalOptions.of(context)
    if rollback:
        _roll_back(options, tenant)
        return
    paths = questions or _question_files(options, tenant)
    if not paths:
        names = " or ".join(_ROUTING_FILES)
        raise ConfigurationError(f"evaluation/{tenant} has no {names}: name a file with --questions.")
    learn = partial(_learn_router, options, paths=paths, dry_run=dry_run)
    release = _with_services(options, tenant, learn)
    report = routing_report_of(release.content)
    told = report.model_dump() | {"artifact_hash": release.content.artifact_hash}
    _show_release(options, release, told, dry_run=dry_run)


def _roll_back(options: GlobalOptions, tenant: str) -> None:
    from assistant.evaluation.fit_router import RouterReleases

    async def move(stores: LearningStores) -> tuple[str, str]:
        taken, serves = await RouterReleases(stores.desk, clock=SystemClock()).roll_back()
        return taken.name, "keywords" if serves is None else serves.name

    taken, serves = with_stores(options, tenant, move)
    told = {"rolled_back": taken, "serves": serves}
    show(options, told, f"{taken} is rolled back; now serving: {serves}.")


def _question_files(options: GlobalOptions, tenant: str) -> list[Path]:
    folder = _questions_folder(options) / tenant
    return [path for name in _ROUTING_FILES if (path := folder / name).is_file()]


async def learn_first_router(runtime: LocalRuntime, *, tenant: str) -> Release | None:
    """Learn a router where the tenant has questions for one and never had a release; else None."""
    from assistant.terminal.local import open_services

    options = runtime.options
    paths, config = _question_files(options, tenant), options.tenant(tenant)
    if not paths or len(config.sources) < 2:
        return None
    async with _open_stores(options, tenant) as stores:
        if await stores.desk.list(DeskKind.ROUTER_RELEASE):
            return None
    async with open_services(runtime, [tenant]) as services:
        return await _learn_router(options, services[tenant], paths=paths)


async def _learn_router(
    options: GlobalOptions, services: TenantServices, *, paths: Sequence[Path], dry_run: bool = False
) -> Release:
    from assistant.answer.rank_documents import FindEvidence
    from assistant.answer.search import source_ids
    from assistant.answer.vocabulary import KnownWordsReader
    from assistant.evaluation.fit_router import LabelledQuestion, RouterReleases, learn_routing
    from assistant.evaluation.routing import load_routed
    from assistant.evaluation.trials import embedded

    config, find = services.tenant, FindEvidence(services)
    items_of = source_ids(config, kind="catalogue")
    known = await KnownWordsReader(services.search, clock=services.clock, items_of=items_of).read()
    routed = [
        (question, find.without_names(question.question, known=known))
        for path in paths
        for question in load_routed(path)
        if question.sources
    ]
    vectors = await embedded(services.embedder, [text for _, text in routed], clock=services.clock)
    async with _open_stores(options, config.name) as stores:
        return await learn_routing(
            config,
            [LabelledQuestion(text, vectors[text], one.sources, one.group) for one, text in routed],
            RouterReleases(stores.desk, clock=SystemClock()),
            questions_sha256=sha256(b"".join(path.read_bytes() for path in paths)).hexdigest(),
            dry_run=dry_run,
        )


# What the commands share


@asynccontextmanager
async def _open_stores(options: GlobalOptions, tenant: str) -> AsyncGenerator[LearningStores]:
    from assistant.options.feedback.opened import LearningStores, open_deployed_learning

    if options.deployed:
        async with open_deployed_learning(options.preparing(), tenant) as deployed:
            yield deployed
        return
    config = options.tenant(tenant)
    async with options.stores(tenant) as stores:
        yield await LearningStores.of(stores, config)


def _questions_folder(options: GlobalOptions) -> Path:
    """Return the folder of committed questions, after copying a deployment's."""
    from assistant.terminal.local import committed

    folder = committed(options)
    if options.deployed:
        settings = options.preparing()
        if settings.evaluation_s3 is not None:
            asyncio.run(_copy_questions(settings, folder))
    return folder


async def _copy_questions(settings: PreparingSettings, folder: Path) -> None:
    from assistant.stores.clients import open_clients
    from assistant.stores.s3 import download_folder

    async with open_clients(settings) as clients:
        await download_folder(await clients.aws("s3"), uri=str(settings.evaluation_s3), into=folder)


def with_stores(
    options: GlobalOptions, tenant: str, use: Callable[[LearningStores], Awaitable[Result]]
) -> Result:
    """Return what ``use`` returns of the tenant's stores."""

    async def run() -> Result:
        async with _open_stores(options, tenant) as stores:
            return await use(stores)

    with Terminal().waiting("learning"):
        return asyncio.run(run())


def _with_services(
    options: GlobalOptions, tenant: str, use: Callable[[TenantServices], Awaitable[Result]]
) -> Result:
    """Return what ``use`` returns of the tenant's services: of its deployment, or of local processes that
    have its knowledge."""
    from assistant.cli.knowledge import load_if_empty
    from assistant.service.opened import open_tenants
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


def show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print JSON for a program to read, else lines and tables."""
    if not options.writes(value):
        for part in parts:
            Terminal().out.print(plain(part) if isinstance(part, str) else part)


def _show_release(
    options: GlobalOptions, release: Release, told: Mapping[str, Any], *, dry_run: bool
) -> None:
    """Print a new release, and what was learned. Status 1 where it was refused."""
    state = release.content.state
    if not options.writes(_as_json(release)):
        Terminal().show(f"{release.name}: {'dry run, nothing is stored' if dry_run else state.value}", "bold")
        Terminal().fields(told)
    if state is ReleaseState.REFUSED and not dry_run:
        raise typer.Exit(1)


def _as_json(release: Release) -> Mapping[str, object]:
    """Return a release without the artifact."""
    content = release.content.model_dump(mode="json", exclude={"router_json", "report"})
    report = json.loads(release.content.report) if release.content.report else None
    return {"release": release.name, "note": release.item.note, **content, "report": report}


for add_commands in Place[Callable[[typer.Typer], None]]("commands of learn").joined():
    add_commands(app)
