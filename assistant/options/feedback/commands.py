"""``assistant learn erase``, and what the commands that learn from feedback share.

What a command works with is imported when it runs: the other commands start without numpy.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from typer import Option

from assistant.domain.errors import ConfigurationError
from assistant.stores.desk import DESK
from assistant.stores.erasure import ERASURE_KEYS
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

CONTENTS = "Of the second person, under hipaa: the contents that the first one's refusal told."


def erase(
    context: typer.Context,
    tenant: Tenant,
    member: Annotated[
        str, Option("--member", metavar="NUMBER", help="Member number, however it is written.")
    ],
    contents: Annotated[str | None, Option(metavar="HASH", help=CONTENTS)] = None,
) -> None:
    """Make a patient's words in the feedback store unreadable for good, and say which these are. Under the
    profile hipaa a second person must give the same command."""
    from assistant.options.feedback.opened import feedback_of, local_signals, two_people_of
    from assistant.options.feedback.signals import Erased, ErasePatient
    from assistant.terminal.terminal import cli_reader

    options = GlobalOptions.of(context)
    config, state_dir = options.tenant(tenant), options.state_dir.resolve()
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    signals = local_signals(config, tenants_dir=options.tenants_dir, state_dir=state_dir)

    async def destroy(stores: EmbeddedTenant) -> Erased:
        keys, feedback = stores.get(ERASURE_KEYS), await feedback_of(stores, config.name)
        two_people = two_people_of(config, stores.get(DESK))
        erase = ErasePatient(signals=signals, keys=keys, feedback=feedback, two_people=two_people)
        return await erase(member, by=cli_reader(), named=contents)

    erased = options.with_stores(tenant, destroy)
    told = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        told = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    show(options, asdict(erased), told, *(f"  {name}" for name in (erased.subject, *erased.texts)))


def show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print JSON for a program to read, else lines and tables."""
    if not options.writes(value):
        for part in parts:
            Terminal().out.print(plain(part) if isinstance(part, str) else part)


def add_to_learn(app: typer.Typer) -> None:
    app.command()(erase)
