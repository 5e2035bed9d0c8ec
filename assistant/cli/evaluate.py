"""``assistant evaluate``: asks questions with known answers, judges the answers, and compares the measures.

With ``--tenant`` a tenant's committed questions; with ``--figure`` a figure of ``evaluation/figures.toml``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from assistant.answering.adaptations import Adaptations
from assistant.answering.services import TenantServices
from assistant.cli.knowledge import load_if_empty
from assistant.cli.learn import learn_first_router
from assistant.cli.local import LocalRuntime, committed, local_runtime, open_served, open_services
from assistant.cli.terminal import GlobalOptions, Terminal, table
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation import runs, support, trials
from assistant.evaluation.judging import (
    MOST_STALE,
    Judge,
    Observer,
    WrittenAnswers,
    WrittenModel,
    change_values,
    observe_all,
)
from assistant.evaluation.measures import TITLES, Judged, figures, judged_of, latencies, lengths
from assistant.evaluation.questions import (
    EvaluationQuestion,
    QuestionResult,
    draw,
    load_questions,
    load_rows,
)
from assistant.evaluation.report import DIFFERENCES, SUMMARY, differences, report_page, summary, told
from assistant.evaluation.routing import RoutedQuestion, RoutingTrial
from assistant.private_files import make_private_folder, write_private
from assistant.recorded_model import RecordedAnswer, read_recording

app = typer.Typer(add_completion=False)
_CHANGED_SHOWN = 20
_HEADINGS = ("measure", "value", "95 of 100", "questions", "asked", "")


@app.command(name="evaluate")
def evaluate_command(
    context: typer.Context,
    tenant: Annotated[
        list[str] | None, Option("--tenant", metavar="T", help="Name of a tenant file; may be repeated.")
    ] = None,
    figure: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Measure a figure of evaluation/figures.toml; may be repeated."),
    ] = None,
    show: Annotated[bool, Option("--show", help="Print the misses of a *-tuning figure.")] = False,
    against: Annotated[str | None, Option(metavar="NAME", help="Compare with this stored run.")] = None,
    questions: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help="Ask your own questions (docs/evaluation.md).")
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Folder of the HTML report.")] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Store the run under this name.")] = None,
    accept: Annotated[bool, Option("--accept", help="Write the result to evaluation/baseline.json.")] = False,
    record: Annotated[
        Path | None, Option(metavar="FILE", help="Let the tenant's model write, and add its answers to FILE.")
    ] = None,
    replay: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Play recorded answers in place of a model.")
    ] = None,
    reading: Annotated[
        Literal["plain", "model"] | None, Option(help="Who reads the messages; else as the tenant file says.")
    ] = None,
) -> None:
    """Ask a tenant's questions that have known answers, and measure the answers; or measure a --figure."""
    if bool(tenant) == bool(figure):
        raise typer.BadParameter("Give either --tenant T or --figure NAME.")
    if figure:
        if any((against, questions, out, name, accept, record, replay, reading)):
            raise typer.BadParameter("--figure takes --show and the options of every command alone.")
        measure_figures(GlobalOptions.of(context), figure, show=show)
        return
    replayed = tuple(replay or ())
    plan = EvaluationPlan(
        tuple(tenant or ()), against, questions, out, name, accept, record, replayed, reading
    )
    evaluate(GlobalOptions.of(context), plan)


def _live_model(services: TenantServices) -> WrittenModel:
    if not services.writer.model.writes_answers:
        raise ConfigurationError(
            f"--record and --reading model need a model, and none writes for {services.tenant.name}. "
            "Choose one: assistant models use. Or play a recording: --replay FILE."
        )
    writer = services.writer
    return WrittenModel(writer.generator, writer.token_counter, writer.model.model_id, {})


def show_run(terminal: Terminal, run: runs.TenantRun, *, bounds: runs.Bounds) -> None:
    """Show a tenant's measures: the held-out half beside the tuning half."""
    rows = summary(run, bounds)
    title = f"{run.tenant}: {len(run.results)} questions in {run.seconds:.0f} s"
    terminal.show(title, "bold")
    terminal.out.print(table(*SUMMARY, right=SUMMARY[1:6], rows=rows))
    for name, spreads, unit in (("Words", lengths(run.results), ""), ("Time", latencies(run.results), " ms")):
        told_of = ", ".join(f"{step} {one.p50:g} / {one.p95:g}{unit}" for step, one in spreads.items())
        terminal.show(f"{name}, p50 / p95: {told_of}")
    written = [result.written for result in run.results if result.written is not None]
    if written:
        by_model = sum(one.read_by == "model" for one in written)
        terminal.show(f"Messages that a model read: {by_model} of {len(written)}")
    for measure, value, *_, bound, state in rows:
        if state == "missed":
            line = f"standing miss, {run.tenant}: {measure} {value} ({bound})"
            terminal.show(line, "yellow")


