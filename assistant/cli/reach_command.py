"""The command that shows reachability. The work is in ``reaching``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.global_options import GlobalOptions


def add_reach_command(app: typer.Typer) -> None:
    """Give the command line ``assistant reach``."""
    app.command()(reach)


def reach(
    context: typer.Context,
    templates: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEMPLATE…", help="Those of one tenant: cdk.out/assembly-T.", show_default=False
        ),
    ],
    tenant: Annotated[
        str | None,
        typer.Option(metavar="T", help="Whose consumers and existing endpoints.", show_default=False),
    ] = None,
) -> None:
    """Show what can be reached on which port, by a tenant's templates alone."""
    from assistant.cli.reaching import show_reachability

    show_reachability(GlobalOptions.of(context), templates, tenant=tenant)
