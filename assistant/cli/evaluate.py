"""``assistant evaluate``: asks questions with known answers, judges the answers, and compares the measures.

With ``--tenant`` it asks a tenant's committed questions (``evaluation/T.jsonl``) and compares the held-out
half with its last run on main, in ``evaluation/series.jsonl``. With ``--figure`` it measures a figure of
``evaluation/figures.toml``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from assistant.answer.services import TenantServices
from assistant.cli.learn import learn_first_router
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation import measures
from assistant.evaluation.comparison import MODEL, ComparedModel, comparison_rows, keep_comparisons
from assistant.evaluation.conversations import MODEL_TRIALS
from assistant.evaluation.judging import WrittenModel, ask_questions, recorded_lines
from assistant.evaluation.measures import JUDGED, TITLES, Figure, FigureRow, Judged, faults, figures, paired
from assistant.evaluation.questions import TenantQuestions
from assistant.evaluation.trials import trial_named
from assistant.models.recorded import RecordedAnswer, read_recording
from assistant.process.private_files import make_private_folder, write_private
from assistant.tenant.prices import load_prices
from assistant.terminal.loading import loaded
from assistant.terminal.local import LocalRuntime, committed, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal, table

app = typer.Typer(add_completion=False)
_CHANGED_SHOWN = 20
"""Questions that are listed as right in one of two runs only."""
_HEADINGS = ("measure", "value", "95 of 100", "questions", "asked", "")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


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
        Path | None,
        Option(metavar="FILE", help="Let the tenant's own model write, and add what it writes to FILE."),
    ] = None,
    replay: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Play recorded answers in place of a model.")
    ] = None,
    model: Annotated[list[str] | None, Option("--model", metavar="[ARTIFACT=]MODEL", help=MODEL)] = None,
) -> None:
    """Ask a tenant's questions that have known answers, and measure the answers; or measure a --figure."""
    if bool(tenant) == bool(figure):
        raise typer.BadParameter("Give either --tenant T or --figure NAME.")
    options = GlobalOptions.of(context)
    if not figure:
        plan = EvaluationPlan(
            tuple(tenant or ()), against, questions, name, accept, record, tuple(replay or ())
        )
        if model:
            plan = replace(plan, models=compared_models(options, plan, model))
        evaluate(options, plan, show=show)
    elif any((against, questions, name, accept, replay, model)):
        raise typer.BadParameter("--figure takes --show, --record and the options of every command alone.")
    else:
        measure_figures(options, figure, show=show, record=record)


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
    models: tuple[ComparedModel, ...] = ()
    """Models that are asked in turn, in place of the tenant's, and compared."""

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

    def keep(self, lines: Iterable[RecordedAnswer]) -> None:
        """Add the lines to ``record``, if given."""
        if self.record is not None:
            with self.record.open("a", encoding="utf-8") as file:
                file.writelines(line.model_dump_json() + "\n" for line in lines)

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
    terminal, report = Terminal(), _Report(options)
    folder = committed(options)
    questions = questions_of(options, plan)
    evaluations_dir = options.state_dir / "evaluations"
    against = None if plan.against is None else measures.read_run(evaluations_dir, plan.against)
    series = folder / "series.jsonl"
    last = {} if plan.accepts or plan.questions or plan.models else measures.last_of_series(series)
    with loaded(options, terminal, questions, command="assistant evaluate") as runtime:
        run = asyncio.run(run_questions(runtime, questions, plan))
    make_private_folder(evaluations_dir)
    write_private(measures.run_path(evaluations_dir, run.name), run.model_dump_json().encode())
    if plan.models:
        _show_compared(options, plan, run)
        return
    for tenant in run.tenants:
        figure = tenant_figure(tenant, last.get(tenant.tenant))
        report.add(tenant.tenant, figure, tenant.results, figure.rows(tenant.held_out), show=show)
        if not options.json:
            show_changes(terminal, against, tenant)
    if plan.accepts:
        lines = (measures.SeriesRun.of(tenant, made_on=run.made_at.date()) for tenant in run.tenants)
        with series.open("a", encoding="utf-8") as file:
            file.writelines(line.model_dump_json() + "\n" for line in lines)
        terminal.say(f"{series} ends with this run now")
    report.end()


def compared_models(
    options: GlobalOptions, plan: EvaluationPlan, names: Sequence[str]
) -> tuple[ComparedModel, ...]:
    """Return the models of ``--model``. Raises ConfigurationError; typer.BadParameter for what they do not
    go with."""
    if len(plan.tenants) != 1 or len(set(names)) < len(names):
        raise typer.BadParameter("--model takes one --tenant, and each model once.")
    if any((plan.against, plan.accepts, plan.record, plan.replay)):
        raise typer.BadParameter("--model takes --tenant, --questions and --name alone.")
    (tenant,) = plan.tenants
    config = options.tenant(tenant)
    region = config.deployment.region if config.deployment else None
    size, artifacts = config.generation.context_tokens, _artifacts(options)
    models = (
        ComparedModel.of(name, artifacts=artifacts, region=region, context_tokens=size) for name in names
    )
    return tuple(_priced(options, tenant, model) for model in models)


