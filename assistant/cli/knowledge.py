"""``assistant knowledge``: loads, lists, moves and withdraws documents, embeds them with another model."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text
from typer import Argument, Option

from assistant.cli.reading_again import ReadingHere, ReadingReport, ReadingThere, read_all
from assistant.client import AssistantClient, NotThereError
from assistant.documents.readable import ListDocuments, pages_of
from assistant.documents.receive import AddSummary
from assistant.documents.reindexing import ReindexReport
from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.documents.withdraw import KEPT_TEXTS, WithdrawalReceipts, WithdrawDocuments
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    IndexModel,
    ReceiptPlace,
    WithdrawalReceipt,
)
from assistant.domain.errors import ConfigurationError, ConflictError, LocalRuntimeError, NotFoundError
from assistant.laptop.layout import models_dir
from assistant.option import Place
from assistant.service.served import open_reindexing
from assistant.stores.documents import STATES
from assistant.tenant.added_models import (
    PACKAGED_EMBEDDING,
    PACKAGED_NAME,
    AddedEmbedding,
    added_models,
    choose_beside,
    keep_live_only,
)
from assistant.terminal.loading import (
    CHECKED,
    SHOWN_NAMES,
    CheckedFiles,
    FileReading,
    LoadReport,
    Looks,
    SourceFolders,
    chosen_folders,
    finished,
    first_names,
    follow,
    follow_here,
    has_left,
    is_whole,
    looks_here,
    store_files,
)
from assistant.terminal.local import LocalRuntime, local_runtime, require_node
from assistant.terminal.sending import OWNER, ServiceTarget
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, age, plain, table

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
for add_commands in Place[Callable[[typer.Typer], None]]("commands of knowledge").joined():
    add_commands(app)
PATHS = "Files, or folders of files in the formats of docs/documents.md. Default: those of the tenant file."
SOURCE = "Name of a source in the tenant file. Default: the one without a namespace."
LABEL = "An access label that you hold; lets you make documents with it readable to more agents."
WAIT = "How long to wait while no file is read. What is not read until then is named."
PRUNE = "Withdraw documents whose file is no longer below the paths of their source."
DRY_RUN = "Say what would be read, skipped and refused, and about how long it takes. Nothing is loaded."
SERVICE = "Send the documents to this service, with the token in ASSISTANT_LOCAL_SERVICE_TOKEN."
READ_BY = "Have this service read its own, with the token in ASSISTANT_LOCAL_SERVICE_TOKEN. Default: here."
RECEIPT = "Show again what was removed, and withdraw nothing."
RECEIPT_SERVICE = (
    "Receipts of this service, with the token in ASSISTANT_LOCAL_SERVICE_TOKEN. Default: this machine."
)
_REINDEX = "assistant knowledge reindex"
_MIB = 1024 * 1024
_SENT_AT_ONCE = 64
_REMOTE_WINDOW = 8
_REMOTE_POLL_S = 0.5
_SHOWN_FAILURES = 100
_MOST_PRUNED = 1 / 3
"""Of a source's documents: more that leave at once are rather a folder that is not there."""
_PAGE = 1000
_EMBEDDED_CHARACTERS_S = 16_000
"""About what two cores embed with the packaged model, 4,000 tokens: docs/benchmarks.md."""
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
    service: Annotated[str | None, Option(metavar="URL", help=SERVICE)] = None,
    prune: Annotated[bool, Option("--prune", help=PRUNE)] = False,
    more: Annotated[bool, Option("--prune-more-than-a-third", help="Also where it is so many.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask before withdrawing.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help=DRY_RUN)] = False,
) -> None:
    """Add documents and wait until each is indexed or failed. Unchanged ones are skipped."""
    options, terminal = GlobalOptions.of(context), Terminal()
    folders, runtime = chosen_folders(options, tenant, source=source, paths=paths or []), None
    if dry_run:
        _show_what_a_load_does(options, terminal, tenant, folders)
        return
    client = None if service is None else options.service_client(service, of=OWNER)
    if client is not None:
        report = asyncio.run(_load_remotely(options, terminal, tenant, folders, client))
    else:
        runtime = local_runtime(options, terminal)
        report = _add_locally(runtime, tenant, folders, labels=label or [])
    if not options.writes(_as_json(report)):
        _show(terminal, report)
    if (prune or more) and (left := _to_prune(terminal, report, more=more, yes=yes)):
        if runtime is not None:
            with runtime.site(command="assistant knowledge add"):
                asyncio.run(_withdraw(runtime, tenant, left))
        elif service is not None:
            options.with_service(service, lambda there: _withdraw_there(there, left), of=OWNER)
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
    from assistant.terminal.pushing import push as push_files

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
                f"skipped, not a format that is read: {first_names(report.skipped, most=SHOWN_NAMES)}",
                "yellow",
            )
    if report.refusals or report.unread:
        raise typer.Exit(1)


