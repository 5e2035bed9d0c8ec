"""``assistant learn export``: training sets from what agents did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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
    from assistant.options.desk.opened import LearningStores
    from assistant.options.models_lab.training_sets import Export

BY = "Name of the person who exports: under hipaa needed with --deployed. Else this machine's user counts."
END = "End of the window, UTC. Default: now."
FIRST_DAY = "First day of the window, UTC. Default: 90 days before its end."
_SETS_DAYS = 90


def export(
    context: typer.Context,
    tenant: Tenant,
    out: Annotated[Path, Option(metavar="DIR", help="The sets become a new folder in it.")],
    since: Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=FIRST_DAY)] = None,
    until: Annotated[datetime | None, Option(parser=instant, metavar="DATE", help=END)] = None,
    by: Annotated[str, Option(metavar="NAME", help=BY)] = "",
    contents: Annotated[str | None, Option(metavar="HASH", help=CONTENTS)] = None,
) -> None:
    """Write training sets: supervised and preference examples, a data card, provenance to each signal. Under
    the profile hipaa a second person must give the same command."""
    from assistant.options.models_lab.opened import put_set, training_sets
    from assistant.options.models_lab.training_sets import COLUMNS
    from assistant.stores.desk import Contents, TwoPeople

    options, (begin, end) = GlobalOptions.of(context), window_of(since, until, days=_SETS_DAYS)
    if by and not options.deployed:
        raise ConfigurationError("--by is only for --deployed; elsewhere the user of this machine counts.")

    async def read() -> Export:
        async with _open_stores(options, tenant) as stores:
            two_people = TwoPeople(stores.desk, is_needed=stores.tenant.needs_two_people)
            sets = await training_sets(stores, begin, end)

            async def files() -> Contents:
                """What the second person confirms: the files' hashes; an example more makes it void."""
                hashes = {name: sha256(raw).hexdigest() for name, raw in sets.content.items()}
                return Contents.of(hashes, f"{sum(int(row[1]) for row in sets.rows):,} examples")

            reader = by if options.deployed else cli_reader()
            await two_people.admit("export", "training sets", by=reader, contents=files, named=contents)
            return sets

    with Terminal().waiting("learning"):
        sets = asyncio.run(read())
    folder = sets.write(out)
    place = str(folder)
    if options.deployed and (settings := options.preparing()).sets_s3 is not None:
        # A deployment's set is copied to its bucket, too, where the settings name one.
        place = asyncio.run(put_set(settings, folder, key_id=settings.sets_key_id))
    counts = {row[0]: int(row[1]) for row in sets.rows}
    lines = [f"left out, {reason}: {count}" for reason, count in sorted(sets.left_out.items()) if count]
    shown = table(*COLUMNS, right=COLUMNS[1:3], rows=sets.rows)
    facts = {"folder": place, "examples": counts, "left_out": dict(sets.left_out)}
    show(options, facts, shown, *lines, f"Folder: {place}")


@asynccontextmanager
async def _open_stores(options: GlobalOptions, tenant: str) -> AsyncGenerator[LearningStores]:
    """Open the stores of a tenant: a deployment's with ``--deployed``, else this machine's."""
    from assistant.options.desk.opened import LearningStores, open_deployed_learning

    if options.deployed:
        async with open_deployed_learning(options.preparing(), tenant) as deployed:
            yield deployed
        return
    config = options.tenant(tenant)
    async with options.stores(tenant) as stores:
        yield await LearningStores.of(stores, config)
