"""``assistant evaluate``: its options. The work is in ``evaluating``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.global_options import GlobalOptions


def add_evaluation_command(app: typer.Typer) -> None:
    """Give the command line its evaluation."""
    app.command()(evaluate)


def evaluate(
    context: typer.Context,
    tenant: Annotated[
        list[str], typer.Option("--tenant", metavar="T", help="Name of a tenant file; may be repeated.")
    ],
    against: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with a kept run.", show_default=False)
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl", help="Questions of your own (docs/evaluation.md).", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the HTML report.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Keep the run under this name.", show_default=False)
    ] = None,
    draw: Annotated[
        str | None, typer.Option(metavar="SEED", help="Ask only some, drawn by a seed.", show_default=False)
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the result into evaluation/baseline.json.")
    ] = False,
) -> None:
    """Ask a tenant's questions with known answers, and show how good the answers are."""
    from assistant.cli.evaluating import EvaluationPlan
    from assistant.cli.evaluating import evaluate as run

    run(
        GlobalOptions.of(context),
        EvaluationPlan(
            tenants=tuple(tenant),
            against=against,
            questions=questions,
            out=out,
            name=name,
            drawn=draw,
            accepts=accept,
        ),
    )
