"""``assistant learn suggestions``: the threshold that the marks of agents give."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from assistant.options.panel.counts import LEAST_OPENED, SuggestionCounts
from assistant.options.panel.section import PanelSection
from assistant.terminal.terminal import GlobalOptions, Terminal

RIGHT = "Share of the opened suggestions that agents inserted, which the threshold must keep."


def add_to_learn(app: typer.Typer) -> None:
    """Add the command."""
    app.command("suggestions")(suggestions)


def suggestions(
    context: typer.Context,
    counts: Annotated[Path, Argument(metavar="FILE", help="What GET /v1/turns/counts returned.")],
    right: Annotated[float, Option("--right", min=0.5, max=0.99, help=RIGHT)] = 0.85,
) -> None:
    """Fit the threshold of suggestions on what agents opened and inserted. It changes no file."""
    options = GlobalOptions.of(context)
    read = SuggestionCounts.model_validate_json(counts.read_bytes())
    least, shipped = read.least(right=right), PanelSection().least_suggestion
    if options.writes({"least": least, "shipped": shipped}):
        return
    if least is None:
        Terminal().show(
            f"No threshold: it needs {LEAST_OPENED} opened suggestions of which {right:.0%} were inserted "
            f"for certain. The release's, {shipped}, stays."
        )
    else:
        Terminal().show(
            f"Write [panel] least_suggestion = {least} into the tenant file (the release has {shipped})."
        )
