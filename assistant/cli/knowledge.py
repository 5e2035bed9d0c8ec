"""``assistant knowledge``: loads, lists, moves and withdraws documents."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text
from typer import Argument, Option

from assistant.cli.reading_again import read_again
from assistant.documents.page import first_of
from assistant.documents.readable import ListDocuments
from assistant.documents.sources import KnowledgeSources
from assistant.documents.withdraw import WithdrawalReceipts, WithdrawDocuments
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    IndexModel,
    ReceiptPlace,
    WithdrawalReceipt,
)
from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.option import installed, joined
from assistant.stores.documents import STATES, read_editions
from assistant.terminal.loading import (
    CHECKED,
    SHOWN_NAMES,
    CheckedFiles,
    FileReading,
    LoadReport,
    SourceFolders,
    chosen_folders,
    finished,
    follow_here,
    store_files,
)
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, age, plain, table

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
for option in installed():
    option.add_to_knowledge(app)
PATHS = "Files, or folders of files in the formats of docs/documents.md. Default: those of the tenant file."
SOURCE = "Name of a source in the tenant file. Default: the one without a namespace."
LABEL = "An access label that you hold; lets you make documents with it readable to more agents."
WAIT = "How long to wait while no file is read. What is not read until then is named."
PRUNE = "Withdraw documents whose file is no longer below the paths of their source."
DRY_RUN = "Say what would be read, withdrawn, refused and skipped, and how long it takes. Nothing is loaded."
RECEIPT = "Show again what was removed, and withdraw nothing."
_SHOWN_FAILURES = 100
"""Failures that ``add`` prints by name; --json has all."""
_MOST_PRUNED = 1 / 3
"""Share of a source's documents that --prune withdraws at most: where more files are missing at once, the
folder is probably not mounted."""
_PAGE = 1000
"""Documents that ``list`` reads at a time."""
_EMBEDDED_CHARACTERS_S = 16_000
"""Characters a second that two cores embed with the packaged model, about 4,000 tokens:
docs/benchmarks.md."""
_STYLES = {
    DocumentState.LIVE: "green",
    DocumentState.FAILED: "red",
    DocumentState.STALE: "yellow",
    DocumentState.WITHHELD: "red",
    DocumentState.WITHDRAWN: "dim",
}


@app.command()
def add(
    context: typer.Context,
    tenant: Tenant,
    paths: Annotated[list[Path] | None, Argument(metavar="[PATH]...", help=PATHS)] = None,
    source: Annotated[str | None, Option(metavar="NAME", help=SOURCE)] = None,
    label: Annotated[list[str] | None, Option(metavar="LABEL", help=LABEL)] = None,
    prune: Annotated[bool, Option("--prune", help=PRUNE)] = False,
    more: Annotated[bool, Option("--prune-more-than-a-third", help="Also where it is so many.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask before withdrawing.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY_RUN)] = False,
) -> None:
    """Add documents and wait until each is indexed or failed. Unchanged ones are skipped."""
    options, terminal = GlobalOptions.of(context), Terminal()
    folders = chosen_folders(options, tenant, source=source, paths=paths or [])
    if dry_run:
        _show_what_a_load_does(options, terminal, tenant, folders)
        return
    runtime = local_runtime(options, terminal)
    report = _load(runtime, tenant, folders, labels=label or [])
    if not options.writes(_as_json(report)):
        _show(terminal, report)
    if (prune or more) and (left := _to_prune(terminal, report, more=more, yes=yes)):
        with runtime.site(command="assistant knowledge add"):
            asyncio.run(_withdraw(runtime, tenant, left))
        terminal.show(f"Withdrawn: {', '.join(left)}.")
    if report.has_failures:
        raise typer.Exit(1)


@app.command()
def push(
    context: typer.Context,
    tenant: Tenant,
    paths: Annotated[list[Path] | None, Argument(metavar="[PATH]...", help=PATHS)] = None,
    source: Annotated[str | None, Option(metavar="NAME", help=SOURCE)] = None,
    wait: Annotated[float, Option(metavar="MINUTES", min=0.0, help=WAIT)] = 30.0,
) -> None:
    """Put files into the inbox of a deployed tenant, from anywhere, and show what became of each.

    AWS_PROFILE needs nothing but to assume the role of the source's pushers (deployment.pushers).
    """
    from assistant.terminal.account import Deployed
    from assistant.terminal.publishing import push as push_files

    options, terminal = GlobalOptions.of(context), Terminal()
    folders = chosen_folders(options, tenant, source=source, paths=paths or [])
    with terminal.counting(f"pushing to {tenant}", "files") as show:
        report = push_files(Deployed.named(options, tenant), folders, show=show, wait_s=wait * 60)
    if not options.writes(asdict(report)):
        counted = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
        read = report.files - len(report.unread)
        terminal.show(f"{report.files:,} files put, {read:,} read in {report.seconds:.1f} s: {counted}")
        terminal.say("What is new answers once it is indexed, within minutes.")
        for refusal in report.refusals:
            terminal.warn(refusal, "red")
        for key in report.unread:
            terminal.warn(f"{key}: not yet read", "red")
        for note in report.notes:
            terminal.warn(note, "yellow")
        if report.skipped:
            terminal.warn(
                f"skipped, not a format that is read: {first_of(report.skipped, most=SHOWN_NAMES)}",
                "yellow",
            )
    if report.refusals or report.unread:
        raise typer.Exit(1)


def _show_what_a_load_does(
    options: GlobalOptions, terminal: Terminal, tenant: str, folders: Sequence[SourceFolders]
) -> None:
    """Print what a load would read, withdraw, refuse and skip, and about how long it takes."""
    reading = FileReading.of(options.tenant(tenant))
    checked = CheckedFiles()
    for folder in folders:
        checked.read(folder, reading)
    for name in reading.skipped:
        checked.skip(name)
    if options.writes(checked.as_json(reading)):
        return
    rows = [
        (kind, *(f"{counts[state]:,}" for state in CHECKED)) for kind, counts in sorted(checked.kinds.items())
    ]
    terminal.out.print(table("kind", *CHECKED, right=CHECKED, rows=rows))
    minutes = checked.characters / _EMBEDDED_CHARACTERS_S / 60
    terminal.out.print(
        f"{checked.characters:,} characters: about {max(1, round(minutes)):,} min until all of them answer, "
        "on two cores"
    )
    for reason, origins in checked.refused.items():
        terminal.warn(f"refused, {reason}: {first_of(origins, most=SHOWN_NAMES)}", "red")
    for remark in reading.remarks():
        terminal.warn(remark, "yellow")


app.command()(read_again)


@app.command(name="list")
def list_(
    context: typer.Context,
    tenant: Tenant,
    only: Annotated[
        list[str] | None, Option(metavar="STATE", help="live, failed, stale, withdrawn, …; may be repeated.")
    ] = None,
    source: Annotated[str | None, Option(metavar="NAME", help="Only of this source.")] = None,
) -> None:
    """List the documents with their state."""
    options, terminal = GlobalOptions.of(context), Terminal()
    states = _states(only or [])
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)

    async def read(stores: EmbeddedTenant) -> tuple[list[DocumentStatus], Mapping[DocumentState, int]]:
        listing = ListDocuments(stores.knowledge.states, sources=sources)
        statuses, after = await listing.page(wanted, states=states, limit=_PAGE)
        while after is not None:
            page, after = await listing.page(wanted, states=states, after=after, limit=_PAGE)
            statuses += page
        editions, today = await read_editions(stores.knowledge.states), datetime.now(UTC).date()
        return [editions.noted(status, today) for status in statuses], await listing.counts(wanted)

    statuses, counts = options.with_stores(tenant, read)
    if options.writes({"documents": statuses, "counts": {**counts}}):
        return
    if statuses:
        headings = ("document", "source", "state", "age", "title")
        terminal.out.print(table(*headings, right=("age",), rows=map(_cells, statuses)))
    counted = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    terminal.warn(counted or f"{tenant} has no documents yet.")


@app.command()
def withdraw(
    context: typer.Context,
    document_ids: Annotated[list[str], Argument(metavar="ID...")],
    tenant: Tenant,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    receipt: Annotated[bool, Option("--receipt", help=RECEIPT)] = False,
) -> None:
    """Remove documents from the answers and delete their text; say what remains until when by which rule."""
    options, terminal = GlobalOptions.of(context), Terminal()
    if receipt:
        receipts = _receipts(options, tenant, document_ids)
        if not options.writes({"receipts": receipts}):
            _show_receipts(terminal, receipts)
        return
    runtime = local_runtime(options, terminal)
    statuses = options.with_stores(tenant, lambda stores: stores.get(STATES).get_many(document_ids))
    known = [document_id for document_id in dict.fromkeys(document_ids) if document_id in statuses]
    unknown = [document_id for document_id in document_ids if document_id not in statuses]
    if known and not yes:
        _confirm(terminal, [statuses[document_id] for document_id in known])
    if known:
        with runtime.site(command="assistant knowledge withdraw"):
            asyncio.run(_withdraw(runtime, tenant, known))
    receipts = _receipts(options, tenant, known)
    if not options.writes({"withdrawn": known, "unknown": unknown, "receipts": receipts}) and known:
        terminal.show(f"Withdrawn: {', '.join(known)}.")
        _show_receipts(terminal, receipts)
    if unknown:
        raise NotFoundError(f"{tenant} has no document {', '.join(unknown)}.")


def _load(
    runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders], *, labels: Sequence[str]
) -> LoadReport:
    """Store the files, then wait until the worker has indexed what is new and removed what is withdrawn.

    The worker is started only where it has work.
    """
    report = asyncio.run(store_files(runtime, tenant, folders, labels=labels))
    summary = report.summary
    removed = [*summary.withdrawn_ids, *(status.document_id for status in summary.withheld)]
    if not summary.enqueued_ids and not removed:
        return report  # nothing has to be started: all of it is live already
    with runtime.site(command="assistant knowledge add"):
        asyncio.run(follow_here(runtime, tenant, removed, doing="removing from"))
        return asyncio.run(finished(runtime, tenant, report))


def _show(terminal: Terminal, report: LoadReport) -> None:
    """Print the counts, the first failures by name and line, and what the owner should know."""
    summary = report.summary
    terminal.out.print(
        f"{summary.lines:,} read = {summary.documents:,} documents + {summary.duplicates:,} duplicates "
        f"+ {summary.withdrawn:,} withdrawn + {len(summary.failures):,} failures"
    )
    terminal.out.print(
        f"{summary.documents:,} documents = {summary.added:,} added + {summary.changed:,} changed "
        f"+ {summary.unchanged:,} unchanged"
    )
    terminal.out.print(f"{report.live:,} live, {len(report.failed):,} failed, after {report.seconds:.1f} s")
    failures = report.failure_lines()
    for failure in failures[:_SHOWN_FAILURES]:
        terminal.warn(failure, "red")
    if len(failures) > _SHOWN_FAILURES:
        terminal.err.print(f"… and {len(failures) - _SHOWN_FAILURES:,} more; --json names all", style="red")
    for remark in report.reading.remarks():
        terminal.warn(remark, "yellow")
    if report.left:
        names = first_of([status.document_id for status in report.left], most=SHOWN_NAMES)
        remedy = "they still answer. Withdraw them: assistant knowledge add --prune"
        terminal.warn(f"no file any more of {len(report.left):,} documents ({names}): {remedy}", "yellow")


def _to_prune(terminal: Terminal, report: LoadReport, *, more: bool, yes: bool) -> list[str]:
    """Return the ids of the documents whose files are missing, after confirmation on the terminal. Raises
    ConflictError for more than a third of all, unless ``more``. ``yes``: do not ask."""
    if len(report.left) > _MOST_PRUNED * report.known and not more:
        raise ConflictError(
            f"The files of {len(report.left):,} of {report.known:,} documents have left, more than a third. "
            "Nothing is withdrawn. If that is right, add --prune-more-than-a-third."
        )
    if report.left and not yes:
        _confirm(terminal, report.left)
    return [status.document_id for status in report.left]


def _as_json(report: LoadReport) -> dict[str, object]:
    """Return the report as ``add --json`` prints it."""
    summary = report.summary
    counts = ("lines", "documents", "added", "changed", "unchanged", "duplicates", "withdrawn")
    return {
        **{name: getattr(summary, name) for name in counts},
        "withheld": [item.document_id for item in summary.withheld],
        "live": report.live,
        "seconds": round(report.seconds, 3),
        "skipped": report.reading.skipped,
        "unfilled_tags": report.reading.tags,
        "unread_keys": dict(report.reading.unread_keys),
        "left": [status.document_id for status in report.left],
        "failures": summary.failures,
        "failed_documents": [
            {
                "document_id": status.document_id,
                "state": status.state,
                "code": status.failure_code,
                "reason": status.failure_reason,
            }
            for status in report.failed
        ],
    }


# --- lists ------------------------------------------------------------------------------------------------
def _states(names: Sequence[str]) -> list[DocumentState]:
    """Return the states of these names. Raises ConfigurationError."""
    try:
        return [DocumentState(name) for name in names]
    except ValueError:
        allowed = ", ".join(state.value for state in DocumentState)
        raise ConfigurationError(f"There is no state {', '.join(names)}; states are {allowed}.") from None


def _cells(status: DocumentStatus) -> tuple[str | Text, ...]:
    """Return a row of ``list``: id, source, state, age, title; below the title whether it is in force, and a
    failure's reason."""
    title = plain(status.title)
    if status.in_force_note:
        title.append_text(plain(f"\n{status.in_force_note}", style="yellow"))
    if status.failure_reason:
        title.append_text(plain(f"\n{status.failure_reason}", style="red"))
    state = Text(status.state.value, style=_STYLES.get(status.state, ""))
    since_update = age(datetime.now(UTC) - status.updated_at)
    return plain(status.document_id), status.knowledge_source, state, since_update, title


