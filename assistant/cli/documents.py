"""``assistant knowledge list``, ``status`` and ``migrate``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import typer
from rich.text import Text

from assistant.cli.terminal import GlobalOptions, Terminal, plain, styled, table
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.knowledge.migration import Change, MigrateKnowledge, Migration
from assistant.knowledge.reading import ListDocuments
from assistant.knowledge.sources import KnowledgeSources

_PAGE = 1000
_STYLES = {
    DocumentState.LIVE: "green",
    DocumentState.FAILED: "red",
    DocumentState.STALE: "yellow",
    DocumentState.WITHHELD: "red",
    DocumentState.WITHDRAWN: "dim",
}


def list_documents(options: GlobalOptions, *, tenant: str, source: str | None, states: Sequence[str]) -> None:
    """Print the documents of the tenant, or of one source, or in the given states."""
    terminal = Terminal()
    statuses, counts = asyncio.run(_read_all(options, tenant, source, _states(states)))
    if options.json:
        documents = [status.model_dump(mode="json") for status in statuses]
        terminal.json({"documents": documents, "counts": {**counts}})
        return
    now = datetime.now(UTC)
    rows: list[tuple[str | Text, ...]] = []
    for status in statuses:
        title = plain(status.title)
        if status.failure_reason:
            title.append_text(plain(f"\n{status.failure_reason}", style="red"))
        state = Text(status.state.value, style=_STYLES.get(status.state, ""))
        since = age(now - status.updated_at)
        rows.append((plain(status.document_id), status.knowledge_source, state, since, title))
    if rows:
        headings = ("document", "source", "state", "age", "title")
        terminal.out.print(table(*headings, right=("age",), rows=rows))
    said = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    terminal.err.print(said or f"{tenant} has no documents yet.", style="dim")


def show_document(options: GlobalOptions, *, tenant: str, document_id: str) -> None:
    """Print the status of one document. Raises NotFoundError."""
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
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)
    async with options.stores(tenant) as stores:
        listing = ListDocuments(stores.knowledge.states, sources=sources)
        found: list[DocumentStatus] = []
        after: str | None = None
        while page := await listing.page(wanted, states=states, after=after, limit=_PAGE):
            found += page
            after = page[-1].document_id
        return found, await listing.counts(wanted)


async def _read_one(options: GlobalOptions, tenant: str, document_id: str) -> DocumentStatus | None:
    async with options.stores(tenant) as stores:
        status = await stores.knowledge.states.get(document_id)
        return status and KnowledgeSources.of(options.tenant(tenant)).with_source(status)


def migrate_knowledge(options: GlobalOptions, *, tenant: str, into: str | None, apply: bool) -> None:
    """Print what each document of an older release needs and, with ``apply``, do it.

    Status 1 while a person has to decide. The worker updates the index when it runs.
    """
    terminal = Terminal()
    migrations = asyncio.run(_migrate(options, tenant=tenant, into=into, apply=apply))
    missing = sorted({label for one in migrations for label in one.labels})
    if options.json:
        documents = [
            {"document_id": one.document_id, "change": one.change, "detail": one.detail} for one in migrations
        ]
        terminal.json({"applied": apply, "documents": documents, "labels_to_add": missing})
    else:
        for one in migrations:
            terminal.out.print(plain(f"{one.document_id}  {one.change}: {one.detail}"))
        if missing:
            labels = orjson.dumps([*options.tenant(tenant).labels, *missing]).decode()
            terminal.say(f"or keep them: in {tenant}.toml write labels = {labels}")
        terminal.say(_summary(migrations, apply=apply))
    if (missing and not apply) or any(one.change is Change.STUCK for one in migrations):
        raise typer.Exit(1)


def _summary(migrations: Sequence[Migration], *, apply: bool) -> str:
    changes = sum(one.change is not Change.STUCK for one in migrations)
    if not migrations:
        return "nothing to migrate"
    if not apply:
        return f"{changes} changes would be made; --apply makes them"
    return f"{changes} changes made; assistant knowledge add, or any command that runs the worker, ends them"


async def _migrate(options: GlobalOptions, *, tenant: str, into: str | None, apply: bool) -> list[Migration]:
    sources = KnowledgeSources.of(options.tenant(tenant))
    chosen = sources.named(into) if into is not None else None
    async with options.stores(tenant) as stores:
        migrate = MigrateKnowledge(stores.knowledge, sources=sources, into=chosen, clock=SystemClock())
        return await migrate.apply() if apply else [one async for one in migrate.plan()]
