"""``assistant local up|down|status``: the local processes without a question."""

from __future__ import annotations

import typer

from assistant.cli.global_options import GlobalOptions

local_app = typer.Typer(help="Start, stop and show the local processes.", no_args_is_help=True)


@local_app.command()
def up(context: typer.Context) -> None:
    """Start everything and keep it running, so that the next commands answer at once."""
    from assistant.cli.local_processes import bring_up

    bring_up(GlobalOptions.of(context))


@local_app.command()
def down(context: typer.Context) -> None:
    """Stop everything that runs for this state folder."""
    from assistant.cli.local_processes import take_down

    take_down(GlobalOptions.of(context))


@local_app.command()
def status(context: typer.Context) -> None:
    """Show what runs, where, for whom."""
    from assistant.cli.local_processes import show_status

    show_status(GlobalOptions.of(context))