def _show_what_a_load_does(
    options: GlobalOptions, terminal: Terminal, tenant: str, folders: Sequence[SourceFolders]
) -> None:
    """Say what a load would read, skip and refuse, and about how long it takes."""
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
        terminal.warn(f"refused, {reason}: {first_names(origins, most=SHOWN_NAMES)}", "red")
    if broken := checked.broken_links():
        named = first_names([f"{file} ({len(each):,})" for file, each in broken.items()], most=SHOWN_NAMES)
        terminal.warn(f"links that lead to no document of the source stay text: {named}", "yellow")
    for remark in reading.remarks():
        terminal.warn(remark, "yellow")


@app.command()
def read_again(
    context: typer.Context,
    tenant: Tenant,
    source: Annotated[str | None, Option(metavar="NAME", help="Only of this source.")] = None,
    service: Annotated[str | None, Option(metavar="URL", help=READ_BY)] = None,
) -> None:
    """Read documents again from what is kept of them, by the readers of this release. The texts before answer
    until the new ones are indexed; run it again after a kill."""
    options, terminal = GlobalOptions.of(context), Terminal()
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)
    if service is None:
        report = _read_again_here(local_runtime(options, terminal), tenant, sources, wanted)
    else:

        async def there(client: AssistantClient) -> ReadingReport:
            return await _read_again(terminal, ReadingThere(client, wanted), _looks_at(client))

        report = options.with_service(service, there, of=OWNER)
    if not options.writes(report):
        counted = f"{report.unchanged:,} with the same words, {len(report.changed):,} with others"
        current = f"{report.current:,} were read by this release before"
        terminal.show(f"Read again in {report.seconds:.1f} s: {counted}; {current}")
        for line in report.lines():
            terminal.warn(line, "yellow")
    if report.refused or report.failed or report.without_original:
        raise typer.Exit(1)


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
        return statuses, await listing.counts(wanted)

    statuses, counts = options.with_stores(tenant, read)
    if options.writes({"documents": statuses, "counts": {**counts}}):
        return
    if statuses:
        headings = ("document", "source", "state", "age", "title")
        terminal.out.print(table(*headings, right=("age",), rows=map(_cells, statuses)))
    counted = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
    terminal.warn(counted or f"{tenant} has no documents yet.")


@app.command()
def reindex(
    context: typer.Context,
    tenant: Annotated[
        str | None, Option("--tenant", metavar="T", help="Name of a tenant file. Default: every tenant.")
    ] = None,
    model: Annotated[
        str | None, Option(metavar="NAME", help="An embedding model: an added one, or all-MiniLM-L6-v2.")
    ] = None,
    back: Annotated[bool, Option("--back", help="Make the index before live again.")] = False,
    drop_old: Annotated[bool, Option("--drop-old", help="Delete the index that is not live.")] = False,
) -> None:
    """Embed the documents with another model beside the live index, and switch to it."""
    if (model is not None) + back + drop_old != 1:
        raise typer.BadParameter("Give one of --model NAME, --back and --drop-old.")
    options, terminal = GlobalOptions.of(context), Terminal()
    tenants = list(options.tenants().tenants) if tenant is None else [options.tenant(tenant).name]
    for name in tenants:
        if drop_old:
            _drop_old(local_runtime(options, terminal), name)
        elif model is not None:
            _reindex_to(options, terminal, name, model)
        else:
            _reindex(local_runtime(options, terminal), name, None)


