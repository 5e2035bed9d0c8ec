"""Loads the files of a tenant's sources on this machine, and follows its documents until they are live."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter

from assistant.documents.files import (
    UNSHOWN_KEYS,
    SourceDocument,
    SourceFailure,
    SourceItem,
    file_of,
    read_sources,
    skipped_files,
)
from assistant.documents.page import first_of
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest, read_answer
from assistant.documents.readable import pages_of
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.documents.worker import ConsumerLimits
from assistant.domain import errors
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.domain.live import ElementKind
from assistant.domain.paths import canonical_path
from assistant.stores.documents import StoredStates
from assistant.stores.records import RECORDS
from assistant.tenant.deployment import ReachTable
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.local import LocalRuntime, has_knowledge, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal
from assistant.text.editions import says_in_force
from assistant.text.markup import Tag, tags_in

_WRITER = "assistant knowledge"
"""The writer in the records, for every person on this machine."""
# The parser's answer for a body: addresses of its links, or why it is refused
_LINKS_OR_REASON = TypeAdapter[list[str] | str](list[str] | str)
_POLL_S = 0.2
_WINDOW = 64
"""Documents whose state is read at once: few, since the worker needs the processor more."""
_STALLED_S = ConsumerLimits().longest_hold_s
"""A load gives up after this time without a change of any document: a worker takes no longer for a batch."""
# What ``follow`` makes of a document's state, with ``looks_here``. ``looks_there`` does not read
# ``live_content_hash``: at a service elsewhere all of withheld and withdrawn are finished.
#
# | state                      | live_content_hash               | follow           |
# | received, parsed, embedded | any                             | waits            |
# | live                       | the newest content              | finished         |
# | failed                     | None                            | finished, failed |
# | stale                      | an older content, which answers | finished, failed |
# | withheld, withdrawn        | set: still to be removed        | waits            |
# | withheld                   | None: not in the index          | finished, failed |
# | withdrawn                  | None: not in the index          | finished         |
_FAILED = frozenset({DocumentState.FAILED, DocumentState.STALE, DocumentState.WITHHELD})
_REMOVED = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_FINAL = _FAILED | {DocumentState.LIVE, DocumentState.WITHDRAWN}
_SHOWN_REMARKS = 20
"""Remarks of one kind that are shown."""
SHOWN_NAMES = 5
"""Names that a remark lists."""
_TAG_LIKE = re.compile(r"\{\{[^{}\n]{1,100}\}\}")
"""A tag of a live element, or what may be meant as one: ``{{orders.status}}``."""
Show = Callable[[int, int], None]
"""Shows progress: (documents done, all documents; 0: unknown)."""
CHECKED = ("read", "withdrawn", "refused", "skipped")
"""What a load may do with a file or document, in the order of the table's columns."""


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
        raise errors.ConfigurationError(
            f"{options.tenants_dir / tenant}.toml names no paths for {source or 'any source'}; name a PATH, "
            "or add paths to a [[sources]] entry there."
        )
    check_paths(chosen)
    return chosen


