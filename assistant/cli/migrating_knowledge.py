"""``assistant knowledge migrate``: documents of older releases under the tenant file of today."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import typer

from assistant.cli.global_options import GlobalOptions
from assistant.cli.terminal import Terminal, plain
from assistant.domain.clock import SystemClock
from assistant.knowledge.migration import Change, MigrateKnowledge, Migration
from assistant.knowledge.sources import KnowledgeSources
from assistant.wiring.stores import open_stores


def migrate_knowledge(options: GlobalOptions, *, tenant: str, into: str | None, apply: bool) -> None:
    """Print what each document needs and, with ``apply``, do it; status 1 while a person has to decide.

    Withdrawn ids leave the index, and new ones come into it, when the worker runs.
    """
    terminal = Terminal()
    migrations = asyncio.run(_migrate(options, tenant=tenant, into=into, apply=apply))
    left = [one for one in migrations if one.change is Change.STUCK]
    missing = sorted({label for one in migrations for label in one.labels})
    vocabulary = f"labels = {orjson.dumps([*options.tenant(tenant).labels, *missing]).decode()}"
    if options.json:
        terminal.line(
            orjson.dumps(
                {
                    "applied": apply,
                    "documents": [
                        {"document_id": one.document_id, "change": one.change, "detail": one.detail}
                        for one in migrations
                    ],
                    "labels_to_add": missing,
                }
            ).decode()
        )
    else:
        for one in migrations:
            terminal.out.print(plain(f"{one.document_id}  {one.change}: {one.detail}"))
        if missing:
            terminal.say(f"or keep them: in {tenant}.toml write {vocabulary}")
        terminal.say(_said(migrations, apply=apply))
    if left or (missing and not apply):
        raise typer.Exit(1)


def _said(migrations: Sequence[Migration], *, apply: bool) -> str:
    changes = sum(one.change is not Change.STUCK for one in migrations)
    if not migrations:
        return "nothing to migrate"
    if apply:
        return (
            f"{changes} changes made; assistant knowledge add, or any command that runs the worker, ends them"
        )
    return f"{changes} changes would be made; --apply makes them"


async def _migrate(options: GlobalOptions, *, tenant: str, into: str | None, apply: bool) -> list[Migration]:
    sources = KnowledgeSources.of(options.tenant(tenant))
    chosen = sources.named(into) if into is not None else None
    async with open_stores(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
        migrate = MigrateKnowledge(stores.knowledge, sources=sources, into=chosen, clock=SystemClock())
        return await migrate.apply() if apply else [one async for one in migrate.plan()]