@app.command()
def withdraw(
    context: typer.Context,
    document_ids: Annotated[list[str], Argument(metavar="ID...")],
    tenant: Tenant,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    receipt: Annotated[bool, Option("--receipt", help=RECEIPT)] = False,
    service: Annotated[str | None, Option(metavar="URL", help=RECEIPT_SERVICE)] = None,
) -> None:
    """Remove documents from the answers and delete their text; say what remains until when by which rule."""
    options, terminal = GlobalOptions.of(context), Terminal()
    if receipt:
        _show_receipts(options, terminal, tenant, document_ids, service)
        return
    if service is not None:
        raise typer.BadParameter("--service is asked for receipts: give --receipt too.")
    runtime = local_runtime(options, terminal)
    statuses = options.with_stores(tenant, lambda stores: stores.get(STATES).get_many(document_ids))
    known = [document_id for document_id in dict.fromkeys(document_ids) if document_id in statuses]
    unknown = [document_id for document_id in document_ids if document_id not in statuses]
    if known and not yes:
        _confirm(terminal, [statuses[document_id] for document_id in known])
    if known:
        with runtime.site(command="assistant knowledge withdraw"):
            asyncio.run(_withdraw(runtime, tenant, known))
    receipts = _local_receipts(options, tenant, known)
    if not options.writes({"withdrawn": known, "unknown": unknown, "receipts": receipts}) and known:
        terminal.show(f"Withdrawn: {', '.join(known)}.")
        for each in receipts:
            _show_receipt(terminal, each)
    if unknown:
        raise NotFoundError(f"{tenant} has no document {', '.join(unknown)}.")


def _show_receipts(
    options: GlobalOptions, terminal: Terminal, tenant: str, ids: Sequence[str], service: str | None
) -> None:
    """Show again what withdrawals removed."""
    if service is None:
        receipts = _local_receipts(options, tenant, ids)
    else:
        options.tenant(tenant)

        async def read(there: AssistantClient) -> list[WithdrawalReceipt]:
            return [await there.withdrawal_receipt(each) for each in ids]

        receipts = options.with_service(service, read, of=OWNER)
    if not options.writes({"receipts": receipts}):
        for each in receipts:
            _show_receipt(terminal, each)


def _add_locally(
    runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders], *, labels: Sequence[str]
) -> LoadReport:
    report = asyncio.run(store_files(runtime, tenant, folders, labels=labels))
    summary = report.summary
    removed = [*summary.withdrawn_ids, *(status.document_id for status in summary.withheld)]
    if not summary.enqueued_ids and not removed:
        return report  # nothing has to be started: all of it is live already
    with runtime.site(command="assistant knowledge add"):
        asyncio.run(follow_here(runtime, tenant, removed, doing="removing from"))
        return asyncio.run(finished(runtime, tenant, report))


def embed_again(options: GlobalOptions, terminal: Terminal, *, tenant: str) -> None:
    """Bring the tenant's documents into the index of the embedding model that was just chosen.

    Starts nothing where the tenant has no documents yet.
    """
    runtime = local_runtime(options, terminal)
    if not options.with_stores(tenant, lambda stores: stores.get(STATES).count_by_state()):
        return
    began_s = time.monotonic()
    with runtime.site(command="assistant models"):
        waiting = options.with_stores(tenant, _unfinished)  # the worker enqueues what its index lacks
        failed = asyncio.run(follow_here(runtime, tenant, waiting))
    seconds = time.monotonic() - began_s
    terminal.say(f"{len(waiting) - len(failed)} documents of {tenant} embedded in {seconds:.1f} s")
    for status in failed:
        terminal.say(f"not embedded: {status.document_id}: {status.failure_reason}")


