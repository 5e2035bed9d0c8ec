"""``assistant evaluate``: asks questions with known answers, judges the answers, and compares the measures.

With ``--tenant`` it asks a tenant's committed questions (``evaluation/T.jsonl``) and compares the held-out
half with its last run on main, in ``evaluation/series.jsonl``. With ``--figure`` it measures a figure of
``evaluation/figures.toml``.
"""

from __future__ import annotations

import asyncio
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
from assistant.evaluation.measures import JUDGED, TITLES, Figure, FigureRow, Judged, faults, figures
from assistant.evaluation.questions import TenantQuestions
from assistant.evaluation.trials import trial_named
from assistant.models.recorded import read_recording
from assistant.tenant.prices import load_prices
from assistant.terminal.loading import loaded
from assistant.terminal.local import LocalRuntime, committed, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal, table

app = typer.Typer(add_completion=False)
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
    show: Annotated[
        bool, Option("--show", help="Print the misses of a *-tuning figure, or of a tenant's tuning half.")
    ] = False,
    questions: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help="Ask your own questions (docs/evaluation.md).")
    ] = None,
    accept: Annotated[bool, Option("--accept", help="Add the result to evaluation/series.jsonl.")] = False,
    record: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="With --figure: let the tenant's own model write, and add what it writes to FILE.",
        ),
    ] = None,
    model: Annotated[list[str] | None, Option("--model", metavar="[ARTIFACT=]MODEL", help=MODEL)] = None,
) -> None:
    """Ask a tenant's questions that have known answers, and measure the answers; or measure a --figure."""
    if bool(tenant) == bool(figure):
        raise typer.BadParameter("Give either --tenant T or --figure NAME.")
    options = GlobalOptions.of(context)
    if not figure:
        if record is not None:
            raise typer.BadParameter("--record takes --figure, such as conversations-tuning.")
        plan = EvaluationPlan(tuple(tenant or ()), questions, accept)
        if model:
            plan = replace(plan, models=compared_models(options, plan, model))
        evaluate(options, plan, show=show)
    elif any((questions, accept, model)):
        raise typer.BadParameter("--figure takes --show, --record and the options of every command alone.")
    else:
        measure_figures(options, figure, show=show, record=record)


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """The command's options, but for --figure and --show."""

    tenants: tuple[str, ...]
    questions: Path | None = None
    """A file in place of the committed ones; then there is no comparison with the series."""
    accepts: bool = False
    """Whether the run is added to the series, and compared with nothing."""
    models: tuple[ComparedModel, ...] = ()
    """Models that are asked in turn, in place of the tenant's, and compared."""

    def check(self) -> None:
        """Raise ConfigurationError for options that contradict each other."""
        if self.questions is not None and len(self.tenants) > 1:
            raise ConfigurationError("--questions takes one --tenant: its documents answer them.")
        if self.accepts and self.questions is not None:
            raise ConfigurationError("--accept needs all committed questions: leave --questions out.")


def evaluate(options: GlobalOptions, plan: EvaluationPlan, *, show: bool = False) -> None:
    """Ask the questions, judge the answers, print the measures. Exits with status 1 if a measure fell by more
    than its noise, or if no measure may rest on the run.

    ``show``: print the misses of the tuning half too.
    """
    plan.check()
    terminal, report = Terminal(), _Report(options)
    folder = committed(options)
    questions = questions_of(options, plan)
    series = folder / "series.jsonl"
    last = {} if plan.accepts or plan.questions or plan.models else measures.last_of_series(series)
    with loaded(options, terminal, questions, command="assistant evaluate") as runtime:
        runs = asyncio.run(run_questions(runtime, questions, plan))
    if plan.models:
        _show_compared(options, plan, runs)
        return
    for tenant in runs:
        figure = tenant_figure(tenant, last.get(tenant.tenant))
        report.add(tenant.tenant, figure, tenant.results, figure.rows(tenant.held_out), show=show)
    if plan.accepts:
        lines = (measures.SeriesRun.of(tenant, made_on=datetime.now(UTC).date()) for tenant in runs)
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
    if plan.accepts:
        raise typer.BadParameter("--model takes --tenant and --questions alone.")
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


