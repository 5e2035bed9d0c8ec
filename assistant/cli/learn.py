"""``assistant learn``: what is learned from signals, and what is forgotten again."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from assistant.cli.global_options import GlobalOptions, Tenant

learn_app = typer.Typer(
    help="Learn from agents' feedback, and erase a patient from it.", no_args_is_help=True
)
MEMBER = "Member number, however it is written."


@learn_app.command()
def erase(
    context: typer.Context,
    tenant: Tenant,
    member: Annotated[str, Option("--member", metavar="NUMBER", help=MEMBER)],
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are."""
    from assistant.cli.records import erase_patient

    erase_patient(GlobalOptions.of(context), tenant=tenant, member=member)
