"""``assistant learn``: what is learned from signals, and what is forgotten again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from assistant.cli.global_options import GlobalOptions, Tenant
from assistant.cli.ranking_commands import ranking_app

learn_app = typer.Typer(
    help="Learn from agents' feedback, and erase a patient from it.", no_args_is_help=True
)
learn_app.add_typer(ranking_app)
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


_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@learn_app.command()
def export(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The sets become a new folder in it.")],
    since: Annotated[
        datetime | None, Option(formats=_DATES, metavar="DATE", help="UTC. Default: 90 days before --until.")
    ] = None,
    until: Annotated[
        datetime | None, Option(formats=_DATES, metavar="DATE", help="End of the window, UTC. Default: now.")
    ] = None,
    least_agreement: Annotated[
        float, Option(min=0, max=1, metavar="SHARE", help="Of the marks on near-identical questions.")
    ] = 0.66,
    least_marks: Annotated[
        int, Option(min=1, metavar="N", help="Marks on near-identical questions; approved texts need none.")
    ] = 1,
) -> None:
    """Write training sets: supervised and preference examples, a data card, provenance to each signal."""
    from assistant.cli.training_sets import ExportOptions, export_sets
    from assistant.tuning.training_sets import SetRules

    end = (until or datetime.now(UTC)).replace(tzinfo=UTC)
    begin = (since or end - timedelta(days=90)).replace(tzinfo=UTC)
    rules = SetRules(least_agreement=least_agreement, least_marks=least_marks)
    chosen = ExportOptions(tenant=tenant, since=begin, until=end, out=out, rules=rules)
    export_sets(GlobalOptions.of(context), chosen)
