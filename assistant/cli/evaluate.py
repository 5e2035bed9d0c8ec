"""``assistant evaluate``: asks questions with known answers, judges the answers, and compares the measures.

With ``--tenant`` it asks a tenant's committed questions (``evaluation/T.jsonl``) and compares the held-out
half with its last run on main, in ``evaluation/series.jsonl``. With ``--figure`` it measures a figure of
``evaluation/figures.toml``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from assistant.answer.services import TenantServices
from assistant.cli.learn import learn_first_router
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation import measures, trials
from assistant.evaluation.judging import (
    Judge,
    Observer,
    WrittenAnswers,
    WrittenModel,
    observe_all,
    shown_quotes,
)
from assistant.evaluation.measures import JUDGED, TITLES, Judged, figures, paired, spreads
from assistant.evaluation.questions import EvaluationQuestion, TenantQuestions, draw, load_rows
from assistant.evaluation.routing import RoutedQuestion, RoutingTrial
from assistant.models.recorded import RecordedAnswer, read_recording
from assistant.process.private_files import make_private_folder, write_private
from assistant.terminal.loading import loaded
from assistant.terminal.local import LocalRuntime, committed, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal, table

app = typer.Typer(add_completion=False)
_CHANGED_SHOWN = 20
"""Questions that are listed as right in one of two runs only."""
_HEADINGS = ("measure", "value", "95 of 100", "questions", "asked", "")
_SUMMARY = ("measure", "held out", "95 of 100", "questions", "tuning")


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
    show: Annotated[
        bool, Option("--show", help="Print the misses of a *-tuning figure, or of a tenant's tuning half.")
    ] = False,
    against: Annotated[str | None, Option(metavar="NAME", help="Compare with this stored run.")] = None,
    questions: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help="Ask your own questions (docs/evaluation.md).")
    ] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Store the run under this name.")] = None,
    accept: Annotated[bool, Option("--accept", help="Add the result to evaluation/series.jsonl.")] = False,
    record: Annotated[
        Path | None, Option(metavar="FILE", help="Let the tenant's model write, and add its answers to FILE.")
    ] = None,
    replay: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Play recorded answers in place of a model.")
    ] = None,
) -> None:
    """Ask a tenant's questions that have known answers, and measure the answers; or measure a --figure."""
    if bool(tenant) == bool(figure):
        raise typer.BadParameter("Give either --tenant T or --figure NAME.")
    options = GlobalOptions.of(context)
    if not figure:
        plan = EvaluationPlan(
            tuple(tenant or ()), against, questions, name, accept, record, tuple(replay or ())
        )
        evaluate(options, plan, show=show)
    elif any((against, questions, name, accept, record, replay)):
        raise typer.BadParameter("--figure takes --show and the options of every command alone.")
    else:
        measure_figures(options, figure, show=show)


SUBJECT_CHANGES = 12
"""Most pairs of plain questions that are asked in one conversation."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The command's options, but for --figure and --show."""

    tenants: tuple[str, ...]
    against: str | None = None
    """Name of a stored run to compare with."""
    questions: Path | None = None
    """A file in place of the committed ones; then there is no comparison with the series."""
    name: str | None = None
    """Name under which the run is stored; None: made of the tenants and the time."""
    accepts: bool = False
    """Whether the run is added to the series, and compared with nothing."""
    record: Path | None = None
    """File that the answers of the tenants' model are written to."""
    replay: tuple[Path, ...] = ()
    """Recordings that are played in place of a model."""

    def model(self, services: TenantServices) -> WrittenModel | None:
        """Return the model that writes for a tenant; None where answers are only quoted.

        Raises ConfigurationError where no model writes for the tenant whose answers shall be recorded, or
        where a recording has an invalid line.
        """
        if self.replay:
            return WrittenModel.of_recording(read_recording(self.replay))
        if self.record is None:
            return None
        writer = services.writer
        if not writer.model.writes_answers:
            raise ConfigurationError(
                f"--record needs a model, and none writes for {services.tenant.name}. "
                "Choose one: assistant models use. Or play a recording: --replay FILE."
            )
        return WrittenModel(writer.generator, writer.token_counter, writer.model.model_id, {})

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