# --- withdrawal -------------------------------------------------------------------------------------------
def _confirm(terminal: Terminal, statuses: Sequence[DocumentStatus]) -> None:
    """Ask whether these documents shall be withdrawn. Raises typer.Abort for no, ConfigurationError without a
    terminal."""
    if not sys.stdin.isatty():
        raise ConfigurationError("Withdrawing asks before it deletes; without a terminal, add --yes.")
    for status in statuses:
        terminal.warn(f"  {status.document_id}  {status.title}", "")
    typer.confirm("Withdraw and delete their text?", abort=True, err=True)


async def _withdraw(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    """Withdraw documents of this machine, wait until the worker has removed them, and have options remove the
    texts that they keep of them."""
    async with runtime.options.stores(tenant) as stores:
        await WithdrawDocuments(stores.knowledge, clock=SystemClock())(document_ids)
        await follow_here(runtime, tenant, document_ids, doing="removing from")
        for kept in joined(lambda option: option.kept_texts()):
            if kept.remove is not None:
                for document_id in document_ids:
                    await kept.remove(stores, document_id)


def _receipts(options: GlobalOptions, tenant: str, document_ids: Sequence[str]) -> list[WithdrawalReceipt]:
    """Return the receipts of documents in the stores of this machine. Raises NotFoundError, ConflictError."""

    async def make(stores: EmbeddedTenant) -> list[WithdrawalReceipt]:
        config = options.tenant(tenant)
        embedding = config.embedding
        receipts = WithdrawalReceipts(
            tenant=config,
            documents=stores.knowledge.documents,
            versions=stores.passage_index.versions(IndexModel(embedding.model, embedding.dimensions)),
            stores=stores,
            on_aws=False,
            clock=SystemClock(),
        )
        statuses = await stores.get(STATES).get_many(document_ids)
        if missing := [name for name in document_ids if name not in statuses]:
            raise NotFoundError(f"{tenant} has no document {', '.join(missing)}.")
        return [await receipts.of(statuses[document_id]) for document_id in document_ids]

    return options.with_stores(tenant, make)


def _show_receipts(terminal: Terminal, receipts: Sequence[WithdrawalReceipt]) -> None:
    """Print the receipts, each with a row for each place that had the document's text."""
    for receipt in receipts:
        state = "complete" if receipt.is_complete else "not complete yet: ask again"
        terminal.show(f"{receipt.document_id}, withdrawn {receipt.withdrawn_at:%Y-%m-%d %H:%M} UTC: {state}")
        rows = [(place.title, place.state, _until(place), place.what, place.rule) for place in receipt.places]
        terminal.out.print(table("place", "state", "until", "what", "rule", rows=rows))


def _until(place: ReceiptPlace) -> str:
    """Return when a place's copy ends, as text; empty where it is removed already."""
    if place.until is not None:
        return f"{place.until:%Y-%m-%d %H:%M}"
    return "no end date" if place.state == "remains" else ""