def _artifacts(options: GlobalOptions) -> Path:
    return options.tenants_dir.resolve().parent / "model_artifacts/llm"


def _priced(options: GlobalOptions, tenant: str, model: ComparedModel) -> ComparedModel:
    """Return an endpoint with its price; another model as it is. Raises ConfigurationError where the endpoint
    serves other weights than the artifact's, DeploymentError."""
    if model.served.region is None:
        return model
    from assistant.terminal.account import Deployed

    aws, name = Deployed.named(options, tenant).aws, model.served.model
    config = aws.call("sagemaker", "describe_endpoint", EndpointName=name)["EndpointConfigName"]
    described = aws.call("sagemaker", "describe_endpoint_config", EndpointConfigName=config)
    (variant,) = described["ProductionVariants"]
    container = aws.call("sagemaker", "describe_model", ModelName=variant["ModelName"])["PrimaryContainer"]
    weights = container["ModelDataSource"]["S3DataSource"]["S3Uri"]
    if model.manifest is not None and f"/{model.manifest.sha256}/" not in weights:
        raise ConfigurationError(f"{name} serves {weights}, which is not {model.manifest.name}.")
    price = load_prices().endpoint.get(variant["InstanceType"])
    return replace(model, usd_per_hour=price and price.usd)


def _show_compared(options: GlobalOptions, plan: EvaluationPlan, run: measures.Run) -> None:
    """Print one table of the compared models, and write the comparisons into manifests. Exits with status 1,
    and writes none, if no measure may rest on the run."""
    names = [model.name for model in plan.models]
    by_model = dict(zip(names, (row.held_out for row in run.tenants), strict=True))
    if not options.writes({"name": run.name, "models": by_model, "titles": TITLES}):
        rows = comparison_rows(run.tenants)
        Terminal().out.print(table("mean [95 of 100] of questions", *names, right=names, rows=rows))
    if wrong := [fault for row in run.tenants for fault in faults(row.results)]:
        for fault in wrong:
            Terminal().warn(fault, "bold red")
        raise typer.Exit(1)
    keep_comparisons(plan.models, run.tenants, artifacts=_artifacts(options))


def tenant_figure(run: measures.TenantRun, last: measures.SeriesRun | None) -> Figure:
    """Return the figure of all questions of a tenant: what the last run on main asks of its measures, and
    that a recording plays.

    ``last``: None where the run is compared with none.
    """
    title = f"{len(run.results)} questions"
    if last is not None:
        changed = run.questions_sha256 != last.questions_sha256
        title += f", beside main on {last.made_on}" + (": the questions changed since" if changed else "")
    least, most = ({} if last is None else last.bounds(better) for better in (1, -1))
    if any("plays" in row.values for row in run.results):
        least["plays"] = 1 - measures.MOST_STALE
    return Figure(
        title=title, run="answers", tenants=(run.tenant,), questions=(), half=JUDGED, least=least, most=most
    )


class _Report:
    """Prints measures beside their bounds, figure by figure, or all of them as JSON at the end."""

    def __init__(self, options: GlobalOptions) -> None:
        self._options, self._terminal = options, Terminal()
        self._measured: dict[str, object] = {}
        self._is_missed = False

    def add(
        self, name: str, figure: Figure, judged: Iterable[Judged], rows: Sequence[FigureRow], *, show: bool
    ) -> None:
        """Print a figure; ``show``: with the misses of questions that may be read. The held-out half of a
        tenant's questions may not."""
        judged = list(judged)
        wrong = faults(judged)
        self._is_missed |= bool(wrong) or not all(row.is_met for row in rows)
        self._measured[name] = {
            row.measure: {"estimate": row.estimate, "asked": row.asked, "met": row.is_met} for row in rows
        }
        if not self._options.json:
            self._terminal.show(f"{name}: {figure.title}", "bold")
            cells = [row.cells for row in rows]
            self._terminal.out.print(table(*_HEADINGS, right=_HEADINGS[1:4], rows=cells))
        for row in judged:
            if show and row.miss and not (figure.half == row.split == JUDGED):
                self._terminal.warn(row.miss, "")
        for fault in wrong:
            self._terminal.warn(fault, "bold red")

    def end(self) -> None:
        """Write the JSON. Exits with status 1 where a bound is missed, or no figure may rest on a run."""
        self._options.writes(self._measured)
        if self._is_missed:
            raise typer.Exit(1)


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
        terminal.out.print(table("measure", "difference", "95 of 100", right=_HEADINGS[2:3], rows=rows))
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
    tenants: list[measures.TenantRun] = []
    async with open_services(runtime, list(asked), generates=plan.record is not None) as opened:
        for tenant, questions in asked.items():
            services = opened[tenant]
            if not plan.models:
                tenants.append(await _tenant_run(runtime, services, questions, plan.model(services), plan))
            for compared in plan.models:
                async with AsyncExitStack() as stack:
                    model, of_model = await compared.opened(services, stack)
                    tenants.append(await _tenant_run(runtime, of_model, questions, model, plan))
    name = plan.name or f"{'-'.join(asked)}-{made_at:%Y%m%d-%H%M%S}"
    return measures.Run(name=name, made_at=made_at, tenants=tuple(tenants))