def show_changes(terminal: Terminal, against: runs.Run | None, after: runs.TenantRun) -> None:
    """Show the paired differences of the held-out half that are not zero, and the questions that changed."""
    if against is None:
        return
    before = against.of(after.tenant)
    if before is None:
        terminal.say(f"{against.name} did not ask {after.tenant}")
        return
    rows = differences(before, after)
    title = f"against {against.name}: differences of the held-out half, question by question"
    terminal.show(title if rows else f"No measure differs from {against.name}.", "bold")
    if rows:
        terminal.out.print(table(*DIFFERENCES, right=DIFFERENCES[1:], rows=rows))
    pairs = runs.changed(before, after)
    for old, new in pairs[:_CHANGED_SHOWN]:
        terminal.show(f"  {new.qid}: {told(old)} → {told(new)}  {new.question.question[:90]}")
    if len(pairs) > _CHANGED_SHOWN:
        terminal.out.print(f"  … and {len(pairs) - _CHANGED_SHOWN} more: the report lists them")


SUBJECT_CHANGES = 12
"""Pairs of plain questions asked in one conversation."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The options of the command."""

    tenants: tuple[str, ...]
    against: str | None = None
    questions: Path | None = None
    """A file in place of the committed ones; then there is no comparison with the baseline."""
    out: Path | None = None
    """Folder of the report; that of the runs when absent."""
    name: str | None = None
    accepts: bool = False
    record: Path | None = None
    """File that the answers of the tenants' model are written to."""
    replay: tuple[Path, ...] = ()
    """Recordings that are played in place of a model."""
    reading: Literal["plain", "model"] | None = None
    """Who reads the messages; None: as the tenant file says."""

    @property
    def asks_model(self) -> bool:
        """Whether the tenants' own models are called."""
        return not self.replay and (self.record is not None or self.reading == "model")

    @property
    def model(self) -> Callable[[TenantServices], WrittenModel] | None:
        """Returns the model that writes for a tenant; None where answers are only quoted."""
        if self.replay:
            recording = WrittenModel.of_recording(read_recording(self.replay))
            return lambda _: recording
        return _live_model if self.asks_model else None

    def check(self) -> None:
        """Raise ConfigurationError for options that contradict each other."""
        if self.name is not None and not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"--name {self.name}: use letters, digits, dots, hyphens and underscores."
            )
        if self.questions is not None and len(self.tenants) > 1:
            raise ConfigurationError("--questions takes one --tenant: its documents answer them.")
        if self.record is not None and self.replay:
            raise ConfigurationError("--record asks a model and --replay plays one: give one of them.")
        if self.accepts and self.questions is not None:
            raise ConfigurationError("--accept needs all committed questions: leave --questions out.")


def evaluate(options: GlobalOptions, plan: EvaluationPlan) -> None:
    """Ask, judge, keep and show. Status 1 if a measure fell by more than its noise."""
    plan.check()
    terminal = Terminal()
    folder = committed(options)
    asked = questions_of(options, plan)
    evaluations_dir = options.state_dir / "evaluations"
    against = None if plan.against is None else runs.read_run(evaluations_dir, plan.against)
    baseline = runs.read_baseline(folder / "baseline.json")
    with loaded(options, terminal, asked) as (runtime, ports):
        run = asyncio.run(run_questions(runtime, ports, asked, plan))
    make_private_folder(evaluations_dir)
    write_private(runs.run_path(evaluations_dir, run.name), run.model_dump_json().encode())
    figures = runs.read_figures(folder)
    bounds = {tenant.tenant: runs.bounds_of(figures, tenant.tenant) for tenant in run.tenants}
    compared = () if plan.accepts or plan.questions else run.tenants
    fallen = [fall for one in compared for fall in _falls(terminal, one, baseline)]
    report = (plan.out or evaluations_dir) / f"{run.name}.html"
    report.parent.mkdir(parents=True, exist_ok=True)
    write_private(report, report_page(run, bounds=bounds, against=against).encode())
    if not options.writes(_as_json(run, report, fallen)):
        for tenant in run.tenants:
            show_run(terminal, tenant, bounds=bounds[tenant.tenant])
            show_changes(terminal, against, tenant)
        terminal.show(f"Report: {report}", "bold")
    if plan.accepts:
        runs.accept(folder / "baseline.json", run.tenants)
        terminal.say(f"{folder / 'baseline.json'} holds this run now")
    faults = [problem for tenant in run.tenants for problem in problems(tenant)]
    faults += [
        f"FELL  {fall.tenant}: {fall.measure.title}: {fall.is_now:.3f}, was {fall.was:.3f}; "
        f"its noise is {fall.allowed:.3f}"
        for fall in fallen
    ]
    for fault in faults:
        terminal.warn(fault, "bold red")
    if faults:
        raise typer.Exit(1)


