"""``assistant evaluate``, and its ``--figure NAME``, which asks a committed figure again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from assistant.answering.adaptations import Adaptations
from assistant.answering.services import TenantServices
from assistant.cli.evaluate import (
    EvaluationPlan,
    TenantQuestions,
    committed,
    evaluate,
    problems,
    run_questions,
)
from assistant.cli.knowledge import load_if_empty
from assistant.cli.learn import learn_first_router
from assistant.cli.local import LocalRuntime, local_runtime, open_served
from assistant.cli.terminal import GlobalOptions, Terminal, plain, table
from assistant.domain.errors import ConfigurationError
from assistant.evaluation import support
from assistant.evaluation.measures import Judged, figures, judged_of
from assistant.evaluation.questions import load_questions, load_rows
from assistant.evaluation.routing import RoutedQuestion, RoutingTrial
from assistant.evaluation.runs import Figure, FigureRow, figure_named, read_figures
from assistant.evaluation.trials import (
    ApprovedItem,
    FlaggedMessage,
    LiveQuestion,
    calm_messages,
    match_approved,
    raise_flags,
    read_elements,
)
from assistant.recorded_model import read_recording


def measure_figures(options: GlobalOptions, names: Sequence[str], *, show: bool) -> None:
    """Measure the named figures, one after the other. Status 1 where one misses what is asked of it.

    Raises NotFoundError for an unknown name, ConfigurationError for ``show`` with a blind figure.
    """
    terminal, folder = Terminal(), committed(options)
    every = read_figures(folder)
    asked = {name: figure_named(every, name) for name in names}
    if show and (blind := [name for name, figure in asked.items() if figure.blind]):
        raise ConfigurationError(
            f"{', '.join(blind)}: --show would use up questions that nothing may be tuned on. "
            "Show the misses of a figure whose name ends in -tuning."
        )
    runtime = local_runtime(options, terminal)
    missed, measured = False, dict[str, object]()
    with runtime.processes(runtime.layout.for_loading, command="assistant evaluate") as ports:
        for tenant in dict.fromkeys(tenant for figure in asked.values() for tenant in figure.tenants):
            asyncio.run(load_if_empty(runtime, tenant))
        for name, figure in asked.items():
            judged, unusable = asyncio.run(_judged(runtime, ports, figure, folder))
            rows = figure.rows(figures(judged))
            missed = missed or bool(unusable) or not all(row.is_met for row in rows)
            measured[name] = {row.measure: _as_json(row) for row in rows}
            if not options.json:
                _show(terminal, f"{name}: {figure.title}", rows)
            misses = [one.miss for one in judged if show and one.miss]
            for line in (
                *(plain(miss) for miss in misses),
                *(plain(one, style="bold red") for one in unusable),
            ):
                terminal.err.print(line)
    if options.json:
        terminal.json(measured)
    if missed:
        raise typer.Exit(1)


async def _judged(
    runtime: LocalRuntime, ports: Mapping[str, int], figure: Figure, folder: Path
) -> tuple[list[Judged], list[str]]:
    """Return what came of each question, and why no figure may rest on it."""
    judged: list[Judged] = []
    unusable: list[str] = []
    for tenant in figure.tenants:
        if figure.run == "answers":
            found, late = await _answers(runtime, ports, figure, folder, tenant)
            judged += found
            unusable += late
            continue
        if figure.run == "routing":
            await learn_first_router(runtime, ports, tenant=tenant)
        async with open_served(runtime, ports, [tenant]) as opened:
            served = opened[tenant]
            await served.adaptations.refresh()
            judged += await _trial(figure, folder, served.answering, served.adaptations)
    if late := [one for one in judged if one.degraded]:
        steps = ", ".join(sorted({step for one in late for step in one.degraded}))
        unusable.append(f"DEGRADED  {len(late)} questions: {steps}. Free the machine and ask again.")
    return judged, unusable


async def _answers(
    runtime: LocalRuntime, ports: Mapping[str, int], figure: Figure, folder: Path, tenant: str
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
    figure: Figure, folder: Path, services: TenantServices, adaptations: Adaptations
) -> list[Judged]:
    """Ask the questions of a figure of one tenant."""
    tenant = services.tenant
    first, *more = figure.paths(folder, tenant=tenant.name)
    match figure.run:
        case "approved":
            others = [one for path in more for one in load_questions(path)]
            return await match_approved(services, load_rows(first, ApprovedItem, key="approved_id"), others)
        case "red_flags":
            messages = load_rows(first, FlaggedMessage, key="message")
            calm = calm_messages(more, half=figure.half)
            return await raise_flags(tenant, services.embedder, messages, calm, clock=services.clock)
        case "live":
            questions = load_rows(first, LiveQuestion)
            mine = [one for one in questions if one.tenant == tenant.name]
            return await read_elements(services, adaptations, mine)
        case "routing":
            trial = RoutingTrial(services, adaptations)
            return [await trial.ask(one) for one in load_rows(first, RoutedQuestion)]
        case _:
            rows = support.samples([first, *more], knowledge=folder.parent / "knowledge")
            return support.judged((kind, case) for kind, case in rows if figure.half in (None, case.split))


_HEADINGS = ("measure", "value", "95 of 100", "questions", "asked", "")


def _show(terminal: Terminal, title: str, rows: Sequence[FigureRow]) -> None:
    terminal.out.print(plain(title, style="bold"))
    terminal.out.print(table(*_HEADINGS, right=_HEADINGS[1:4], rows=[row.cells() for row in rows]))


def _as_json(row: FigureRow) -> dict[str, object]:
    estimate = None if row.estimate is None else row.estimate.model_dump()
    return {"estimate": estimate, "asked": row.asked, "met": row.is_met}


app = typer.Typer(add_completion=False)


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
    plan = EvaluationPlan(
        tuple(tenant or ()),
        against,
        questions,
        out,
        name,
        accepts=accept,
        record=record,
        replay=tuple(replay or ()),
        reading=reading,
    )
    evaluate(GlobalOptions.of(context), plan)