async def _unfinished(stores: EmbeddedTenant) -> list[str]:
    """Return the ids of the documents that are not indexed yet."""
    unfinished = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
    pages = pages_of(stores.knowledge.states, unfinished)
    return [status.document_id async for page in pages for status in page]


def _read_again_here(
    runtime: LocalRuntime, tenant: str, sources: KnowledgeSources, wanted: Sequence[KnowledgeSource]
) -> ReadingReport:
    async def here(stores: EmbeddedTenant) -> ReadingReport:
        place, looks = ReadingHere(stores, sources, wanted), looks_here(stores.get(STATES))
        return await _read_again(runtime.terminal, place, looks, runtime.check)

    with runtime.site(command="assistant knowledge read-again"):
        return runtime.options.with_stores(tenant, here)


async def _read_again(
    terminal: Terminal,
    place: ReadingHere | ReadingThere,
    looks: Looks,
    check: Callable[[], None] = lambda: None,
) -> ReadingReport:
    began_s = time.monotonic()
    with terminal.counting("reading again", "documents") as show:
        report = await read_all(place, show=show, check=check)
    with terminal.counting("indexing", "documents") as show:
        failed = await follow(report.enqueued, looks, show=show, check=check)
    report.failed = {status.document_id: status.failure_reason for status in failed}
    report.seconds = round(time.monotonic() - began_s, 3)
    return report


def _looks_at(client: AssistantClient) -> Looks:
    """Return how documents of a service elsewhere are looked at."""

    async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
        return await asyncio.gather(*(client.document_status(one) for one in window))

    async def counts() -> Mapping[DocumentState, int]:
        return (await client.list_documents(limit=1)).counts

    return Looks(read, counts, window=_REMOTE_WINDOW, poll_s=_REMOTE_POLL_S)


async def _load_remotely(
    options: GlobalOptions,
    terminal: Terminal,
    tenant: str,
    folders: Sequence[SourceFolders],
    client: AssistantClient,
) -> LoadReport:
    """Send the folders' documents to a service, and follow them. Raises LocalRuntimeError when nothing is
    finished for five minutes, and what the client raises."""
    began_s, reading = time.monotonic(), FileReading.of(options.tenant(tenant))
    summary, known = AddSummary(), list[DocumentStatus]()
    async with client:
        with terminal.counting("sending", "documents") as show:
            for folder in folders:
                target, items = ServiceTarget(client, folder.source), reading.items(folder)
                if is_whole(options, folder):
                    await target.read_known()
                    known += [status for status in target.known if status.origin is not None]
                while batch := await asyncio.to_thread(lambda: list(islice(items, _SENT_AT_ONCE))):  # noqa: B023
                    summary.include(await target.add(batch))
                    show(summary.documents, 0)
        with terminal.counting("loading", "documents") as show:
            ids = list(dict.fromkeys(summary.enqueued_ids))
            failed = await follow(ids, _looks_at(client), show=show)
    left = tuple(status for status in known if has_left(status, reading))
    return LoadReport(summary, failed, time.monotonic() - began_s, reading, left, len(known))


def _show(terminal: Terminal, report: LoadReport) -> None:
    """Print the counts and every failure by name and line."""
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
        names = first_names([status.document_id for status in report.left], most=SHOWN_NAMES)
        remedy = "they still answer. Withdraw them: assistant knowledge add --prune"
        terminal.warn(f"no file any more of {len(report.left):,} documents ({names}): {remedy}", "yellow")


def _to_prune(terminal: Terminal, report: LoadReport, *, more: bool, yes: bool) -> list[str]:
    """Return the documents whose files have left. Raises ConflictError for more than a third of all."""
    if len(report.left) > _MOST_PRUNED * report.known and not more:
        raise ConflictError(
            f"The files of {len(report.left):,} of {report.known:,} documents have left, more than a third. "
            "Nothing is withdrawn. If that is right, add --prune-more-than-a-third."
        )
    if report.left and not yes:
        _confirm(terminal, report.left)
    return [status.document_id for status in report.left]