def evaluate(options: GlobalOptions, plan: EvaluationPlan, *, show: bool = False) -> None:
    """Ask the questions, judge and store the answers, print the measures. Exits with status 1 if a measure
    fell by more than its noise, or if no measure may rest on the run.

    ``show``: print the misses of the tuning half too.
    """
    plan.check()
    terminal = Terminal()
    folder = committed(options)
    questions = questions_of(options, plan)
    evaluations_dir = options.state_dir / "evaluations"
    against = None if plan.against is None else measures.read_run(evaluations_dir, plan.against)
    series = folder / "series.jsonl"
    last = measures.last_of_series(series)
    with loaded(options, terminal, questions, command="assistant evaluate") as runtime:
        run = asyncio.run(run_questions(runtime, questions, plan))
    make_private_folder(evaluations_dir)
    write_private(measures.run_path(evaluations_dir, run.name), run.model_dump_json().encode())
    to_compare = () if plan.accepts or plan.questions else run.tenants
    faults = [problem for tenant in run.tenants for problem in tenant.problems]
    faults += [fallen for tenant in to_compare for fallen in _falls(terminal, tenant, last)]
    held_out = {tenant.tenant: tenant.held_out for tenant in run.tenants}
    if not options.writes({"name": run.name, "held_out": held_out, "titles": TITLES, "faults": faults}):
        for tenant in run.tenants:
            show_run(terminal, tenant)
            show_changes(terminal, against, tenant)
    results = [result for tenant in run.tenants for result in tenant.results]
    misses = [result.miss for result in results if show and result.miss and result.split != JUDGED]
    if plan.accepts:
        measures.accept(series, run.tenants, made_on=run.made_at.date())
        terminal.say(f"{series} ends with this run now")
    _warn(terminal, misses=misses, faults=faults)
    if faults:
        raise typer.Exit(1)


def _warn(terminal: Terminal, *, misses: Iterable[str], faults: Iterable[str]) -> None:
    """Print misses, and faults in red."""
    for miss in misses:
        terminal.warn(miss, "")
    for fault in faults:
        terminal.warn(fault, "bold red")


def show_run(terminal: Terminal, run: measures.TenantRun) -> None:
    """Print a tenant's measures: the held-out half beside the tuning half."""
    tuning = figures(run.results, split="tuning")
    rows = [
        (*measures.estimate_cells(name, estimate), f"{tuning[name].value:.3f}" if name in tuning else "")
        for name, estimate in run.held_out.items()
    ]
    terminal.show(f"{run.tenant}: {len(run.results)} questions", "bold")
    terminal.out.print(table(*_SUMMARY, right=_SUMMARY[1:], rows=rows))
    sizes = ", ".join(f"{name} {p50:g} / {p95:g}" for name, (p50, p95) in spreads(run.results).items())
    terminal.show(f"Milliseconds, and words, p50 / p95: {sizes}")


def show_changes(terminal: Terminal, against: measures.Run | None, after: measures.TenantRun) -> None:
    """Print the paired differences of the held-out half that are not zero, and the questions that changed.

    ``against``: the stored run to compare with; nothing is printed for None.
    """
    if against is None:
        return
    if (before := against.of(after.tenant)) is None:
        terminal.say(f"{against.name} did not ask {after.tenant}")
        return
    rows = [
        (TITLES[name], f"{difference.value:+.3f}", f"{difference.low:+.3f} to {difference.high:+.3f}")
        for name, difference in paired(before.results, after.results).items()
        if difference.low or difference.high
    ]
    title = f"against {against.name}: differences of the held-out half, question by question"
    terminal.show(title if rows else f"No measure differs from {against.name}.", "bold")
    if rows:
        terminal.out.print(table("measure", "difference", "95 of 100", right=_SUMMARY[2:3], rows=rows))
    old = {result.id: result for result in before.results}
    changed = [row.id for row in after.results if row.id in old and row.is_right != old[row.id].is_right]
    more = len(changed) - _CHANGED_SHOWN
    if changed:
        listed = ", ".join(changed[:_CHANGED_SHOWN]) + (f" and {more} more" if more > 0 else "")
        terminal.show(f"Right in one of the two only: {listed}")


def questions_of(options: GlobalOptions, plan: EvaluationPlan) -> dict[str, TenantQuestions]:
    """Read each tenant's questions. Raises NotFoundError, ConfigurationError naming file and line."""
    by_tenant: dict[str, TenantQuestions] = {}
    for tenant in plan.tenants:
        options.tenant(tenant)
        path = plan.questions or committed(options) / f"{tenant}.jsonl"
        if not path.is_file():
            what = "There is no such file" if plan.questions else f"{tenant} has no committed questions"
            raise NotFoundError(f"{what}: {path}. Name a file of questions with --questions.")
        by_tenant[tenant] = TenantQuestions.of(path)
        if not by_tenant[tenant].all:
            raise ConfigurationError(f"{path} holds no question.")
    return by_tenant


async def run_questions(
    runtime: LocalRuntime, asked: Mapping[str, TenantQuestions], plan: EvaluationPlan
) -> measures.Run:
    """Ask each tenant's questions, and return the measured run. Adds the answers to ``plan.record``, if
    given."""
    made_at = datetime.now(UTC)
    async with open_services(runtime, list(asked), generates=plan.record is not None) as services:
        tenants = [
            await _tenant_run(runtime, services[tenant], questions, plan)
            for tenant, questions in asked.items()
        ]
    name = plan.name or f"{'-'.join(asked)}-{made_at:%Y%m%d-%H%M%S}"
    return measures.Run(name=name, made_at=made_at, tenants=tuple(tenants))


