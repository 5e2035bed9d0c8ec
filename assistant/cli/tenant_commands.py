"""``assistant tenant new|check``: a file for another tenant, and whether one can be deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.global_options import GlobalOptions

tenant_app = typer.Typer(help="Begin a tenant's file; look for what is made up in one.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the tenant and its file.", show_default=False)]


@tenant_app.command()
def new(
    context: typer.Context,
    name: Name,
    source: Annotated[str, typer.Option("--from", metavar="T", help="The tenant whose file is copied.")],
    display_name: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What people read; made of NAME when absent.", show_default=False),
    ] = None,
    knowledge: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Documents; knowledge/NAME when absent.", show_default=False),
    ] = None,
    cidr: Annotated[
        str | None,
        typer.Option(metavar="BLOCK", help="Of its VPC; the next free one when absent.", show_default=False),
    ] = None,
) -> None:
    """Write tenants/NAME.toml from another tenant's, with names of its own and placeholders for its place."""
    from assistant.cli.new_tenant import NewTenant, write_tenant

    wanted = NewTenant(name=name, source=source, display_name=display_name, knowledge=knowledge, cidr=cidr)
    write_tenant(GlobalOptions.of(context), wanted)


@tenant_app.command()
def check(context: typer.Context, name: Name) -> None:
    """Name each placeholder of a tenant's files by file, line and key, and each clash with another tenant."""
    from assistant.cli.new_tenant import check_tenant

    check_tenant(GlobalOptions.of(context), name)
