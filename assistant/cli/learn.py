"""``assistant learn``: rankers, routers and training sets from what agents did, and what is forgotten again.

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
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer
from rich.table import Table
from typer import Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, instant, plain, table, window_of
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.desk import DeskKind, RankerRelease, ReleaseState, RouterRelease
from assistant.domain.documents import DocumentState, StoredDocument
from assistant.domain.errors import ConfigurationError
from assistant.private_files import make_private_folder, write_private

if TYPE_CHECKING:
    from assistant.answering.ports import PassageSearch
    from assistant.answering.services import TenantServices
    from assistant.cli.local import LocalRuntime
    from assistant.settings.process import PreparingSettings
    from assistant.tuning.gate import ProtectedQuestion, ProtectedSet
    from assistant.tuning.releases import Release, Releases, RouterReleases
    from assistant.tuning.training_sets import Export
    from assistant.wiring.feedback import LearningStores
    from assistant.wiring.stores import EmbeddedTenant

Result = TypeVar("Result")
app = typer.Typer(no_args_is_help=True, add_completion=False)
HOLD_OUT = "Documents that the pairs never show: those that evaluation asks about, or half of all."
DEPLOYED = (
    "Work on a deployment's stores, which ASSISTANT_PREPARE_… name, and not on this machine's: inside the "
    "deployment's network."
)
DRY_RUN = "Learn and ask the open half of the questions; store nothing, take no look at the sealed half."
BY = "Name of the person who exports: under hipaa needed with --deployed. Else this machine's user counts."
LABELLED = "Labelled questions, by default evaluation/T/tuning.jsonl and routing.jsonl. Repeatable."
END = "End of the window, UTC. Default: now."
Until = Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=END)]
FIRST_DAY = "First day of the window, UTC. Default: 28 days, for sets 90."
Since = Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=FIRST_DAY)]
RANKING_DAYS, SETS_DAYS = 28, 90
_ROUTING_FILES = ("tuning.jsonl", "routing.jsonl")
_READ_AT_ONCE, _EMBEDDED_AT_ONCE_S = 20, 60.0


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
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are. Under the
    profile hipaa a second person must give the same command."""
    from assistant.cli.terminal import cli_reader
    from assistant.learning.signals import Erased, ErasePatient
    from assistant.wiring.feedback import local_signals, two_people_of

    options = GlobalOptions.of(context)
    config, state_dir = options.tenant(tenant), options.state_dir.resolve()
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    signals = local_signals(config, tenants_dir=options.tenants_dir, state_dir=state_dir)

    async def destroy(stores: EmbeddedTenant) -> Erased:
        keys, feedback = stores.erasure_keys, stores.feedback
        two_people = two_people_of(config, stores.desk)
        erase = ErasePatient(signals=signals, keys=keys, feedback=feedback, two_people=two_people)
        return await erase(member, by=cli_reader())

    erased = options.with_stores(tenant, destroy)
    told = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        told = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    _show(options, asdict(erased), told, *(f"  {name}" for name in (erased.subject, *erased.texts)))


# Rankers and routers


@app.command()
def ranking(
    context: typer.Context,
    tenant: Tenant,
    since: Since = None,
    until: Until = None,
    share: Annotated[
        int, Option(min=1, max=100, metavar="N", help="Conversations in the trial, in per cent.")
    ] = 10,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY_RUN)] = False,
    questions: Annotated[
        Path | None,
        Option(metavar="FILE", help="What `assistant learn questions` wrote, in place of asking now."),
    ] = None,
) -> None:
    """Learn ranker weights from agents' feedback; what passes the gate goes on trial."""
    from assistant.tuning.gate import read_protected
    from assistant.tuning.releases import LearningReport, LearningRequest, LearnRanking

    options = GlobalOptions.of(context)
    begin, end = window_of(since, until, days=RANKING_DAYS)
    request = LearningRequest(begin, end, share_percent=share, dry_run=dry_run)
    asked = questions and read_protected(questions, tenant=tenant)
    protected = asked or _observe_questions(options, tenant=tenant)

    async def learn(stores: LearningStores) -> Release[RankerRelease]:
        return await LearnRanking(
            tenant=tenant,
            feedback=stores.feedback,
            desk=stores.desk,
            protected=protected,
            clock=SystemClock(),
        ).learn(request)

    release = _with_stores(options, tenant, learn)
    content, report = release.content, LearningReport.model_validate_json(release.content.report)
    before, after = report.weights_before, report.weights_after
    weights = [{"weight": name, "before": before.get(name), "after": after[name]} for name in after]
    told = {
        "window": f"{begin:%Y-%m-%d} to {end:%Y-%m-%d}",
        **content.model_dump(include={"signals", "agents", "artifact_hash"}),
        "weights": weights,
        **report.model_dump(exclude={"schema_version", "weights_before", "weights_after", "gate"}),
        **report.gate.model_dump(exclude={"schema_version", "artifact_hash"}),
    }
    if content.state is ReleaseState.TRIAL:
        told["next"] = (
            f"on trial for {share} % of conversations until {content.trial_ends_at:%Y-%m-%d}; "
            f"{content.least_sample} verdicts and sends are needed: assistant learn promote"
        )
    _show_release(options, release, told, dry_run=dry_run)