@contextmanager
def loaded(
    options: GlobalOptions, terminal: Terminal, tenants: Iterable[str]
) -> Generator[tuple[LocalRuntime, Mapping[str, int]]]:
    """Have the local processes ready, and each tenant's knowledge loaded; yield also the ports."""
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.for_loading, command="assistant evaluate") as ports:
        for tenant in tenants:
            asyncio.run(load_if_empty(runtime, tenant))
        yield runtime, ports


def problems(run: runs.TenantRun) -> list[str]:
    """Return why no figure may rest on a run: a step that stayed degraded, or a stale recording."""
    messages: list[str] = []
    written = [result.written for result in run.results if result.written is not None]
    late = [
        result.qid
        for result in run.results
        if result.degraded or (result.written is not None and result.written.degraded)
    ]
    if late:
        messages.append(
            f"DEGRADED  {run.tenant}: {len(late)} questions, {late[0]} first. Free the machine and ask again."
        )
    if any("reading" in one.degraded for one in written):
        messages.append(
            f"UNREAD  {run.tenant}: the model's reading failed, was late or is not in the recording. "
            "Take a faster model, or record again with --reading model."
        )
    faulty = ("quote_differs", "quote_begins_late")
    messages += [
        f"QUOTE  {run.tenant}, {result.qid}: {TITLES[name]}. Correct assistant/answering/choose.py."
        for result in run.results
        for name in faulty
        if result.values.get(name)
    ]
    stale = sum(one.is_stale for one in written)
    if stale > MOST_STALE * len(written):
        messages.append(
            f"STALE  {run.tenant}: {stale} recorded answers are of other prompts than today's. Record again."
        )
    return messages


@dataclass(frozen=True, slots=True)
class TenantQuestions:
    """One tenant's questions and their file."""

    path: Path
    sha256: str
    all: tuple[EvaluationQuestion, ...]
    asked: tuple[EvaluationQuestion, ...]

    @classmethod
    def of(cls, path: Path, *, asks: Callable[[EvaluationQuestion], bool] | None = None) -> TenantQuestions:
        """Read a file; ``asks`` chooses what is asked of it, None: all. Raises ConfigurationError."""
        every = tuple(load_questions(path))
        asked = every if asks is None else tuple(filter(asks, every))
        return cls(path, sha256(path.read_bytes()).hexdigest(), every, asked)


def questions_of(options: GlobalOptions, plan: EvaluationPlan) -> dict[str, TenantQuestions]:
    """Read each tenant's questions. Raises NotFoundError, ConfigurationError naming file and line."""
    asked: dict[str, TenantQuestions] = {}
    for tenant in plan.tenants:
        options.tenant(tenant)
        path = plan.questions or committed(options) / f"{tenant}.jsonl"
        if not path.is_file():
            what = "There is no such file" if plan.questions else f"{tenant} has no committed questions"
            raise NotFoundError(f"{what}: {path}. Name a file of questions with --questions.")
        asked[tenant] = TenantQuestions.of(path)
        if not asked[tenant].all:
            raise ConfigurationError(f"{path} holds no question.")
    return asked


async def run_questions(
    runtime: LocalRuntime,
    ports: Mapping[str, int],
    asked: Mapping[str, TenantQuestions],
    plan: EvaluationPlan,
) -> runs.Run:
    made_at = datetime.now(UTC)
    async with open_services(runtime, ports, list(asked), generates=plan.asks_model) as services:
        tenants = [
            await _tenant_run(runtime, services[tenant], questions, plan)
            for tenant, questions in asked.items()
        ]
    name = plan.name or f"{'-'.join(asked)}-{made_at:%Y%m%d-%H%M%S}"
    return runs.Run(name=name, made_at=made_at, tenants=tuple(tenants))


def with_reading(services: TenantServices, reading: Literal["plain", "model"] | None) -> TenantServices:
    """Return the services of a tenant whose messages are read so; None: as its file says."""
    if reading is None:
        return services
    answers = services.tenant.answers.model_copy(update={"reading": reading})
    return replace(services, tenant=services.tenant.model_copy(update={"answers": answers}))


