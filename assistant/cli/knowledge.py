"""``assistant knowledge``: loads, lists, moves and withdraws documents, and embeds them with another model.

``ask`` and ``demo`` load a tenant's own documents with it.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from shutil import disk_usage
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rapidfuzz.distance import OSA
from rich.text import Text
from typer import Argument, Option

from assistant.cli.reading_again import ReadingHere, ReadingReport, ReadingThere, read_all
from assistant.client import AssistantClient, NotThereError
from assistant.documents.files import (
    SourceDocument,
    SourceFailure,
    SourceItem,
    file_of,
    linked_ids,
    read_sources,
    skipped_files,
)
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
from assistant.documents.readable import ListDocuments, pages_of
from assistant.documents.receipt import KEPT_TEXTS, WithdrawalReceipts
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.reindexing import ReindexReport
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.documents.withdraw import WithdrawDocuments
from assistant.documents.worker import ConsumerLimits
from assistant.domain.clock import SystemClock
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    IndexModel,
)
from assistant.domain.elements import ElementKind
from assistant.domain.errors import (
    ConfigurationError,
    ConflictError,
    DocumentInvalidError,
    LocalRuntimeError,
    NotFoundError,
    ParsingStoppedError,
)
from assistant.domain.paths import canonical_path
from assistant.domain.receipts import ReceiptPlace, WithdrawalReceipt
from assistant.laptop.layout import models_dir
from assistant.option import Place
from assistant.service.served import open_reindexing
from assistant.stores.documents_ports import DocumentStates
from assistant.stores.records import RECORDS
from assistant.stores.states import STATES
from assistant.tenant.added_models import (
    PACKAGED_EMBEDDING,
    PACKAGED_NAME,
    AddedEmbedding,
    added_models,
    choose_beside,
    keep_live_only,
)
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.local import LocalRuntime, has_knowledge, local_runtime, require_node
from assistant.terminal.sending import OWNER, ServiceTarget
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, age, plain, table
from assistant.text.markup import Tag, tags_in

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
for add_commands in Place[Callable[[typer.Typer], None]]("commands of knowledge").joined():
    add_commands(app)
PATHS = "Files, or folders of files in the formats of docs/documents.md. Default: those of the tenant file."
SOURCE = "Name of a source in the tenant file. Default: the one without a namespace."
LABEL = "An access label that you hold; lets you make documents with it readable to more agents."
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
_WRITER = "assistant knowledge"
"""The writer in the records, for every person on this machine."""
_POLL_S = 0.2
_WINDOW = 64
"""Documents whose state is read at once. Few: the worker needs the processor more."""
_STALLED_S = ConsumerLimits().longest_hold_s
"""A load gives up after this time without a change of any document: a worker takes no longer for a batch."""
_REMOTE_WINDOW = 8
_REMOTE_POLL_S = 0.5
_FAILED = frozenset({DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHHELD})
_REMOVED = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_FINAL = _FAILED | {DocumentState.LIVE, DocumentState.WITHDRAWN}
_SHOWN_FAILURES = 100
_SHOWN_REMARKS = 20
_SHOWN_NAMES = 5
_MOST_PRUNED = 1 / 3
"""Of a source's documents: more that leave at once are rather a folder that is not there."""
_PAGE = 1000
_TAG_LIKE = re.compile(r"\{\{[^{}\n]{1,100}\}\}")
"""A tag, or what was meant as one."""
_INCLUDE = re.compile(r"\{[%{]-?[<%]?\s{0,9}include[\w-]{0,30}\s{1,9}([^\s{}%]{1,200})")
"""An include of Jekyll, Hugo or MkDocs, and the file that it names."""
_EMBEDDED_CHARACTERS_S = 16_000
"""About what two cores embed with the packaged model, 4,000 tokens: docs/benchmarks.md."""
_STYLES = {
    DocumentState.LIVE: "green",
    DocumentState.FAILED: "red",
    DocumentState.STALE: "yellow",
    DocumentState.WITHHELD: "red",
    DocumentState.WITHDRAWN: "dim",
}
Show = Callable[[int, int], None]
"""Shows the documents that are done, and all."""


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