@app.command()
def releases(context: typer.Context, tenant: Tenant) -> None:
    """List the releases of ranker weights, newest first, refused ones too."""
    from assistant.tuning.releases import Releases

    options = GlobalOptions.of(context)
    known = _with_stores(options, tenant, lambda stores: Releases(stores.desk, clock=SystemClock()).all())
    if options.writes([_as_json(release) for release in known]):
        return
    rows = [
        {
            "release": release.name,
            "since": f"{release.item.at:%Y-%m-%d %H:%M}",
            **release.content.model_dump(mode="json", include={"state", "signals", "artifact_hash"}),
            "note": release.item.note,
        }
        for release in known
    ]
    Terminal().fields({"releases": rows or "none yet: the shipped ranker serves"})


@app.command()
def promote(context: typer.Context, tenant: Tenant) -> None:
    """Make the trial live, where it has its sample and is not worse than what serves beside it."""
    from assistant.tuning.releases import Releases

    options = GlobalOptions.of(context)
    release, count = _with_stores(
        options, tenant, lambda stores: Releases(stores.desk, clock=SystemClock()).promote(stores.feedback)
    )
    told = {"release": release.name, "state": release.content.state.value, "count": str(count)}
    _show(options, told, f"{release.name} is live: {count}.")


@app.command()
def rollback(context: typer.Context, tenant: Tenant) -> None:
    """Take the newest release back; the one before serves again within seconds."""
    from assistant.tuning.releases import Releases

    _roll_back(GlobalOptions.of(context), tenant, Releases)


def _roll_back(options: GlobalOptions, tenant: str, kind: type[Releases | RouterReleases]) -> None:
    async def move(stores: LearningStores) -> tuple[str, str]:
        taken, serves = await kind(stores.desk, clock=SystemClock()).roll_back()
        return taken.name, kind.fallback if serves is None else serves.name

    taken, serves = _with_stores(options, tenant, move)
    told = {"rolled_back": taken, "serves": serves}
    _show(options, told, f"{taken} is rolled back; now serving: {serves}.")


@app.command()
def questions(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option("--out", metavar="FILE", help="Gets the questions' candidates, no text.")],
) -> None:
    """Observe the evaluation questions and write them for the scheduled job's gate."""
    protected = _observe_questions(GlobalOptions.of(context), tenant=tenant)
    make_private_folder(out.parent)
    write_private(out, protected.model_dump_json().encode())
    told = f"{out}: {len(protected.questions)} questions, {protected.left_out} left out."
    Terminal().out.print(plain(told))


def _observe_questions(options: GlobalOptions, *, tenant: str) -> ProtectedSet:
    """Ask the committed questions through the answer path and keep what ranking knew of their candidates.

    Raises ConfigurationError without questions, and what the local processes raise.
    """
    from assistant.evaluation.judging import Judge, Observer, observe_all
    from assistant.evaluation.questions import load_questions
    from assistant.tuning.gate import ProtectedSet, protected_question

    path = _questions_folder(options) / f"{tenant}.jsonl"
    if not path.is_file():
        raise ConfigurationError(
            f"{tenant} has no evaluation questions ({path}): a ranker that nothing evaluates is not released."
        )
    every = load_questions(path)
    asked = [question for question in every if question.answerable]

    async def observe(services: TenantServices) -> ProtectedSet:
        observer = Observer(services)
        await observer.check(every)
        judge, earlier = Judge(observer), {question.qid: question.question for question in every}
        found: list[ProtectedQuestion] = []
        with Terminal().counting("asking the protected questions", "questions") as show:
            done = 0
            async for observed in observe_all(observer, asked, earlier):
                protected = protected_question(observed, await judge.result(observed))
                found += [protected] if protected is not None else []
                done += 1
                show(done, len(asked))
        return ProtectedSet(
            tenant=tenant,
            questions_sha256=sha256(path.read_bytes()).hexdigest(),
            index_version=(await services.search.info()).index_version,
            ranker=observer.weights["ranker"],
            left_out=len(every) - len(found),
            questions=tuple(found),
        )

    return _with_services(options, tenant, observe)