async def _tenant_run(
    runtime: LocalRuntime, services: TenantServices, questions: TenantQuestions, plan: EvaluationPlan
) -> runs.TenantRun:
    began_s = time.monotonic()
    services = with_reading(services, plan.reading)
    observer = Observer(services)
    model = None if plan.model is None else plan.model(services)
    writer = None if model is None else WrittenAnswers(services, model)
    await observer.check(questions.asked)
    judge = Judge(observer)
    earlier = {question.qid: question.question for question in questions.all}
    pairs = subject_changes(questions.asked)
    results: dict[str, QuestionResult] = {}
    recorded: list[RecordedAnswer] = []
    with runtime.terminal.counting(f"asking {services.tenant.name}", "questions") as show:
        total = len(questions.asked) + len(pairs)
        async for observed in observe_all(observer, questions.asked, earlier):
            result = await judge.result(observed)
            if writer is not None:
                written, lines = await writer.ask(observed.question, before=observed.before)
                result = result.model_copy(update={"written": written})
                recorded += lines
            results[result.qid] = result
            show(len(results), total)
        for done, (first, second) in enumerate(pairs, start=1):
            alone = results[second.qid]
            after = await judge.result(await observer.ask(second, before=first.question))
            values = alone.values | change_values(alone, after)
            results[second.qid] = alone.model_copy(update={"values": values})
            show(len(results) + done, total)
    if plan.record is not None:
        with plan.record.open("a", encoding="utf-8") as file:
            file.writelines(line.model_dump_json() + "\n" for line in recorded)
    info = await services.search.info()
    return runs.TenantRun(
        tenant=services.tenant.name,
        questions=str(questions.path),
        questions_sha256=questions.sha256,
        index_version=info.index_version,
        embedding_model=info.embedding_model,
        least_cosine=services.tenant.gate.hopeless_cosine,
        weights=observer.weights,
        seconds=round(time.monotonic() - began_s, 1),
        writer="" if model is None else model.name,
        writer_sha256=services.writer.model.digest if plan.asks_model else None,
        results=tuple(results.values()),
    )


def subject_changes(
    questions: Sequence[EvaluationQuestion],
) -> list[tuple[EvaluationQuestion, EvaluationQuestion]]:
    """Return pairs of plain questions about different documents; the same questions give the same pairs."""
    plain_ones = [
        question for question in questions if question.kind == "plain" and question.split == runs.JUDGED
    ]
    order = draw(plain_ones, count=len(plain_ones), seed="changes of subject")
    pairs = zip(order[::2], order[1::2], strict=False)
    return [(one, other) for one, other in pairs if one.document != other.document][:SUBJECT_CHANGES]


def _falls(terminal: Terminal, run: runs.TenantRun, baseline: runs.Baseline | None) -> list[runs.Fall]:
    """Return what fell below the baseline; warn if there is none, or if the questions changed."""
    known = baseline.tenants.get(run.tenant) if baseline else None
    if known is None:
        terminal.say(f"{run.tenant} has no baseline, so nothing is compared: write one with --accept")
        return []
    if run.questions_sha256 != known.questions_sha256:
        terminal.say(
            f"the questions of {run.tenant} differ from the baseline's: "
            "if that is intended, write a new one with --accept"
        )
    return runs.falls(run, known)


def _as_json(run: runs.Run, report: Path, fallen: Sequence[runs.Fall]) -> dict[str, object]:
    return {
        "name": run.name,
        "report": str(report),
        "held_out": {tenant.tenant: tenant.judged for tenant in run.tenants},
        "titles": TITLES,
        "fell": [{"tenant": fall.tenant, "measure": fall.measure.name} for fall in fallen],
    }


