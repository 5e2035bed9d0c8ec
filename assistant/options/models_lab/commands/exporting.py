"""``assistant learn export``: training sets from what agents did here. A deployment's own task makes its sets
(``make_sets``)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from assistant.domain.errors import ConfigurationError
from assistant.options.desk.commands_learn import CONTENTS, show
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, cli_reader, instant, table, window_of

if TYPE_CHECKING:
    from assistant.options.models_lab.training_sets import Export

END = "End of the window, UTC. Default: now."
FIRST_DAY = "First day of the window, UTC. Default: 90 days before its end."
_SETS_DAYS = 90


def export(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The sets become a new folder in it.")],
    since: Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=FIRST_DAY)] = None,
    until: Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=END)] = None,
    contents: Annotated[str | None, Option(metavar="HASH", help=CONTENTS)] = None,
) -> None:
    """Write training sets: supervised and preference examples, a data card, provenance to each signal. Under
    the profile hipaa a second person must give the same command."""
    from assistant.options.desk.opened import LearningStores
    from assistant.options.models_lab.opened import training_sets
    from assistant.options.models_lab.training_sets import COLUMNS
    from assistant.stores.desk import Contents, TwoPeople

    options, (begin, end) = GlobalOptions.of(context), window_of(since, until, days=_SETS_DAYS)
    if options.deployed:
        raise ConfigurationError(
            "A deployment's own task makes its sets: set [models_lab] training = true. To make one at once, "
            "start its state machine."
        )
    config = options.tenant(tenant)

    async def read() -> Export:
        async with options.stores(tenant) as embedded:
            stores = await LearningStores.of(embedded, config)
            two_people = TwoPeople(stores.desk, is_needed=stores.tenant.needs_two_people)
            sets = await training_sets(stores, begin, end)

            async def files() -> Contents:
                """What the second person confirms: the files' hashes; an example more makes it void."""
                hashes = {name: sha256(raw).hexdigest() for name, raw in sets.content.items()}
                return Contents.of(hashes, f"{sum(int(row[1]) for row in sets.rows):,} examples")

            await two_people.admit("export", "training sets", by=cli_reader(), contents=files, named=contents)
            return sets

    with Terminal().waiting("learning"):
        sets = asyncio.run(read())
    folder = str(sets.write(out))
    counts = {row[0]: int(row[1]) for row in sets.rows}
    lines = [f"left out, {reason}: {count}" for reason, count in sorted(sets.left_out.items()) if count]
    shown = table(*COLUMNS, right=COLUMNS[1:3], rows=sets.rows)
    facts = {"folder": folder, "examples": counts, "left_out": dict(sets.left_out)}
    show(options, facts, shown, *lines, f"Folder: {folder}")