async def _tenant_run(
    runtime: LocalRuntime,
    services: TenantServices,
    questions: TenantQuestions,
    model: WrittenModel | None,
    plan: EvaluationPlan,
) -> measures.TenantRun:
    tenant = services.tenant.name
    with runtime.terminal.counting(f"asking {tenant}", "questions") as show:
        results, recorded = await ask_questions(services, questions, model, show=show)
    plan.keep(recorded)
    return measures.TenantRun(
        tenant=tenant,
        questions_sha256=questions.sha256,
        writer="" if model is None else model.name,
        writer_sha256=services.writer.model.digest if plan.record is not None else None,
        results=tuple(results),
    )


# --- figures by name -------------------------------------------------------------------------------------
def measure_figures(
    options: GlobalOptions, names: Sequence[str], *, show: bool, record: Path | None = None
) -> None:
    """Measure the named figures, one after the other. Exits with status 1 where one misses its target.
    ``record``: a file to which the tenant's own model, in place of the figures' recordings, is recorded.

    Raises NotFoundError for an unknown name, ConfigurationError for ``show`` with a blind figure,
    whose questions nobody may look at.
    """
    folder, report = committed(options), _Report(options)
    all_figures = measures.read_figures(folder)
    asked = {name: measures.figure_named(all_figures, name) for name in names}
    if show and (blind := [name for name, figure in asked.items() if figure.blind]):
        raise ConfigurationError(
            f"{', '.join(blind)}: --show would use up questions that nothing may be tuned on. "
            "Show the misses of a figure whose name ends in -tuning."
        )
    tenants = dict.fromkeys(tenant for figure in asked.values() for tenant in figure.tenants)
    with loaded(options, Terminal(), tenants, command="assistant evaluate") as runtime:
        for name, figure in asked.items():
            judged: list[Judged] = []
            for tenant in figure.tenants:
                rows = asyncio.run(_measured(runtime, figure, folder, tenant, record=record))
                judged += (row for row in rows if figure.half in (None, row.split))
            report.add(name, figure, judged, figure.rows(figures(judged)), show=show)
    report.end()


async def _measured(
    runtime: LocalRuntime, figure: Figure, folder: Path, tenant: str, *, record: Path | None
) -> Sequence[Judged]:
    """Ask one tenant what a figure asks."""
    played = () if figure.recording is None or record else (folder / figure.recording.format(tenant=tenant),)
    plan = EvaluationPlan((tenant,), record=record if figure.recording else None, replay=played)
    if figure.run == "answers":
        return await _answers(runtime, figure, folder, plan)
    if figure.run == "routing":
        await learn_first_router(runtime, tenant=tenant)
    paths, generates = figure.paths(folder, tenant=tenant), figure.run == "written_live" or plan.record
    async with open_services(runtime, [tenant], generates=bool(generates)) as opened:
        services = opened[tenant]
        if (ask := MODEL_TRIALS.get(figure.run)) is None:
            return await trial_named(figure.run)(services, paths)
        if (model := plan.model(services)) is None:
            raise ConfigurationError(
                f"{figure.title}: it needs a recording. Correct evaluation/figures.toml."
            )
        asked = await ask(services, model, paths)
        plan.keep(line for row in asked for line in recorded_lines(row.id, row.calls, model=model.name))
        return [judged for row in asked for judged in row.judged]


async def _answers(
    runtime: LocalRuntime, figure: Figure, folder: Path, plan: EvaluationPlan
) -> Sequence[Judged]:
    """Ask the questions of a figure as ``evaluate --tenant`` does: of its half alone, and with a recording
    only those that it has an answer to."""
    (tenant,) = plan.tenants
    (path,) = figure.paths(folder, tenant=tenant)
    recorded = {line.id for line in read_recording(plan.replay)} if plan.replay else None
    questions = TenantQuestions.of(
        path, asks=lambda row: figure.half in (None, row.split) and (recorded is None or row.qid in recorded)
    )
    run = await run_questions(runtime, {tenant: questions}, plan)
    return run.tenants[0].results