# --- figures by name -------------------------------------------------------------------------------------
def measure_figures(options: GlobalOptions, names: Sequence[str], *, show: bool) -> None:
    """Measure the named figures, one after the other. Status 1 where one misses what is asked of it.

    Raises NotFoundError for an unknown name, ConfigurationError for ``show`` with a blind figure.
    """
    terminal, folder = Terminal(), committed(options)
    every = runs.read_figures(folder)
    asked = {name: runs.figure_named(every, name) for name in names}
    if show and (blind := [name for name, figure in asked.items() if figure.blind]):
        raise ConfigurationError(
            f"{', '.join(blind)}: --show would use up questions that nothing may be tuned on. "
            "Show the misses of a figure whose name ends in -tuning."
        )
    missed, measured = False, dict[str, object]()
    tenants = dict.fromkeys(tenant for figure in asked.values() for tenant in figure.tenants)
    with loaded(options, terminal, tenants) as (runtime, ports):
        for name, figure in asked.items():
            judged, unusable = asyncio.run(_judged(runtime, ports, figure, folder))
            rows = figure.rows(figures(judged))
            missed = missed or bool(unusable) or not all(row.is_met for row in rows)
            measured[name] = {
                row.measure: {"estimate": row.estimate, "asked": row.asked, "met": row.is_met} for row in rows
            }
            if not options.json:
                terminal.show(f"{name}: {figure.title}", "bold")
                cells = [row.cells() for row in rows]
                terminal.out.print(table(*_HEADINGS, right=_HEADINGS[1:4], rows=cells))
            for miss in [each.miss for each in judged if show and each.miss]:
                terminal.warn(miss, "")
            for fault in unusable:
                terminal.warn(fault, "bold red")
    options.writes(measured)
    if missed:
        raise typer.Exit(1)


async def _judged(
    runtime: LocalRuntime, ports: Mapping[str, int], figure: runs.Figure, folder: Path
) -> tuple[list[Judged], list[str]]:
    """Return what came of each question, and why no figure may rest on it."""
    judged: list[Judged] = []
    unusable: list[str] = []
    for tenant in figure.tenants:
        if figure.run == "answers":
            answers, late = await _answers(runtime, ports, figure, folder, tenant)
            judged += answers
            unusable += late
            continue
        if figure.run == "routing":
            await learn_first_router(runtime, ports, tenant=tenant)
        writes = figure.run == "written_live"
        async with open_served(runtime, ports, [tenant], generates=writes) as opened:
            served = opened[tenant]
            await served.adaptations.refresh()
            judged += await _trial(figure, folder, served.answering, served.adaptations)
    if late := [one for one in judged if one.degraded]:
        steps = ", ".join(sorted({step for one in late for step in one.degraded}))
        unusable.append(f"DEGRADED  {len(late)} questions: {steps}. Free the machine and ask again.")
    return judged, unusable


async def _answers(
    runtime: LocalRuntime, ports: Mapping[str, int], figure: runs.Figure, folder: Path, tenant: str
) -> tuple[list[Judged], list[str]]:
    (path,) = figure.paths(folder, tenant=tenant)
    plan, recorded = EvaluationPlan((tenant,)), None
    if figure.recording is not None:
        recording = folder / figure.recording.format(tenant=tenant)
        recorded = {line.id for line in read_recording([recording])}
        plan = EvaluationPlan((tenant,), replay=(recording,))
    questions = TenantQuestions.of(
        path, asks=lambda one: figure.half in (None, one.split) and (recorded is None or one.qid in recorded)
    )
    run = (await run_questions(runtime, ports, {tenant: questions}, plan)).tenants[0]
    judged = [
        Judged(
            f"{tenant} {one.id}",
            f"{tenant} {one.cluster}",
            {name: value for name, value in one.values.items() if name in figure.measures},
        )
        for one in judged_of(run.by_qid, split=figure.half)
    ]
    return judged, problems(run)


async def _trial(
    figure: runs.Figure, folder: Path, services: TenantServices, adaptations: Adaptations
) -> list[Judged]:
    """Ask the questions of a figure of one tenant."""
    tenant = services.tenant
    first, *more = figure.paths(folder, tenant=tenant.name)
    match figure.run:
        case "approved":
            others = [question for path in more for question in load_questions(path)]
            return await trials.match_approved(
                services, load_rows(first, trials.ApprovedItem, key="approved_id"), others
            )
        case "red_flags":
            own, *written = (load_rows(path, trials.FlaggedMessage, key="message") for path in (first, *more))
            widened, messages = trials.with_own_flag(tenant, own), list(chain.from_iterable(written))
            return await trials.raise_flags(widened, services.embedder, messages, clock=services.clock)
        case "live" | "written_live":
            questions = load_rows(first, trials.LiveQuestion)
            mine = [question for question in questions if question.tenant == tenant.name]
            trial = trials.read_elements if figure.run == "live" else trials.write_elements
            return await trial(services, adaptations, mine)
        case "routing":
            routing = RoutingTrial(services, adaptations)
            return [await routing.ask(row) for row in load_rows(first, RoutedQuestion)]
        case _:
            rows = support.samples([first, *more], knowledge=folder.parent / "knowledge")
            return support.judged((kind, case) for kind, case in rows if figure.half in (None, case.split))