async def _tenant_run(
    runtime: LocalRuntime, services: TenantServices, questions: TenantQuestions, plan: EvaluationPlan
) -> measures.TenantRun:
    """Ask one tenant's questions, and return them judged, each with its value for each measure that applies.

    Each question is asked once: what was retrieved is judged, and where a model writes, its answer, too. Then
    pairs of questions are asked in one conversation, and messy questions are compared with their clean forms.
    """
    model, observer = plan.model(services), Observer(services)
    writer = None if model is None else WrittenAnswers(services, model)
    await observer.check(questions.asked)
    judge = Judge(observer)
    question_texts = {question.qid: question.question for question in questions.all}
    pairs = subject_changes(questions.asked)
    results: dict[str, Judged] = {}
    quotes: dict[str, object] = {}
    recorded: list[RecordedAnswer] = []
    with runtime.terminal.counting(f"asking {services.tenant.name}", "questions") as show:
        total = len(questions.asked) + len(pairs)
        async for observed in observe_all(observer, questions.asked, question_texts):
            question, result = observed.question, await judge.result(observed)
            quotes[question.qid] = shown_quotes(observed)
            if writer is not None:
                written = await writer.ask(question, before=observed.before)
                degraded = (*result.degraded, *written.degraded)
                result = replace(result, values={**result.values, **written.values}, degraded=degraded)
                recorded += written.recorded
            results[question.qid] = result
            show(len(results), total)
        # Pairs of questions in one conversation: change_same is 1 where the second shows the same quotes as
        # when it is asked alone, change_loss is 1 where it is right only when asked alone, -1 where only in
        # the conversation.
        for done, (first, second) in enumerate(pairs, start=1):
            alone, observed = results[second.qid], await observer.ask(second, before=first.question)
            loss = float(alone.is_right) - float((await judge.result(observed)).is_right)
            change = {"change_same": float(shown_quotes(observed) == quotes[second.qid]), "change_loss": loss}
            results[second.qid] = replace(alone, values={**alone.values, **change})
            show(len(results) + done, total)
    # messy_loss is 1 where the clean form of a messy question is right and the messy one is not, -1 where it
    # is the other way round.
    for question in questions.asked:
        if clean := results.get(question.clean or ""):
            messy = results[question.qid]
            loss = float(clean.is_right) - float(messy.is_right)
            results[question.qid] = replace(messy, values={**messy.values, "messy_loss": loss})
    if plan.record is not None:
        with plan.record.open("a", encoding="utf-8") as file:
            file.writelines(line.model_dump_json() + "\n" for line in recorded)
    return measures.TenantRun(
        tenant=services.tenant.name,
        questions_sha256=questions.sha256,
        writer="" if model is None else model.name,
        writer_sha256=services.writer.model.digest if plan.record is not None else None,
        results=tuple(results.values()),
    )


def subject_changes(
    questions: Sequence[EvaluationQuestion],
) -> list[tuple[EvaluationQuestion, EvaluationQuestion]]:
    """Return pairs of plain questions about different documents; the same questions give the same pairs."""
    plain_ones = [question for question in questions if question.kind == "plain" and question.split == JUDGED]
    order = draw(plain_ones, count=len(plain_ones), seed="changes of subject")
    pairs = zip(order[::2], order[1::2], strict=False)
    return [(first, second) for first, second in pairs if first.document != second.document][:SUBJECT_CHANGES]


def _falls(
    terminal: Terminal, run: measures.TenantRun, series: Mapping[str, measures.SeriesRun]
) -> list[str]:
    """Return a sentence for each measure that fell below the last run on main; print a warning if there is
    none, or if the questions changed.

    ``series``: the last run by tenant.
    """
    if (last := series.get(run.tenant)) is None:
        terminal.say(f"{run.tenant} has no run on main, so nothing is compared: add one with --accept")
        return []
    if run.questions_sha256 != last.questions_sha256:
        terminal.say(
            f"the questions of {run.tenant} differ from those of {last.made_on}: "
            "if that is intended, add a run with --accept"
        )
    return measures.falls(run, last)