def _show_what_a_load_does(
    options: GlobalOptions, terminal: Terminal, tenant: str, folders: Sequence[SourceFolders]
) -> None:
    """Say what a load would read, skip and refuse, and about how long it takes."""
    reading = FileReading.of(options.tenant(tenant))
    checked = CheckedFiles()
    for folder in folders:
        checked.read(folder, reading)
    for name in reading.skipped:
        checked.kinds[_kind(name)]["skipped"] += 1
    if options.writes(checked.as_json(reading)):
        return
    rows = [
        (kind, *(f"{counts[state]:,}" for state in _CHECKED))
        for kind, counts in sorted(checked.kinds.items())
    ]
    terminal.out.print(table("kind", *_CHECKED, right=_CHECKED, rows=rows))
    minutes = checked.characters / _EMBEDDED_CHARACTERS_S / 60
    terminal.out.print(
        f"{checked.characters:,} characters: about {max(1, round(minutes)):,} min until all of them answer, "
        "on two cores"
    )
    for reason, origins in checked.refused.items():
        terminal.warn(f"refused, {reason}: {first_names(origins, most=_SHOWN_NAMES)}", "red")
    if broken := checked.broken_links():
        named = first_names([f"{file} ({len(each):,})" for file, each in broken.items()], most=_SHOWN_NAMES)
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


# --- what is loaded ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SourceFolders:
    """Files and folders that are loaded into one source."""

    source: KnowledgeSource
    paths: tuple[Path, ...]


def chosen_folders(
    options: GlobalOptions, tenant: str, *, source: str | None, paths: Sequence[Path]
) -> list[SourceFolders]:
    """Return what to load: the paths, or those of the tenant file, for one source or for all.

    Raises NotFoundError for a source or a path that does not exist, before anything is started;
    SourceNeededError; ConfigurationError where no path is named.
    """
    if paths:
        named = KnowledgeSources.of(options.tenant(tenant)).named(source)
        _refuse_other_roots(options, named, paths)
        chosen = [SourceFolders(named, tuple(paths))]
    else:
        chosen = own_folders(options, tenant, source=source)
    if not chosen:
        raise ConfigurationError(
            f"{options.tenants_dir / tenant}.toml names no paths for {source or 'any source'}; name a PATH, "
            "or add paths to a [[sources]] entry there."
        )
    check_paths(chosen)
    return chosen


def _refuse_other_roots(options: GlobalOptions, source: KnowledgeSource, paths: Sequence[Path]) -> None:
    """Raise ConfigurationError where files would be below another folder than under the source's own paths:
    they would get its labels."""
    roots = {(options.tenants_dir / path).resolve() for path in source.entry.paths}
    others = [str(path) for path in paths if path.resolve() not in roots]
    if source.entry.access == "folder" and roots and others:
        raise ConfigurationError(
            f'The labels of the source "{source.name}" come from folders below its paths, so {others[0]} '
            f"cannot be read alone. Name {', '.join(map(str, sorted(roots)))}; unchanged documents are only "
            "compared."
        )


def own_folders(options: GlobalOptions, tenant: str, *, source: str | None = None) -> list[SourceFolders]:
    """Return the paths of the tenant file, of all its sources or of one; they are relative to the file.

    Raises NotFoundError for one that does not exist.
    """
    sources = KnowledgeSources.of(options.tenant(tenant))
    wanted = sources.all if source is None else (sources.named(source),)
    folders = [
        SourceFolders(source, tuple(options.tenants_dir / path for path in source.entry.paths))
        for source in wanted
        if source.entry.paths
    ]
    check_paths(folders)
    return folders


