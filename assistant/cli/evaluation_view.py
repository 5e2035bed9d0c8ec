"""An evaluation on the terminal: the summary table, the standing misses, what changed since another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from assistant.cli.terminal import Terminal, plain
from assistant.evaluation.measures import MEASURES, Estimate, estimates, latencies, lengths
from assistant.evaluation.report import asked_text, told
from assistant.evaluation.results import QuestionResult
from assistant.evaluation.runs import TenantRun, bound_of

_CHANGED_SHOWN = 20


def show_run(terminal: Terminal, run: TenantRun, *, asked: Mapping[str, float]) -> None:
    """Show a tenant's measures: the held-out half beside the tuning half."""
    held, tuning = (estimates(run.by_qid, split=split) for split in ("held_out", "tuning"))
    drawn = "" if run.drawn is None else f", drawn by {run.drawn}"
    table = Table(title=f"{run.tenant}: {len(run.results)} questions in {run.seconds:.0f} s{drawn}")
    for column in ("measure", "held out", "95 of 100", "n", "tuning", "asked", ""):
        table.add_column(column, justify="left" if column in ("measure", "") else "right")
    missed: list[str] = []
    for measure in MEASURES:
        now, other = held.get(measure.name), tuning.get(measure.name)
        if now is None:
            continue
        bound = bound_of(measure, now, asked)
        if bound is not None and not bound.is_met:
            missed.append(f"{measure.title} {now.value:.3f} ({asked_text(measure, bound)})")
        table.add_row(
            measure.title,
            f"{now.value:.3f}",
            f"{now.low:.3f} to {now.high:.3f}",
            str(now.questions),
            "" if other is None else f"{other.value:.3f}",
            "" if bound is None else asked_text(measure, bound),
            "" if bound is None else ("met" if bound.is_met else "missed"),
        )
    terminal.out.print(table)
    for title, spreads, unit in (
        ("Words", lengths(run.results), ""),
        ("Time", latencies(run.results), " ms"),
    ):
        said = ", ".join(f"{name} {one.p50:g} / {one.p95:g}{unit}" for name, one in spreads.items())
        terminal.out.print(plain(f"{title}, p50 / p95: {said}"))
    late = sum(one.without_unit_vectors for one in run.results)
    if late:
        terminal.err.print(
            plain(f"{late} questions were quoted without vectors of units: the machine is busy.")
        )
    for one in missed:
        terminal.out.print(plain(f"standing miss, {run.tenant}: {one}", style="yellow"))


def show_changes(
    terminal: Terminal,
    name: str,
    differences: Mapping[str, Estimate],
    changed: Sequence[tuple[QuestionResult, QuestionResult]],
) -> None:
    """Show the paired differences of the held-out half that are not zero, and the questions that changed."""
    table = Table(title=f"against {name}: differences of the held-out half, question by question")
    for column in ("measure", "difference", "95 of 100"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for measure in MEASURES:
        one = differences.get(measure.name)
        if one is not None and (one.low or one.high):
            table.add_row(measure.title, f"{one.value:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}")
    terminal.out.print(table if table.row_count else plain(f"No measure differs from {name}."))
    for before, after in changed[:_CHANGED_SHOWN]:
        terminal.out.print(
            plain(f"  {after.qid}: {told(before)} → {told(after)}  {after.question.question[:90]}")
        )
    if len(changed) > _CHANGED_SHOWN:
        terminal.out.print(f"  … and {len(changed) - _CHANGED_SHOWN} more: the report lists them")
