"""``assistant knowledge sync``: runs connectors, and shows their last runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from assistant.client import Patience
from assistant.documents.sources import KnowledgeSources
from assistant.options.sources.opened import LocalSecrets, connected_sources, sync_of
from assistant.options.sources.run import SOURCE_RUNS, SourceRun
from assistant.terminal.sending import OWNER, open_target
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, age, plain, table

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

INTO = "Bring the documents into the service at this address, instead of the stores of this machine."
HOLDS = "Holds a knowledge owner's token, read again for each request. Default: that of the settings."
_PATIENCE = Patience(attempts=6, longest_wait_s=60.0)
# Fields of ``SourceRun``, which are also columns of the list.
_COUNTS = ("changed", "unchanged", "deleted", "refused")


def add_to_knowledge(app: typer.Typer) -> None:
    """Add the command ``sync`` to ``assistant knowledge``."""
    app.command()(sync)


def sync(
    context: typer.Context,
    tenant: Tenant,
    source: Annotated[str | None, Argument(metavar="[SOURCE]", help="A source with a connector.")] = None,
    yes: Annotated[
        bool, Option("--yes", "-y", help="Also when more than half of its documents are gone.")
    ] = False,
    again: Annotated[
        bool, Option("--again", help="From the beginning; what is unchanged is compared.")
    ] = False,
    into: Annotated[str | None, Option(metavar="URL", help=INTO)] = None,
    token_file: Annotated[Path | None, Option(metavar="FILE", help=HOLDS)] = None,
) -> None:
    """Read now what changed in a wiki or database; the worker indexes it while it runs. Without SOURCE: list
    the sources with their last run, counts, errors, and age of what they brought."""
    options, terminal = GlobalOptions.of(context), Terminal()
    if source is None:
        _show_runs(options, terminal, tenant)
        return
    url = (into or "").rstrip("/")
    if token_file and not url:
        raise typer.BadParameter("--token-file belongs to --into.")
    named = KnowledgeSources.of(options.tenant(tenant)).named(source)
    secrets = LocalSecrets(tenant, options.tenants_dir, options.state_dir.resolve())

    async def read(stores: EmbeddedTenant) -> SourceRun:
        run = sync_of(stores, named, secrets)
        if url:
            client = options.service_client(url, of=OWNER, token_file=token_file, patience=_PATIENCE)
            run = replace(run, open_target=partial(open_target, client, named, tenant=tenant), into=url)
        return await run(confirmed=yes, again=again)

    with terminal.waiting(f"reading {source}"):
        run = options.with_stores(tenant, read)
    if options.json:
        terminal.line(run.model_dump_json())
    else:
        terminal.show(f"{source}: " + ", ".join(f"{getattr(run, name):,} {name}" for name in _COUNTS))
        for error in run.errors:
            terminal.warn(error, "red")
    if run.errors:
        raise typer.Exit(1)


def _show_runs(options: GlobalOptions, terminal: Terminal, tenant: str) -> None:
    sources = connected_sources(options.tenant(tenant))
    stored_runs = options.with_stores(tenant, lambda stores: stores.get(SOURCE_RUNS).runs())
    runs: list[tuple[str, SourceRun | None]] = []
    for source in sources:
        runs += [(run.key, run) for run in stored_runs if run.source == source.name] or [(source.name, None)]
    if options.json:
        rows = [run.model_dump(mode="json") if run else {"source": name} for name, run in runs]
        terminal.json({"sources": rows})
        return
    headings = ("source", "last run", "up to date", *_COUNTS, "errors")
    if runs:
        terminal.out.print(table(*headings, right=_COUNTS, rows=[_cells(*row) for row in runs]))
    else:
        terminal.warn(f"No source of {tenant} has a connector: assistant/options/sources/connectors.md.")


def _cells(name: str, run: SourceRun | None) -> list[str]:
    """Return a row of the list. ``name``: the run's key; a source that never ran has its name, and no run."""
    if run is None:
        return [name, "never", "never", *("" for _ in _COUNTS), ""]
    now = datetime.now(UTC)
    begun = f"{age(now - run.started_at)} ago" + ("" if run.ended_at else ", runs or was killed")
    up_to_date = "never" if run.succeeded_at is None else f"{age(now - run.succeeded_at)} ago"
    counts = (f"{getattr(run, count):,}" for count in _COUNTS)
    return [name, begun, up_to_date, *counts, plain("; ".join(run.errors)).plain]