@app.command()
def routing(
    context: typer.Context,
    tenant: Tenant,
    questions: Annotated[list[Path] | None, Option(metavar="FILE", help=LABELLED)] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Learn and measure; store nothing.")] = False,
    rollback: Annotated[bool, Option("--rollback", help="Take the live router back instead.")] = False,
) -> None:
    """Learn how much each source matters for a question; what routes better than keywords serves."""
    from assistant.tuning.releases import RouterReleases
    from assistant.tuning.routing import routing_report_of

    options = GlobalOptions.of(context)
    if rollback:
        _roll_back(options, tenant, RouterReleases)
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


def _question_files(options: GlobalOptions, tenant: str) -> list[Path]:
    folder = _questions_folder(options) / tenant
    return [path for name in _ROUTING_FILES if (path := folder / name).is_file()]


async def learn_first_router(
    runtime: LocalRuntime, ports: Mapping[str, int], *, tenant: str
) -> Release[RouterRelease] | None:
    """Learn a router where the tenant has questions for one and never had a release; else None."""
    from assistant.cli.local import open_services

    options = runtime.options
    paths, config = _question_files(options, tenant), options.tenant(tenant)
    if not paths or len(config.sources) < 2:
        return None
    async with _open_stores(options, tenant) as stores:
        if await stores.desk.list(DeskKind.ROUTER_RELEASE):
            return None
    async with open_services(runtime, ports, [tenant]) as services:
        return await _learn_router(options, services[tenant], paths=paths)