def _refuse_other_roots(options: GlobalOptions, source: KnowledgeSource, paths: Sequence[Path]) -> None:
    """Raise ConfigurationError for paths other than the source's, where labels come from folders below these:
    the files would get the labels of another folder."""
    roots = {(options.tenants_dir / path).resolve() for path in source.entry.paths}
    others = [str(path) for path in paths if path.resolve() not in roots]
    if source.entry.access == "folder" and roots and others:
        raise errors.ConfigurationError(
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
    """Reads the files of one load, and collects what their owner should know though nothing failed.

    Call ``items`` for each source, and read it to its end: it fills the collections below while it is read
    (the class is frozen, they are not). ``remarks``, and ``ids`` and ``unclear`` for ``_has_left``, are
    complete after the last source.
    """

    elements: Mapping[str, ElementKind] = field(default_factory=dict[str, ElementKind])
    """The tenant's live elements: ``orders.status`` = its kind."""
    skipped: list[str] = field(default_factory=list[str])
    """Files of a kind that is not read."""
    tags: list[str] = field(default_factory=list[str])
    """``ORIGIN: reason`` for each tag that nothing fills: agents see it as it is written."""
    unread_keys: Counter[str] = field(default_factory=Counter[str])
    """Keys in heads of documents that nothing reads = number of documents with it: {"author": 12}."""
    unread: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """(file, part of it that was not read): ``("contract.docx", "struck words (page 3): 4")``."""
    ids: set[str] = field(default_factory=set[str])
    """Tenant-wide ids of the documents in the files, also of those that are refused or withdrawn."""
    unclear: set[str] = field(default_factory=set[str])
    """Canonical paths of refused files whose documents are not known, or only guessed from the file's name:
    "fees.md" with a broken head may be the document "fees", or one whose id was in the head."""

    @classmethod
    def of(cls, tenant: TenantConfig) -> FileReading:
        """Return the reading of a tenant's files, with nothing collected yet."""
        return cls(
            {
                f"{entry.name}.{name}": kind
                for entry in tenant.reach
                for table in entry.option_tables(ReachTable)
                for name, kind in table.elements.items()
            }
        )

    def items(self, folder: SourceFolders) -> Iterator[SourceItem]:
        """Yield the items of one source's files. Raises as ``read_sources``."""
        self.skipped.extend(skipped_files(folder.paths))
        for item in read_sources(folder.paths, ocr=folder.source.entry.recognised):
            if isinstance(item, SourceDocument):
                self.unread.extend((item.origin, str(loss)) for loss in item.losses)
                self.tags.extend(f"{item.origin}: {reason}" for reason in self._unfilled(item, folder.source))
                is_line = file_of(item.origin) != item.origin  # "faq.jsonl:12"
                # The head of an HTML page is for browsers.
                if item.document.media_type != "text/html" or is_line:
                    self.unread_keys.update(
                        key
                        for key in item.metadata
                        if key not in (*UNSHOWN_KEYS, *item.shown) and not says_in_force(key)
                    )
            own_id = item.document.document_id if isinstance(item, SourceDocument) else item.own_id
            if own_id is not None:
                self.ids.add(folder.source.id_prefix + own_id)
            if own_id is None or (isinstance(item, SourceFailure) and item.is_named_by_file):
                self.unclear.add(canonical_path(file_of(item.origin) or ""))
            yield item

    def remarks(self) -> list[str]:
        """Return a bounded number of lines on what was collected."""
        keys = [f"{key} ({count:,})" for key, count in self.unread_keys.most_common()]
        named = {
            "skipped, not a format that is read": self.skipped,
            "keys that are not read": keys,
        }
        lines = [f"{what}: {first_of(names, most=SHOWN_NAMES)}" for what, names in named.items() if names]
        kinds = (
            (self._unread_lines(), "parts of files that were not read"),
            (self.tags, "tags that nothing fills"),
        )
        for remarks, name in kinds:
            lines += remarks[:_SHOWN_REMARKS]
            if len(remarks) > _SHOWN_REMARKS:
                lines.append(f"… and {len(remarks) - _SHOWN_REMARKS:,} more {name}")
        return lines

    def _unread_lines(self) -> list[str]:
        """Return a line for each kind of part in ``unread``: "older quoted words: 120 in 3 files: a.eml,
        b.eml, c.eml". A note is "PART: NUMBER", whose numbers are added up, or has no number."""
        words = defaultdict[str, Counter[str]](Counter)
        for origin, note in self.unread:
            part, _, count = note.rpartition(": ")
            is_counted = count.replace(",", "").isdecimal()
            words[part if is_counted else note][origin] += int(count.replace(",", "")) if is_counted else 0
        lines: list[str] = []
        for part, files in words.items():
            counted = f"{part}: {files.total():,}" if files.total() else part
            in_several = f"{counted} in {len(files):,} files: {first_of(list(files), most=SHOWN_NAMES)}"
            lines.append(f"{next(iter(files))}: {counted}" if len(files) == 1 else in_several)
        return lines

    def _unfilled(self, item: SourceDocument, source: KnowledgeSource) -> Iterator[str]:
        """Yield for each tag of a document that stays text, why."""
        for written in dict.fromkeys(_TAG_LIKE.findall(item.document.content)):
            tag = next((part for part in tags_in(written, lambda _: True) if isinstance(part, Tag)), None)
            kind = None if tag is None else self.elements.get(tag.name)
            if not source.entry.elements:
                if kind is not None:  # other braces belong to a template
                    yield f'{written} leaves the text: the source "{source.name}" has no elements = true'
            elif tag is None or kind is None:
                names = first_of(sorted(self.elements), most=SHOWN_NAMES)
                others = f"there are {names}" if names else "this tenant has none"
                yield f"{written} names no live element and stays text; {others}"
            elif tag.kind not in (None, kind):
                yield f"{written} stays text: {tag.name} is a {kind}. Write {{{{{tag.name}}}}}"


@dataclass(slots=True)
class CheckedFiles:
    """What a load of files would do."""

    kinds: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter[str]))
    """By kind of file: how many documents would be read, withdrawn or refused, how many files skipped."""
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list[str]))
    """Reason = origins of the documents that would be refused for it."""
    characters: int = 0
    """Of all documents that would be read."""

    def read(self, folder: SourceFolders, reading: FileReading) -> None:
        """Count the files of one source, with their bodies parsed as a load does. Raises as
        ``read_sources``."""
        sent: deque[tuple[str, Document]] = deque()

        def bodies() -> Iterator[ParsingRequest]:
            for item in reading.items(folder):
                document, reason = _taken(item, folder.source)
                if document is None or document.media_type == "text/plain":
                    self._count(item.origin, document, reason)
                    continue
                sent.append((item.origin, document))
                yield ParsingRequest("body", {}, document.model_dump_json().encode())

        with ParsingProcess() as parsing:
            for answer in parsing.run(bodies()):
                origin, document = sent.popleft()
                match read_answer(_LINKS_OR_REASON, answer):
                    case list():
                        self._count(origin, document, None)
                    case refusal:
                        # The parser's reason, or the error of one that stopped. ``parse_document`` says
                        # "wiki:fees: there is no text in it.": the reasons of several documents are counted
                        # together, so the id and the full stop are cut off.
                        message = refusal if isinstance(refusal, str) else refusal.message
                        self._count(origin, document, message.rpartition(": ")[2].rstrip("."))

    def skip(self, name: str) -> None:
        """Count a file that is not read."""
        self.kinds[_kind(name)]["skipped"] += 1

    def _count(self, origin: str, document: Document | None, reason: str | None) -> None:
        """Count a document that would be read, or refused for a reason; a withdrawal has neither."""
        state = "refused" if reason is not None else "withdrawn" if document is None else "read"
        self.kinds[_kind(file_of(origin) or "")][state] += 1
        if reason is not None:
            self.refused[reason].append(origin)
        elif document is not None:
            self.characters += len(document.content)

    def as_json(self, reading: FileReading) -> dict[str, object]:
        """Return what ``knowledge add --dry-run --json`` prints."""
        return {
            "kinds": {
                kind: {state: counts[state] for state in CHECKED} for kind, counts in self.kinds.items()
            },
            "characters": self.characters,
            "refused": self.refused,
            "skipped": reading.skipped,
            "unread_keys": dict(reading.unread_keys),
        }