def _show_compared(options: GlobalOptions, plan: EvaluationPlan, runs: Sequence[measures.TenantRun]) -> None:
    """Print one table of the compared models, and write the comparisons into manifests. Exits with status 1,
    and writes none, if no measure may rest on the run."""
    names = [model.name for model in plan.models]
    by_model = dict(zip(names, (row.held_out for row in runs), strict=True))
    if not options.writes({"models": by_model, "titles": TITLES}):
        rows = comparison_rows(runs)
        Terminal().out.print(table("mean [95 of 100] of questions", *names, right=names, rows=rows))
    if wrong := [fault for row in runs for fault in faults(row.results)]:
        for fault in wrong:
            Terminal().warn(fault, "bold red")
        raise typer.Exit(1)
    keep_comparisons(plan.models, runs, artifacts=_artifacts(options))


def tenant_figure(run: measures.TenantRun, last: measures.SeriesRun | None) -> Figure:
    """Return the figure of all questions of a tenant: what the last run on main asks of its measures.

    ``last``: None where the run is compared with none.
    """
    title = f"{len(run.results)} questions"
    if last is not None:
        changed = run.questions_sha256 != last.questions_sha256
        title += f", beside main on {last.made_on}" + (": the questions changed since" if changed else "")
    least, most = ({} if last is None else last.bounds(better) for better in (1, -1))
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
) -> list[measures.TenantRun]:
    """Ask each tenant's questions, and return the measured runs: one for each model, if the plan has some."""
    runs: list[measures.TenantRun] = []
    async with open_services(runtime, list(asked), generates=False) as opened:
        for tenant, questions in asked.items():
            services = opened[tenant]
            if not plan.models:
                runs.append(await _tenant_run(runtime, services, questions))
            for compared in plan.models:
                async with AsyncExitStack() as stack:
                    model, of_model = await compared.opened(services, stack)
                    runs.append(await _tenant_run(runtime, of_model, questions, model))
    return runs


async def _tenant_run(
    runtime: LocalRuntime,
    services: TenantServices,
    questions: TenantQuestions,
    model: WrittenModel | None = None,
) -> measures.TenantRun:
    tenant = services.tenant.name
    with runtime.terminal.counting(f"asking {tenant}", "questions") as show:
        results = await ask_questions(services, questions, model, show=show)
    return measures.TenantRun(tenant=tenant, questions_sha256=questions.sha256, results=tuple(results))


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
    """Ask one tenant what a figure asks, and add what its model writes to ``record``."""
    paths = figure.paths(folder, tenant=tenant)
    if figure.run == "answers":
        (path,) = paths
        half = TenantQuestions.of(path, asks=lambda row: figure.half in (None, row.split))
        (run,) = await run_questions(runtime, {tenant: half}, EvaluationPlan((tenant,)))
        return run.results
    if figure.run == "routing":
        await learn_first_router(runtime, tenant=tenant)
    ask = MODEL_TRIALS.get(figure.run)
    generates = ask is not None and record is not None
    async with open_services(runtime, [tenant], generates=generates) as opened:
        services = opened[tenant]
        if ask is None:
            return await trial_named(figure.run)(services, paths)
        model = writing_model(services, figure, folder, live=record is not None)
        asked = await ask(services, model, paths)
        if record is not None:
            with record.open("a", encoding="utf-8") as file:
                for row in asked:
                    lines = recorded_lines(row.id, row.calls, model=model.name)
                    file.writelines(line.model_dump_json() + "\n" for line in lines)
        return [judged for row in asked for judged in row.judged]


def writing_model(services: TenantServices, figure: Figure, folder: Path, *, live: bool) -> WrittenModel:
    """Return the tenant's own model, or the figure's recording. Raises ConfigurationError where there is
    none."""
    writer = services.writer
    if not live:
        recording = (figure.recording or "").format(tenant=services.tenant.name)
        return WrittenModel.of_recording(read_recording([folder / recording]))
    if not writer.model.writes_answers:
        raise ConfigurationError(
            f"--record needs a model, and none writes for {services.tenant.name}. "
            "Choose one: assistant models use."
        )
    return WrittenModel(writer.generator, writer.token_counter, writer.model.model_id)