def _as_json(report: LoadReport) -> dict[str, object]:
    summary = report.summary
    counts = ("lines", "documents", "added", "changed", "unchanged", "duplicates", "withdrawn")
    return {
        **{name: getattr(summary, name) for name in counts},
        "withheld": [one.document_id for one in summary.withheld],
        "live": report.live,
        "seconds": round(report.seconds, 3),
        "skipped": report.reading.skipped,
        "unfilled_tags": report.reading.tags,
        "unread_keys": dict(report.reading.unread_keys),
        "left": [status.document_id for status in report.left],
        "failures": summary.failures,
        "failed_documents": [
            {
                "document_id": each.document_id,
                "state": each.state,
                "code": each.failure_code,
                "reason": each.failure_reason,
            }
            for each in report.failed
        ],
    }


# --- lists ------------------------------------------------------------------------------------------------
def _states(names: Sequence[str]) -> list[DocumentState]:
    try:
        return [DocumentState(name) for name in names]
    except ValueError:
        allowed = ", ".join(state.value for state in DocumentState)
        raise ConfigurationError(f"There is no state {', '.join(names)}; states are {allowed}.") from None


def _cells(status: DocumentStatus) -> tuple[str | Text, ...]:
    title = plain(status.title)
    if status.failure_reason:
        title.append_text(plain(f"\n{status.failure_reason}", style="red"))
    state = Text(status.state.value, style=_STYLES.get(status.state, ""))
    since = age(datetime.now(UTC) - status.updated_at)
    return plain(status.document_id), status.knowledge_source, state, since, title


# --- withdrawal -------------------------------------------------------------------------------------------
def _confirm(terminal: Terminal, statuses: Sequence[DocumentStatus]) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError("Withdrawing asks before it deletes; without a terminal, add --yes.")
    for status in statuses:
        terminal.warn(f"  {status.document_id}  {status.title}", "")
    typer.confirm("Withdraw and delete their text?", abort=True, err=True)


async def _withdraw(runtime: LocalRuntime, tenant: str, document_ids: Sequence[str]) -> None:
    async with runtime.options.stores(tenant) as stores:
        await WithdrawDocuments(stores.knowledge, clock=SystemClock())(document_ids)
        await follow_here(runtime, tenant, document_ids, doing="removing from")
        for kept in KEPT_TEXTS.joined():
            if kept.remove is not None:
                for document_id in document_ids:
                    await kept.remove(stores, document_id)


async def _withdraw_there(client: AssistantClient, document_ids: Sequence[str]) -> None:
    for document_id in document_ids:
        with suppress(NotThereError):
            await client.withdraw_document(document_id)


def _local_receipts(
    options: GlobalOptions, tenant: str, document_ids: Sequence[str]
) -> list[WithdrawalReceipt]:
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


def _show_receipt(terminal: Terminal, receipt: WithdrawalReceipt) -> None:
    state = "complete" if receipt.is_complete else "not complete yet: ask again"
    terminal.show(f"{receipt.document_id}, withdrawn {receipt.withdrawn_at:%Y-%m-%d %H:%M} UTC: {state}")
    rows = [(place.title, place.state, _until(place), place.what, place.rule) for place in receipt.places]
    terminal.out.print(table("place", "state", "until", "what", "rule", rows=rows))


def _until(place: ReceiptPlace) -> str:
    if place.until is not None:
        return f"{place.until:%Y-%m-%d %H:%M}"
    return "no end date" if place.state == "remains" else ""


# --- another embedding model ------------------------------------------------------------------------------
def _reindex_to(options: GlobalOptions, terminal: Terminal, tenant: str, model: str) -> None:
    """Fill an index of the model for the tenant, and make it live; the one before is kept."""
    folder = models_dir(options.state_dir)
    target = _embedding_named(folder, model)
    before = options.local_models([tenant])[tenant]
    if before.embedding != target:
        _refuse_other_index(tenant, before.beside, target)
        _refuse_full_disk(options, tenant)
        choose_beside(folder, tenant, target)
    try:
        _reindex(local_runtime(options, terminal), tenant, model)
    except (ConfigurationError, NotFoundError):
        if before.beside is None:
            keep_live_only(folder, tenant, before.embedding)
        raise