@dataclass(frozen=True, slots=True)
class FileReading:
    """Reads the files of one load, and remembers what their owner should know though nothing failed."""

    elements: Mapping[str, ElementKind] = field(default_factory=dict[str, ElementKind])
    """The tenant's live elements: ``orders.status`` = its kind."""
    skipped: list[str] = field(default_factory=list[str])
    """Files of a kind that is not read."""
    tags: list[str] = field(default_factory=list[str])
    """By document, tags that nothing fills: agents see them as they are written."""
    includes: list[str] = field(default_factory=list[str])
    """By document, files that its template would put into it: they are not read there."""
    unread_keys: Counter[str] = field(default_factory=Counter[str])
    """Keys of documents that are not read, and in how many documents each is."""
    unread: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Files, each with what of it was not read: scanned pages, hidden sheets, macros."""
    ids: set[str] = field(default_factory=set[str])
    """Of the documents that the files hold, also of those that are refused or withdrawn."""
    unclear: set[str] = field(default_factory=set[str])
    """Canonical paths of refused files whose documents are not known."""

    @classmethod
    def of(cls, tenant: TenantConfig) -> FileReading:
        return cls(
            {f"{entry.name}.{name}": kind for entry in tenant.reach for name, kind in entry.elements.items()}
        )

    def items(self, folder: SourceFolders) -> Iterator[SourceItem]:
        """Yield the items of one source's files. Raises as ``read_sources``."""
        self.skipped.extend(skipped_files(folder.paths))
        for item in read_sources(folder.paths, ocr=folder.source.entry.recognised):
            if isinstance(item, SourceDocument):
                self.unread.extend((item.origin, note) for note in item.notes)
                self.tags.extend(f"{item.origin}: {said}" for said in self._unfilled(item, folder.source))
                named = dict.fromkeys(_INCLUDE.findall(item.document.content))
                self.includes.extend(f"{item.origin}: {name}" for name in named)
                is_line = file_of(item.origin) != item.origin  # a line with an unknown key is refused
                if item.document.media_type != "text/html" and not is_line:  # a head is for browsers
                    self.unread_keys.update(list(item.metadata))
            own_id = item.document.document_id if isinstance(item, SourceDocument) else item.own_id
            if own_id is not None:
                self.ids.add(folder.source.id_prefix + own_id)
            if own_id is None or (isinstance(item, SourceFailure) and item.is_named_by_file):
                self.unclear.add(canonical_path(file_of(item.origin) or ""))
            yield item

    def remarks(self) -> list[str]:
        """Return what to tell the owner, one line each, a bounded number."""
        keys = [f"{key} ({count:,})" for key, count in self.unread_keys.most_common()]
        named = {
            "skipped, not a format that is read": self.skipped,
            "keys that are not read": keys,
            "files that a template would include are not read there": self.includes,
        }
        lines = [f"{what}: {first_names(names, most=_SHOWN_NAMES)}" for what, names in named.items() if names]
        kinds = (
            (self._unread(), "parts of files that were not read"),
            (self.tags, "tags that nothing fills"),
        )
        for remarks, name in kinds:
            lines += remarks[:_SHOWN_REMARKS]
            if len(remarks) > _SHOWN_REMARKS:
                lines.append(f"… and {len(remarks) - _SHOWN_REMARKS:,} more {name}")
        return lines

    def _unread(self) -> list[str]:
        """Return a line for each kind of part that was not read, with its words and files."""
        words = defaultdict[str, Counter[str]](Counter)
        for origin, note in self.unread:
            what, _, count = note.rpartition(": ")
            is_counted = count.replace(",", "").isdecimal()
            words[what if is_counted else note][origin] += int(count.replace(",", "")) if is_counted else 0
        lines: list[str] = []
        for what, files in words.items():
            said = f"{what}: {files.total():,}" if files.total() else what
            several = f"{said} in {len(files):,} files: {first_names(list(files), most=_SHOWN_NAMES)}"
            lines.append(f"{next(iter(files))}: {said}" if len(files) == 1 else several)
        return lines

    def _unfilled(self, item: SourceDocument, source: KnowledgeSource) -> Iterator[str]:
        """Yield why tags of a document stay text, each tag once."""
        for written in dict.fromkeys(_TAG_LIKE.findall(item.document.content)):
            tag = next((part for part in tags_in(written, lambda _: True) if isinstance(part, Tag)), None)
            kind = None if tag is None else self.elements.get(tag.name)
            if not source.entry.elements:
                if kind is not None:  # other braces are a template's
                    yield f'{written} leaves the text: the source "{source.name}" has no elements = true'
            elif tag is None or kind is None:
                yield f"{written} names no live element and stays text; {self._names_near(written)}"
            elif tag.kind not in (None, kind):
                yield f"{written} stays text: {tag.name} is a {kind}. Write {{{{{tag.name}}}}}"

    def _names_near(self, written: str) -> str:
        if not self.elements:
            return "this tenant has none"
        name = written.strip("{} ").rpartition(" ")[2].casefold()
        near = sorted(self.elements, key=lambda one: (OSA.distance(name, one), one))
        return f"there are {first_names(near, most=_SHOWN_NAMES)}"


def first_names(names: Sequence[str], *, most: int) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