def _taken(item: SourceItem, source: KnowledgeSource) -> tuple[Document | None, str | None]:
    """Return the document that a load would store, or why it would refuse the item; neither for a
    withdrawal."""
    if not isinstance(item, SourceDocument):
        return None, item.reason if isinstance(item, SourceFailure) else None
    try:
        return source.as_tenant_document(item), None
    except errors.DocumentInvalidError as error:
        return None, error.message


def _kind(name: str) -> str:
    """Return a file's ending in lower case: ".pdf"."""
    return PurePosixPath(name).suffix.lower() or "(none)"


def check_paths(folders: Sequence[SourceFolders]) -> None:
    """Raise NotFoundError for paths that do not exist."""
    missing = [str(path) for folder in folders for path in folder.paths if not path.exists()]
    if missing:
        raise errors.NotFoundError(f"There is no such file or folder: {', '.join(missing)}.")


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The result of one load."""

    summary: AddSummary
    failed: tuple[DocumentStatus, ...]
    """Documents that were stored and then could not be indexed."""
    seconds: float
    reading: FileReading = field(default_factory=FileReading)
    left: tuple[DocumentStatus, ...] = ()
    """Documents whose file is missing, of sources that were loaded completely. They still answer."""
    known: int = 0
    """All documents of those sources that came from files."""

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
            *(f"{each.document_id}: {each.failure_reason} ({each.failure_code})" for each in self.failed),
            *(
                f"{each.document_id}: withheld; it answers again once it is sent again"
                for each in summary.withheld
            ),
        ]

    def remarks(self) -> list[str]:
        """Return what the owner should know, one line each."""
        failures = [f"not loaded: {failure}" for failure in self.failure_lines()]
        return [*failures, *self.reading.remarks()]


async def load(runtime: LocalRuntime, tenant: str, folders: Sequence[SourceFolders]) -> LoadReport:
    """Load the folders, with a progress bar until all documents are live. The worker must run.

    Raises LocalRuntimeError when the worker ends or finishes nothing.
    """
    return await finished(runtime, tenant, await store_files(runtime, tenant, folders))


async def finished(runtime: LocalRuntime, tenant: str, report: LoadReport) -> LoadReport:
    """Wait until the worker has indexed the documents of a report; return it with those that failed."""
    began_s = time.monotonic()
    failed = await follow_here(runtime, tenant, report.summary.enqueued_ids)
    return replace(report, failed=failed, seconds=report.seconds + time.monotonic() - began_s)


async def store_files(
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
    """Return whether all paths of a source are loaded: only then a document without a file has lost it."""
    paths = {path.resolve() for path in folder.paths}
    return {(options.tenants_dir / path).resolve() for path in folder.source.entry.paths} == paths


async def _of_files(states: StoredStates, source: KnowledgeSource) -> list[DocumentStatus]:
    """Return the documents of a source that came from a file and are not withdrawn."""
    pages = (page for ids in source.id_ranges async for page in pages_of(states, ids=ids))
    return [
        status
        async for page in pages
        for status in page
        if status.origin is not None and status.state is not DocumentState.WITHDRAWN
    ]


def _has_left(status: DocumentStatus, reading: FileReading) -> bool:
    """Return whether the document has lost its file: no file of the load has it, and no refused file
    might."""
    return (
        status.document_id not in reading.ids and canonical_path(status.origin or "") not in reading.unclear
    )


async def follow_here(
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


@contextmanager
def loaded(
    options: GlobalOptions, terminal: Terminal, tenants: Iterable[str], *, command: str
) -> Generator[LocalRuntime]:
    """Have the service ready for a command, and each tenant's knowledge loaded."""
    runtime = local_runtime(options, terminal)
    with runtime.site(command=command):
        for tenant in tenants:
            asyncio.run(load_if_empty(runtime, tenant))
        yield runtime