def _reindex(runtime: LocalRuntime, tenant: str, model: str | None) -> None:
    """Make the index of the model live, or with None the one before, after it has caught up; print that."""

    async def switch() -> ReindexReport:
        settings = runtime.layout.worker_settings()
        with runtime.terminal.counting(f"embedding {tenant}", "documents") as show:
            async with open_reindexing(settings, tenant, models=runtime.models) as reindexing:
                if model is None:
                    return await reindexing.back(progress=show)
                return await reindexing.to_model(model, progress=show)

    with runtime.site(command=_REINDEX):
        report = asyncio.run(switch())
    terminal = runtime.terminal
    if runtime.options.writes({"tenant": tenant} | asdict(report)):
        return
    if report.before is None:
        terminal.show(f"{tenant}: {report.live} is live already.")
    else:
        counted = f"{report.documents:,} documents embedded in {report.seconds:.1f} s"
        terminal.show(f"{tenant}: {counted}; {report.live} is live.")
        terminal.say(f"{report.before} is kept, and receives changes: {_REINDEX} --back, or --drop-old")


def _drop_old(runtime: LocalRuntime, tenant: str) -> None:
    """Delete every index of the tenant that is not live, and print which."""

    async def drop() -> tuple[list[str], str]:
        settings = runtime.layout.worker_settings()
        async with open_reindexing(settings, tenant) as reindexing:
            live = await reindexing.live_model()
            if live is None:
                raise ConfigurationError(
                    f"The model of {tenant}'s live index is not known here. Add it again."
                )
            return await reindexing.drop_others(), live

    require_node(runtime.settings)
    terminal, folder = runtime.terminal, models_dir(runtime.options.state_dir)
    with terminal.waiting("waiting until no answer reads the index before"):
        dropped, live = asyncio.run(drop())
    keep_live_only(folder, tenant, _added_embeddings(folder).get(live))
    if not runtime.options.writes({"tenant": tenant, "dropped": dropped, "live_model": live}):
        done = f"Deleted {', '.join(dropped)}." if dropped else "There was no other index."
        terminal.show(f"{tenant}: {done} {live} is live.")


def _added_embeddings(folder: Path) -> dict[str, AddedEmbedding]:
    """Return the added embedding models by name."""
    return {added.name: added for added in added_models(folder) if isinstance(added, AddedEmbedding)}


def _embedding_named(folder: Path, model: str) -> AddedEmbedding | None:
    """Return the added embedding model of a name; None for the packaged one. Raises NotFoundError."""
    if model == PACKAGED_EMBEDDING:
        return None
    there = _added_embeddings(folder)
    if model not in there:
        names = ", ".join((PACKAGED_EMBEDDING, *there))
        raise NotFoundError(
            f"There is no embedding model {model}; there are: {names}. Add one: assistant models add FOLDER."
        )
    return there[model]


def _refuse_other_index(
    tenant: str, beside: AddedEmbedding | str | None, target: AddedEmbedding | None
) -> None:
    name = beside.name if isinstance(beside, AddedEmbedding) else beside
    wanted = PACKAGED_NAME if target is None else target.name
    if name not in (None, wanted):
        raise ConflictError(
            f"{tenant} has an index of {name} beside the live one, to go back to or not whole yet. Go on "
            f"with that one, or delete it: {_REINDEX} --drop-old --tenant {tenant}"
        )


def _refuse_full_disk(options: GlobalOptions, tenant: str) -> None:
    """Raise LocalRuntimeError where a second index of the size of the first does not fit."""
    index = options.state_dir.resolve() / "tenants" / tenant / "index"
    needed = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    free = disk_usage(options.state_dir).free if options.state_dir.exists() else needed
    if free < needed:
        raise LocalRuntimeError(
            f"The disk has {free // _MIB} MiB free, and a second index of {tenant} takes about "
            f"{needed // _MIB} MiB. Make room; nothing was changed."
        )