async def _learn_router(
    options: GlobalOptions, services: TenantServices, *, paths: Sequence[Path], dry_run: bool = False
) -> Release[RouterRelease]:
    from assistant.answering.evidence import FindEvidence
    from assistant.answering.tables import source_ids
    from assistant.answering.vocabulary import KnownWordsReader
    from assistant.evaluation.routing import load_routed
    from assistant.evaluation.trials import embedded
    from assistant.tuning.releases import RouterReleases
    from assistant.tuning.routing import LabelledQuestion, learn_routing

    config, find = services.tenant, FindEvidence(services)
    items_of = source_ids(config, kind="catalogue")
    known = await KnownWordsReader(services.search, clock=services.clock, items_of=items_of).read()
    routed = [
        (question, find.without_items(question.question, known=known))
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


# Training sets and pairs


@app.command()
def export(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The sets become a new folder in it.")],
    since: Since = None,
    until: Until = None,
    by: Annotated[str, Option(metavar="NAME", help=BY)] = "",
) -> None:
    """Write training sets: supervised and preference examples, a data card, provenance to each signal. Under
    the profile hipaa a second person must give the same command."""
    from assistant.cli.terminal import cli_reader
    from assistant.wiring.feedback import two_people_of

    options, (begin, end) = GlobalOptions.of(context), window_of(since, until, days=SETS_DAYS)
    if by and not options.deployed:
        raise ConfigurationError("--by is only for --deployed; elsewhere the user of this machine counts.")

    async def read(stores: LearningStores) -> Export:
        two_people = two_people_of(stores.tenant, stores.desk)
        await two_people.admit("export", "training sets", by=by if options.deployed else cli_reader())
        return await stores.training_sets(begin, end)

    exported = _with_stores(options, tenant, read)
    _write_export(options, exported, out, {"examples": {row[0]: int(row[1]) for row in exported.rows}})


@app.command()
def pairs(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The pairs become a new folder in it.")],
    hold_out: Annotated[Literal["asked", "half"], Option(help=HOLD_OUT)] = "asked",
) -> None:
    """Write pairs for tuning the embedding model: titles, questions, approved answers, sentences."""
    from assistant.evaluation.questions import load_questions
    from assistant.text.language import language
    from assistant.tuning.training_sets import build_pairs, export_of_pairs

    options = GlobalOptions.of(context)
    path = _questions_folder(options) / f"{tenant}.jsonl"
    protected = load_questions(path) if path.is_file() else []

    async def read(services: TenantServices) -> tuple[list[StoredDocument], str, str]:
        documents = await _documents(services.search, options, tenant)
        return documents, (await services.search.info()).index_version, services.tenant.language

    documents, index_version, in_language = _with_services(options, tenant, read)
    sets = build_pairs(
        documents,
        approved=_with_stores(options, tenant, lambda stores: stores.approved()),
        protected=protected,
        language=language(in_language),
        hold_out=hold_out,
    )
    digest = sha256(path.read_bytes()).hexdigest() if protected else ""
    exported = export_of_pairs(sets, tenant=tenant, index_version=index_version, questions_sha256=digest)
    counts = {name: len(found) for name, found in sets.pairs.items()}
    _write_export(options, exported, out, {"pairs": counts})


async def _documents(search: PassageSearch, options: GlobalOptions, tenant: str) -> list[StoredDocument]:
    """Return the tenant's live documents that carry no access label."""
    from assistant.knowledge.reading import pages_of

    async with _open_stores(options, tenant) as stores:
        pages = pages_of(stores.states, (DocumentState.LIVE,))
        ids = [status.document_id async for page in pages for status in page]
    documents: list[StoredDocument] = []
    for start in range(0, len(ids), _READ_AT_ONCE):
        deadline = Deadline.after(_EMBEDDED_AT_ONCE_S, clock=SystemClock())
        batch = ids[start : start + _READ_AT_ONCE]
        documents += (await search.read_documents(batch, labels=frozenset(), deadline=deadline)).values()
    return documents


# What the commands share


@asynccontextmanager
async def _open_stores(options: GlobalOptions, tenant: str) -> AsyncGenerator[LearningStores]:
    from assistant.wiring.feedback import LearningStores, open_deployed_learning

    if options.deployed:
        async with open_deployed_learning(options.preparing(), tenant) as deployed:
            yield deployed
        return
    config = options.tenant(tenant)
    async with options.stores(tenant) as stores:
        yield await LearningStores.of(stores, config)


def _questions_folder(options: GlobalOptions) -> Path:
    """Return the folder of committed questions, after copying a deployment's."""
    from assistant.cli.local import committed

    folder = committed(options)
    if options.deployed:
        settings = options.preparing()
        if settings.evaluation_s3 is not None:
            asyncio.run(_copy_questions(settings, folder))
    return folder


async def _copy_questions(settings: PreparingSettings, folder: Path) -> None:
    from assistant.aws.s3 import download_folder
    from assistant.wiring.clients import open_clients

    async with open_clients(settings) as clients:
        await download_folder(await clients.aws("s3"), uri=str(settings.evaluation_s3), into=folder)


def _with_stores(
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
    from assistant.cli.local import local_runtime, open_services
    from assistant.wiring.services import open_tenants

    async def run_deployed() -> Result:
        async with open_tenants(options.preparing(), only=[tenant], generates=False) as opened:
            return await use(opened[tenant].answering)

    async def run(ports: Mapping[str, int]) -> Result:
        await load_if_empty(runtime, tenant)
        async with open_services(runtime, ports, [tenant]) as services:
            return await use(services[tenant])

    if options.deployed:
        return asyncio.run(run_deployed())
    runtime = local_runtime(options, Terminal())
    with runtime.processes(runtime.layout.for_loading, command="assistant learn") as ports:
        return asyncio.run(run(ports))


def _show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print JSON for a program to read, else lines and tables."""
    if not options.writes(value):
        for part in parts:
            Terminal().out.print(plain(part) if isinstance(part, str) else part)


def _show_release(
    options: GlobalOptions,
    release: Release[RankerRelease] | Release[RouterRelease],
    told: Mapping[str, Any],
    *,
    dry_run: bool,
) -> None:
    """Print a new release, and what was learned. Status 1 where it was refused."""
    state = release.content.state
    if not options.writes(_as_json(release)):
        Terminal().show(f"{release.name}: {'dry run, nothing is stored' if dry_run else state.value}", "bold")
        Terminal().fields(told)
    if state is ReleaseState.REFUSED and not dry_run:
        raise typer.Exit(1)


def _as_json(release: Release[RankerRelease] | Release[RouterRelease]) -> Mapping[str, object]:
    """Return a release without the artifact."""
    content = release.content.model_dump(mode="json", exclude={"weights_json", "router_json", "report"})
    report = json.loads(release.content.report) if release.content.report else None
    return {"release": release.name, "note": release.item.note, **content, "report": report}


def _write_export(options: GlobalOptions, exported: Export, out: Path, counts: Mapping[str, object]) -> None:
    """Write a set, and print what is in it, a row for each split, and what is not. A deployment's set is
    copied to its bucket, too, where the settings name one."""
    folder, left_out = exported.write(out), exported.left_out
    place = str(folder)
    if options.deployed and (settings := options.preparing()).sets_s3 is not None:
        from assistant.wiring.feedback import put_set

        place = asyncio.run(put_set(settings, folder, key_id=settings.sets_key_id))
    lines = [f"left out, {reason}: {count}" for reason, count in sorted(left_out.items()) if count]
    shown = table(*exported.columns, right=exported.columns[1:3], rows=exported.rows)
    told = {"folder": place, **counts, "left_out": dict(left_out)}
    _show(options, told, shown, *lines, f"Folder: {place}")
