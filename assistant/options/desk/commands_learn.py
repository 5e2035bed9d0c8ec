"""``assistant learn erase``, and what other commands that learn share."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from typer import Option

from assistant.domain.errors import ConfigurationError
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, cli_reader, plain

if TYPE_CHECKING:
    from assistant.options.desk.signals import Erased
    from assistant.stores.opened import EmbeddedTenant

CONTENTS = "Of the second person, under hipaa: the contents that the first one's refusal told."


def add_to_learn(learn: typer.Typer) -> None:
    """Add ``assistant learn erase``."""
    learn.command()(erase)


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
    from assistant.options.desk.opened import eraser, local_signals

    options = GlobalOptions.of(context)
    config, state_dir = options.tenant(tenant), options.state_dir.resolve()
    if not any(character.isalnum() for character in member):
        raise ConfigurationError("--member has neither a letter nor a digit; give the member number.")
    signals = local_signals(config, tenants_dir=options.tenants_dir, state_dir=state_dir)

    async def destroy(stores: EmbeddedTenant) -> Erased:
        erase = await eraser(config, stores, signals)
        return await erase(member, by=cli_reader(), named=contents)

    erased = options.with_stores(tenant, destroy)
    outcome = "No words were kept under this number."
    if erased.had_key or erased.texts:
        key = "The key is destroyed" if erased.had_key else "The key was destroyed before"
        outcome = f"{key}. Texts that nobody can read any more: {len(erased.texts)}."
    show(options, asdict(erased), outcome, *(f"  {name}" for name in (erased.subject, *erased.texts)))


def show(options: GlobalOptions, value: object, *parts: str | Table) -> None:
    """Print ``value`` as JSON where ``--json`` asks for it, else the lines and tables of ``parts``."""
    if not options.writes(value):
        for part in parts:
            Terminal().out.print(plain(part) if isinstance(part, str) else part)