_CHECKED = ("read", "refused", "skipped")


@dataclass(slots=True)
class CheckedFiles:
    """What a load of files would do."""

    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter[str]))
    """By kind of file: how many documents would be read or refused, how many files skipped."""
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list[str]))
    """By reason: where it stands."""
    characters: int = 0
    """Of all documents that would be read."""
    _ids: set[str] = field(default_factory=set[str])
    _linked: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """Of each link the document, its file, and the address."""

    def read(self, folder: SourceFolders, reading: FileReading) -> None:
        """Count the files of one source, with their bodies parsed as a load does. Raises as
        ``read_sources``."""
        asked: deque[tuple[str, Document]] = deque()

        def bodies() -> Iterator[ParsingRequest]:
            for item in reading.items(folder):
                document, reason = _taken(item, folder.source)
                if document is None or document.media_type == "text/plain":
                    self._count(item.origin, document, reason)
                    continue
                asked.append((item.origin, document))
                yield ParsingRequest("body", {}, document.model_dump_json().encode())

        with ParsingProcess() as parsing:
            for answer in parsing.run(bodies()):
                origin, document = asked.popleft()
                told = answer.message if isinstance(answer, ParsingStoppedError) else orjson.loads(answer)
                if isinstance(told, str):  # begins with the document's id
                    self._count(origin, document, told.rpartition(": ")[2].rstrip("."))
                else:
                    self._count(origin, document, None)
                    self._linked += ((document.document_id, origin, address) for address in told)

    def _count(self, origin: str, document: Document | None, reason: str | None) -> None:
        self.kinds[_kind(file_of(origin) or "")]["read" if reason is None else "refused"] += 1
        if reason is not None:
            self.refused[reason].append(origin)
        elif document is not None:
            self.characters += len(document.content)
            self._ids.add(document.document_id)

    def broken_links(self) -> dict[str, list[str]]:
        """Return by file the addresses in its source that lead to no document."""
        broken: dict[str, list[str]] = defaultdict(list)
        for document_id, origin, address in dict.fromkeys(self._linked):
            ids = list(linked_ids(address, document_id=document_id, origin=origin))
            if ids and self._ids.isdisjoint(ids):
                broken[origin].append(address)
        return broken

    def as_json(self, reading: FileReading) -> dict[str, object]:
        return {
            "kinds": {
                kind: {state: counts[state] for state in _CHECKED} for kind, counts in self.kinds.items()
            },
            "characters": self.characters,
            "refused": self.refused,
            "broken_links": self.broken_links(),
            "skipped": reading.skipped,
            "includes": reading.includes,
            "unread_keys": dict(reading.unread_keys),
        }


def _taken(item: SourceItem, source: KnowledgeSource) -> tuple[Document | None, str | None]:
    """Return the document that a load would store, or why it would refuse the item; neither for a
    withdrawal."""
    if not isinstance(item, SourceDocument):
        return None, item.reason if isinstance(item, SourceFailure) else None
    try:
        return source.as_tenant_document(item), None
    except DocumentInvalidError as error:
        return None, error.message


def _kind(name: str) -> str:
    """Return a file's ending, in small letters."""
    return PurePosixPath(name).suffix.lower() or "(none)"


def check_paths(folders: Sequence[SourceFolders]) -> None:
    """Raise NotFoundError for paths that do not exist."""
    missing = [str(path) for folder in folders for path in folder.paths if not path.exists()]
    if missing:
        raise NotFoundError(f"There is no such file or folder: {', '.join(missing)}.")


# --- loading ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of one load."""

    summary: AddSummary
    failed: tuple[DocumentStatus, ...]
    """Documents that were stored and then could not be indexed."""
    seconds: float
    reading: FileReading = field(default_factory=FileReading)
    left: tuple[DocumentStatus, ...] = ()
    """Documents of the sources that were loaded whole whose file is not there any more. They still answer."""
    known: int = 0
    """Documents of these sources."""

    @property
    def live(self) -> int:
        """Documents of this load that answer with their newest content."""
        return self.summary.documents - len(self.failed)

    @property
    def has_failures(self) -> bool:
        return bool(self.summary.failures or self.failed)

    def failure_lines(self) -> list[str]:
        """Return one line for each failure, by name and line."""
        summary = self.summary
        return [
            *(f"{failure.origin}: {failure.reason} ({failure.code})" for failure in summary.failures),
            *(f"{one.document_id}: {one.failure_reason} ({one.failure_code})" for one in self.failed),
            *(
                f"{one.document_id}: withheld; it answers again once it is sent again"
                for one in summary.withheld
            ),
        ]

    def remarks(self) -> list[str]:
        """Return what the owner should know, one line each."""
        failures = [f"not loaded: {failure}" for failure in self.failure_lines()]
        return [*failures, *self.reading.remarks()]