# --- figures by name -------------------------------------------------------------------------------------
def measure_figures(options: GlobalOptions, names: Sequence[str], *, show: bool) -> None:
    """Measure the named figures, one after the other. Exits with status 1 where one misses its target.

    Raises NotFoundError for an unknown name, ConfigurationError for ``show`` with a blind figure,
    whose questions nobody may look at.
    """
    terminal, folder = Terminal(), committed(options)
    all_figures = measures.read_figures(folder)
    asked = {name: measures.figure_named(all_figures, name) for name in names}
    if show and (blind := [name for name, figure in asked.items() if figure.blind]):
        raise ConfigurationError(
            f"{', '.join(blind)}: --show would use up questions that nothing may be tuned on. "
            "Show the misses of a figure whose name ends in -tuning."
        )
    missed, measured = False, dict[str, object]()
    tenants = dict.fromkeys(tenant for figure in asked.values() for tenant in figure.tenants)
    with loaded(options, terminal, tenants, command="assistant evaluate") as runtime:
        for name, figure in asked.items():
            judged: list[Judged] = []
            for tenant in figure.tenants:
                judged += asyncio.run(_judged(runtime, figure, folder, tenant))
            faults = measures.TenantRun(tenant=name, questions_sha256="", results=tuple(judged)).problems
            rows = figure.rows(figures(judged))
            missed = missed or bool(faults) or not all(row.is_met for row in rows)
            measured[name] = {
                row.measure: {"estimate": row.estimate, "asked": row.asked, "met": row.is_met} for row in rows
            }
            if not options.json:
                terminal.show(f"{name}: {figure.title}", "bold")
                cells = [row.cells for row in rows]
                terminal.out.print(table(*_HEADINGS, right=_HEADINGS[1:4], rows=cells))
            _warn(terminal, misses=[row.miss for row in judged if show and row.miss], faults=faults)
    options.writes(measured)
    if missed:
        raise typer.Exit(1)


async def _judged(runtime: LocalRuntime, figure: measures.Figure, folder: Path, tenant: str) -> list[Judged]:
    """Return the judged answer to each question of a figure for one tenant, by the figure's kind of run."""
    if figure.run == "answers":
        return await _answers(runtime, figure, folder, tenant)
    if figure.run == "routing":
        await learn_first_router(runtime, tenant=tenant)
    async with open_services(runtime, [tenant], generates=figure.run == "written_live") as services:
        return await _trial(figure, folder, services[tenant])


async def _answers(runtime: LocalRuntime, figure: measures.Figure, folder: Path, tenant: str) -> list[Judged]:
    """Ask the questions of a figure as ``evaluate --tenant`` does: of its half alone, and with a recording
    only those that it has an answer to. Ids get the tenant's name in front."""
    (path,) = figure.paths(folder, tenant=tenant)
    plan, recorded = EvaluationPlan((tenant,)), None
    if figure.recording is not None:
        recording = folder / figure.recording.format(tenant=tenant)
        recorded = {line.id for line in read_recording([recording])}
        plan = EvaluationPlan((tenant,), replay=(recording,))
    questions = TenantQuestions.of(
        path, asks=lambda row: figure.half in (None, row.split) and (recorded is None or row.qid in recorded)
    )
    run = (await run_questions(runtime, {tenant: questions}, plan)).tenants[0]
    return [replace(row, id=f"{tenant} {row.id}", cluster=f"{tenant} {row.cluster}") for row in run.results]


async def _trial(figure: measures.Figure, folder: Path, services: TenantServices) -> list[Judged]:
    """Run a figure's trial on one tenant: one that an option brings, else that of ``figure.run``."""
    tenant = services.tenant
    first, *more = figure.paths(folder, tenant=tenant.name)
    joined = (
        trial for trials_of in trials.TRIALS.joined() for run, trial in trials_of.items() if run == figure.run
    )
    if (option_trial := next(joined, None)) is not None:
        return await option_trial(services, (first, *more))
    match figure.run:
        case "red_flags":
            own_flags, *written = (
                load_rows(path, trials.FlaggedMessage, key="message") for path in (first, *more)
            )
            widened, messages = trials.with_own_flag(tenant, own_flags), list(chain.from_iterable(written))
            return await trials.raise_flags(widened, services.embedder, messages, clock=services.clock)
        case "chats":
            written = [load_rows(path, trials.WrittenChat) for path in (first, *more)]
            return await trials.read_chats(services, list(chain.from_iterable(written)))
        case "live" | "written_live":
            questions = load_rows(first, trials.LiveQuestion)
            own_questions = [question for question in questions if question.tenant == tenant.name]
            trial = trials.read_elements if figure.run == "live" else trials.write_elements
            return await trial(services, own_questions)
        case "routing":
            routing = RoutingTrial(services)
            await routing.load()
            return [await routing.ask(row) for row in load_rows(first, RoutedQuestion)]
        case _:
            rows = trials.support_cases([first, *more], knowledge=folder.parent / "knowledge")
            return trials.judge_support(
                (kind, case) for kind, case in rows if figure.half in (None, case.split)
            )
