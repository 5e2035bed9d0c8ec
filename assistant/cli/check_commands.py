"""The commands that read templates. Each is a few lines; the work is in ``checking``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.global_options import GlobalOptions


def add_check_commands(app: typer.Typer) -> None:
    """Give the command line its commands that read templates."""
    app.command()(check)
    app.command()(facts)


def check(
    context: typer.Context,
    templates: Annotated[
        list[Path],
        typer.Argument(metavar="TEMPLATE…", help="Files or folders, also a cdk.out.", show_default=False),
    ],
    facts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What no template holds: docs/checks.md.", show_default=False),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(metavar="T", help="Take the facts of this tenant instead.", show_default=False),
    ] = None,
) -> None:
    """Hold CloudFormation templates, anyone's, against twenty-three mistakes."""
    from assistant.cli.checking import check_templates

    check_templates(GlobalOptions.of(context), templates, facts=facts, tenant=tenant)


def facts(
    context: typer.Context,
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="Name of a tenant file.")],
) -> None:
    """Print what no template of a tenant holds: a file for `check --facts`."""
    from assistant.cli.checking import print_facts

    print_facts(GlobalOptions.of(context), tenant=tenant)