@dataclass(frozen=True, slots=True)
class Looks:
    """How ``follow`` looks at the documents of a load, again and again until all are finished: in the stores
    here (``looks_here``), or by the API of a service elsewhere (``looks_there`` in ``sending``)."""

    read: Callable[[Sequence[str]], Awaitable[Iterable[DocumentStatus]]]
    """Returns the states of documents by their ids; one that is missing counts as unfinished."""
    counts: Callable[[], Awaitable[Mapping[DocumentState, int]]]
    """Counts all documents of the tenant by state. A change shows that the worker works, if only on documents
    that were queued before."""
    window: int
    """Documents whose state is read at once."""
    poll_s: float


async def follow(
    document_ids: Sequence[str], looks: Looks, *, show: Show, check: Callable[[], None] = lambda: None
) -> tuple[DocumentStatus, ...]:
    """Poll a window of the pending documents until all are finished; return those that failed.

    Documents are finished about in the order they came. Where none of a window is finished (they are tried
    again later), they go to the end, and the next window is read. ``check`` raises to end the wait. Raises
    LocalRuntimeError when no document of the tenant changed its state for 30 minutes; the rest stays in the
    queue.
    """
    pending = deque(document_ids)
    failed: list[DocumentStatus] = []
    last_change_s, counts = time.monotonic(), dict[DocumentState, int]()
    while pending:
        show(len(document_ids) - len(pending), len(document_ids))
        batch = [pending.popleft() for _ in range(min(looks.window, len(pending)))]
        finished = {
            status.document_id: status for status in await looks.read(batch) if status.state in _FINAL
        }
        unfinished = [document_id for document_id in batch if document_id not in finished]
        failed += [status for status in finished.values() if status.state in _FAILED]
        if finished:
            pending.extendleft(reversed(unfinished))
            last_change_s = time.monotonic()
        else:
            pending.extend(unfinished)
            if (now := dict(await looks.counts())) != counts:
                last_change_s, counts = time.monotonic(), now
            check()
            if time.monotonic() - last_change_s > _STALLED_S:
                raise errors.LocalRuntimeError(
                    f"The worker moved no document for {_STALLED_S:.0f} s, and {len(pending)} wait. See its "
                    "log. They stay queued: run the command again."
                )
            await asyncio.sleep(looks.poll_s)
    show(len(document_ids), len(document_ids))
    return tuple(failed)


def looks_here(states: StoredStates) -> Looks:
    """Return how ``follow`` looks at the stores of this machine. A document that is to be removed is left
    out, and so unfinished, while its ``live_content_hash`` says that the index may have it."""

    async def read(window: Sequence[str]) -> Iterable[DocumentStatus]:
        statuses = (await states.get_many(window)).values()
        return [status for status in statuses if status.state not in _REMOVED or not status.live_content_hash]

    return Looks(read, states.count_by_state, window=_WINDOW, poll_s=_POLL_S)