def _add_locally(
    runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders], *, labels: Sequence[str]
) -> LoadReport:
    report = asyncio.run(_store(runtime, tenant, folders, labels=labels))
    summary = report.summary
    removed = [*summary.withdrawn_ids, *(status.document_id for status in summary.withheld)]
    if not summary.enqueued_ids and not removed:
        return report  # nothing has to be started: all of it is live already
    with runtime.site(command="assistant knowledge add"):
        asyncio.run(_follow_local(runtime, tenant, removed, doing="removing from"))
        return asyncio.run(_finished(runtime, tenant, report))


async def load(runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders]) -> LoadReport:
    """Load the folders, with a progress bar until all documents are live. The worker must run.

    Raises LocalRuntimeError when the worker ends or finishes nothing.
    """
    return await _finished(runtime, tenant, await _store(runtime, tenant, folders))


async def _finished(runtime: LocalRuntime, tenant: str, report: LoadReport) -> LoadReport:
    began_s = time.monotonic()
    failed = await _follow_local(runtime, tenant, report.summary.enqueued_ids)
    return replace(report, failed=failed, seconds=report.seconds + time.monotonic() - began_s)


async def _store(
    runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders], *, labels: Sequence[str] = ()
) -> LoadReport:
    """Store what is new or changed and enqueue it for the worker, which need not run."""
    began_s, total = time.monotonic(), AddSummary()
    reading = FileReading.of(runtime.options.tenant(tenant))
    writer = Writer(_WRITER, frozenset(labels), releases=True)
    async with runtime.options.stores(tenant) as stores:
        with runtime.terminal.counting(f"reading for {tenant}", "documents") as show:
            add = AddDocuments(stores.knowledge, clock=SystemClock(), accesses=stores.get(RECORDS))
            for folder in folders:
                before = total.lines

                def progress(so_far: AddSummary, before: int = before) -> None:
                    show(before + so_far.lines, 0)

                items = reading.items(folder)
                total.include(await add(items, source=folder.source, writer=writer, progress=progress))
        whole = [folder.source for folder in folders if _is_whole(runtime.options, folder)]
        known = [status for source in whole for status in await _of_files(stores.knowledge.states, source)]
        left = tuple(status for status in known if _has_left(status, reading))
    return LoadReport(total, (), time.monotonic() - began_s, reading, left, len(known))


def _is_whole(options: GlobalOptions, folder: SourceFolders) -> bool:
    """Return whether all paths of a source were loaded: only then a file that is missing has left."""
    paths = {path.resolve() for path in folder.paths}
    return {(options.tenants_dir / path).resolve() for path in folder.source.entry.paths} == paths


async def _of_files(states: DocumentStates, source: KnowledgeSource) -> list[DocumentStatus]:
    """Return the documents of a source that came from a file and are not withdrawn."""
    pages = (page for ids in source.id_ranges async for page in pages_of(states, ids=ids))
    return [
        status
        async for page in pages
        for status in page
        if status.origin is not None and status.state is not DocumentState.WITHDRAWN
    ]


def _has_left(status: DocumentStatus, reading: FileReading) -> bool:
    """Return whether no file of the load holds the document, and none may hold it."""
    return (
        status.document_id not in reading.ids and canonical_path(status.origin or "") not in reading.unclear
    )


async def _follow_local(
    runtime: LocalRuntime, tenant: str, document_ids: Sequence[str], *, doing: str = "loading"
) -> tuple[DocumentStatus, ...]:
    """Wait for the worker, with a progress bar; return the documents that failed."""
    async with runtime.options.stores(tenant) as stores:
        with runtime.terminal.counting(f"{doing} {tenant}", "documents") as show:
            looks = looks_here(stores.knowledge.states)
            return await follow(document_ids, looks, show=show, check=runtime.check)


