"""``assistant knowledge list``, ``status`` and ``migrate``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import typer
from rich.table import Table
from rich.text import Text

from assistant.cli.global_options import GlobalOptions
from assistant.cli.terminal import Terminal, plain, styled
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.knowledge.migration import Change, MigrateKnowledge, Migration
from assistant.knowledge.reading import ListDocuments
from assistant.knowledge.sources import KnowledgeSources
from assistant.wiring.stores import open_stores

_PAGE = 1000
_STYLES = {
    DocumentState.LIVE: "green",
    DocumentState.FAILED: "red",
    DocumentState.STALE: "yellow",
    DocumentState.WITHHELD: "red",
    DocumentState.WITHDRAWN: "dim",
}


def list_documents(options: GlobalOptions, *, tenant: str, source: str | None, states: Sequence[str]) -> None:
    """Print every document of the tenant or of one source, or those in the given states."""
    terminal = Terminal()
    statuses, counts = asyncio.run(_read_all(options, tenant, source, _states(states)))
    if options.json:
        documents = [status.model_dump(mode="json") for status in statuses]
        terminal.line(
            orjson.dumps(
                {"documents": documents, "counts": {**counts}}, option=orjson.OPT_NON_STR_KEYS
            ).decode()
        )
        return
    now = datetime.now(UTC)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("document", "source", "state", "age", "title"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "age" else "left")
    for status in statuses:
        title = plain(status.title)
        if status.failure_reason:
            title.append_text(plain(f"\n{status.failure_reason}", style="red"))
        state = Text(status.state.value, style=_STYLES.get(status.state, ""))
        since = age(now - status.updated_at)
        table.add_row(plain(status.document_id), status.knowledge_source, state, since, title)
    if statuses:
        terminal.out.print(table)
    said = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    terminal.err.print(said or f"{tenant} has no documents yet.", style="dim")


def show_document(options: GlobalOptions, *, tenant: str, document_id: str) -> None:
    """Print all that is known of one document. Raises NotFoundError."""
    terminal = Terminal()
    status = asyncio.run(_read_one(options, tenant, document_id))
    if status is None:
        raise NotFoundError(f"{tenant} has no document {document_id}.")
    if options.json:
        terminal.line(status.model_dump_json())
        return
    for name, value in status.model_dump(mode="json", exclude_none=True).items():
        terminal.out.print(styled((f"{name.replace('_', ' '):<18}", "bold"), (str(value), "")))


def _states(names: Sequence[str]) -> list[DocumentState]:
    try:
        return [DocumentState(name) for name in names]
    except ValueError:
        allowed = ", ".join(state.value for state in DocumentState)
        raise ConfigurationError(f"There is no state {', '.join(names)}; states are {allowed}.") from None


def age(since: timedelta) -> str:
    """Return a time span in its largest unit: "5 s", "3 min", "2 h", "4 d"."""
    seconds = max(0, int(since.total_seconds()))
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{seconds // size_s} {unit}"
    return f"{seconds} s"


async def _read_all(
    options: GlobalOptions, tenant: str, source: str | None, states: Sequence[DocumentState]
) -> tuple[list[DocumentStatus], Mapping[DocumentState, int]]:
    async with open_stores(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
        sources = KnowledgeSources.of(options.tenant(tenant))
        listing = ListDocuments(stores.knowledge.states, sources=sources)
        of = sources.all if source is None else (sources.named(source),)
        found: list[DocumentStatus] = []
        after: str | None = None
        while page := await listing.page(of, states=states, after=after, limit=_PAGE):
            found += page
            after = page[-1].document_id
        return found, await listing.counts(of)


async def _read_one(options: GlobalOptions, tenant: str, document_id: str) -> DocumentStatus | None:
    async with open_stores(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
        status = await stores.knowledge.states.get(document_id)
        return status and KnowledgeSources.of(options.tenant(tenant)).shown(status)


# ``assistant knowledge migrate``: documents of older releases under the tenant file of today.


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