async def load_if_empty(runtime: LocalRuntime, tenant: str) -> None:
    """Load the tenant file's own knowledge when no document of the tenant is indexed yet."""
    async with runtime.options.stores(tenant) as stores:
        if await has_knowledge(stores.knowledge):
            return
    folders = own_folders(runtime.options, tenant)
    if not folders:
        runtime.terminal.say(
            f"{tenant} has no knowledge yet: add some with assistant knowledge add --tenant {tenant} PATH"
        )
        return
    report = await load(runtime, tenant, folders)
    runtime.terminal.say(f"{report.live} documents of {tenant} loaded in {report.seconds:.1f} s")
    for remark in report.remarks():
        runtime.terminal.say(remark)


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
        failed = asyncio.run(_follow_local(runtime, tenant, waiting))
    seconds = time.monotonic() - began_s
    terminal.say(f"{len(waiting) - len(failed)} documents of {tenant} embedded in {seconds:.1f} s")
    for status in failed:
        terminal.say(f"not embedded: {status.document_id}: {status.failure_reason}")


async def _unfinished(stores: EmbeddedTenant) -> list[str]:
    """Return the ids of the documents that are not indexed yet."""
    unfinished = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
    pages = pages_of(stores.knowledge.states, unfinished)
    return [status.document_id async for page in pages for status in page]


@dataclass(frozen=True, slots=True)
class Looks:
    """How the documents of a load are looked at."""

    read: Callable[[Sequence[str]], Awaitable[Iterable[DocumentStatus]]]
    counts: Callable[[], Awaitable[Mapping[DocumentState, int]]]
    """Counts all documents of the tenant by state: those before the load's own in the queue move too."""
    window: int
    """Documents whose state is read at once."""
    poll_s: float


async def follow(
    document_ids: Sequence[str], looks: Looks, *, show: Show, check: Callable[[], None] = lambda: None
) -> tuple[DocumentStatus, ...]:
    """Poll a window of the pending documents until all are finished; return those that failed.

    Documents are finished about in the order they came. Where all of a window stay unfinished (they are tried
    again later), the next window is behind them. ``check`` raises to end the wait. Raises LocalRuntimeError
    when no document of the tenant changed its state for 30 minutes; the rest stays in the queue.
    """
    pending = deque(document_ids)
    failed: list[DocumentStatus] = []
    moved_s, counts = time.monotonic(), dict[DocumentState, int]()
    while pending:
        show(len(document_ids) - len(pending), len(document_ids))
        asked = [pending.popleft() for _ in range(min(looks.window, len(pending)))]
        finished = {
            status.document_id: status for status in await looks.read(asked) if status.state in _FINAL
        }
        left = [document_id for document_id in asked if document_id not in finished]
        failed += [status for status in finished.values() if status.state in _FAILED]
        if finished:
            pending.extendleft(reversed(left))
            moved_s = time.monotonic()
        else:
            pending.extend(left)
            if (now := dict(await looks.counts())) != counts:
                moved_s, counts = time.monotonic(), now
            check()
            if time.monotonic() - moved_s > _STALLED_S:
                raise LocalRuntimeError(
                    f"The worker moved no document for {_STALLED_S:.0f} s, and {len(pending)} wait. See its "
                    "log. They stay queued: run the command again."
                )
            await asyncio.sleep(looks.poll_s)
    show(len(document_ids), len(document_ids))
    return tuple(failed)


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


def looks_here(states: DocumentStates) -> Looks:
    async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
        found = (await states.get_many(window)).values()
        return [status for status in found if status.state not in _REMOVED or not status.live_content_hash]

    return Looks(read, states.count_by_state, window=_WINDOW, poll_s=_POLL_S)


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
                if _is_whole(options, folder):
                    await target.read_known()
                    known += [status for status in target.known if status.origin is not None]
                while batch := await asyncio.to_thread(lambda: list(islice(items, _WINDOW))):  # noqa: B023
                    summary.include(await target.add(batch))
                    show(summary.documents, 0)
        with terminal.counting("loading", "documents") as show:
            ids = list(dict.fromkeys(summary.enqueued_ids))
            failed = await follow(ids, _looks_at(client), show=show)
    left = tuple(status for status in known if _has_left(status, reading))
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
        names = first_names([status.document_id for status in report.left], most=_SHOWN_NAMES)
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
        await _follow_local(runtime, tenant, document_ids, doing="removing from")
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
