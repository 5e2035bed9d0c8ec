"""One run of a connector: it brings what changed in a system into its source, and withdraws what is gone.
Also the run's record, and the lock by which one run of a source reads at a time.

A page's cursor is stored after all items of the page: a run that was killed does the page again, and
documents that are there already are only compared.

    run = SyncSource(source, connect=…, open_target=…, runs=…, turn=…, clock=clock)
    record = await run()          # SourceRun(changed=3, unchanged=120, deleted=1, cursor="…", …)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog
from pydantic import AwareDatetime

from assistant.documents.files import SourceFailure, SourceItem, as_item
from assistant.documents.readable import pages_of
from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.documents.withdraw import WithdrawDocuments
from assistant.domain.clock import Clock, Deadline, all_or_cancel, back_off_s
from assistant.domain.documents import DocumentState
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DeadlineExceededError,
    DependencyError,
    DocumentInvalidError,
    OverloadedError,
)
from assistant.domain.public import PublicModel
from assistant.options.sources.connector import ChangedItem, Connector, FetchedItem
from assistant.stores.documents import KnowledgeStores
from assistant.stores.store import LockOf, Store, TableOf
from assistant.stores.table import Range, Table, keyed

LONGEST_RUN_S = 6 * 3600.0
_CALL_S = 600.0
"""Limit of one call of the connector, with all its requests and its waits for the rate."""
_AT_ONCE = 4
"""Calls of the connector at the same time."""
_ATTEMPTS = 5
"""Times that a call is tried while the system asks to wait or is overloaded."""
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 60.0
"""Longest wait between two attempts, and between two looks at the schedule after an error."""
_MOST_ERRORS = 20
"""Errors that a record keeps."""
_RUNS = "source-runs"
_log = structlog.get_logger(__name__)
Result = TypeVar("Result")


class SourceRun(PublicModel):
    """One run of a source's connector, and where the next one goes on."""

    source: str
    into: str = ""
    """Address of the service that it brought documents to; empty: the stores where this record is."""
    started_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    """None while it runs, and for a run that was killed."""
    cursor: str | None = None
    """Where the next run goes on: everything before it is stored. None: at the beginning."""
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: int = 0
    errors: tuple[str, ...] = ()
    """Why it stopped early, and why items were refused: the first ``_MOST_ERRORS``, without the items'
    texts."""
    succeeded_at: AwareDatetime | None = None
    """When this or an earlier run last ended without stopping early."""

    @property
    def key(self) -> str:
        """Source and place: a run into another place has another cursor, so another record."""
        return f"{self.source} {self.into}".rstrip()


class StoredSourceRuns:
    """The last run of each source of one tenant into each place."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put_run(self, run: SourceRun) -> None:
        """Store the run in place of the last one of its key. Raises DependencyError."""
        await self._table.put_many([keyed((_RUNS, run.key), body=run.model_dump_json())])

    async def runs(self) -> Sequence[SourceRun]:
        """Return the last run of each key, in order of keys. Raises DependencyError."""
        items = await self._table.query(Range(_RUNS))
        return [SourceRun.model_validate_json(item["body"]) for item in items]


SOURCE_RUNS = Store(
    TableOf("connectors.sqlite", "states_table", DependencyError), lambda table, _: StoredSourceRuns(table)
)


def turn_of(source: str, *, lasts_s: float = 0.0) -> LockOf:
    """Return the lock of a source's connector. ``lasts_s``: on AWS, seconds after which it ends by itself if
    its holder was killed."""
    return LockOf(
        f"connector-{source}.lock",
        key=f"source:{source}",
        late=f"Another run of {source} reads, or was killed. It is tried again when the next one is due.",
        late_here=f"Another run of {source} reads. Wait until it ends.",
        waits_s=0.5,
        lasts_s=lasts_s,
    )


class KnowledgeTarget(Protocol):
    """The documents of one source in the place where a run brings them: the stores here, or a remote service.

    Ids are those of the connector's items. Every method raises an AssistantError if it cannot do all of its
    work; the run ends then, and the next one repeats it.
    """

    async def add(self, items: Sequence[SourceItem], /) -> AddSummary:
        """Store new and changed items. Withhold known documents whose item is a failure."""
        ...

    async def known_ids(self) -> AbstractSet[str]:
        """Return the ids of all documents that are not withdrawn."""
        ...

    async def withdraw(self, item_ids: Sequence[str], /) -> None:
        """Withdraw documents. One that is withdrawn already is no error."""
        ...


@dataclass(frozen=True, slots=True)
class StoredTarget:
    """``KnowledgeTarget`` over the stores of one tenant."""

    source: KnowledgeSource
    stores: KnowledgeStores
    add_documents: AddDocuments
    clock: Clock

    async def add(self, items: Sequence[SourceItem], /) -> AddSummary:
        # The connector reports the system's own restrictions, so it may widen who reads a document.
        labels = frozenset((*self.source.vocabulary, *self.source.labels))
        writer = Writer(f"connector:{self.source.name}", labels)
        return await self.add_documents(items, source=self.source, writer=writer)

    async def known_ids(self) -> AbstractSet[str]:
        return {
            status.document_id.removeprefix(self.source.id_prefix)
            for ids in self.source.id_ranges
            async for page in pages_of(self.stores.states, ids=ids)
            for status in page
            if status.state is not DocumentState.WITHDRAWN
        }

    async def withdraw(self, item_ids: Sequence[str], /) -> None:
        document_ids = list(map(self.source.document_id, item_ids))
        await WithdrawDocuments(self.stores, clock=self.clock)(document_ids)


@dataclass(frozen=True, slots=True)
class SyncSource:
    """The use case behind ``assistant knowledge sync``, for one source of one tenant."""

    source: KnowledgeSource
    connect: Callable[[], AbstractAsyncContextManager[Connector]]
    """Opens the connector for one run. Raises ConfigurationError, as for a secret that is missing."""
    open_target: Callable[[], AbstractAsyncContextManager[KnowledgeTarget]]
    """Opens the target of one run. Raises an AssistantError."""
    runs: StoredSourceRuns
    turn: AbstractAsyncContextManager[None, bool | None]
    """Held by one run of the source at a time."""
    clock: Clock
    every_minutes: int = 60
    longest_s: float = LONGEST_RUN_S
    """A run that takes longer ends after a page; the next one goes on there."""
    into: str = ""
    """Address of the service that it brings the documents to; empty: the stores here."""

    async def __call__(self, *, confirmed: bool = False, again: bool = False) -> SourceRun:
        """Run until everything is read, and return the run's record.

        ``confirmed``: more than half of the documents may be withdrawn. ``again``: read from the beginning,
        as after a change of the tenant file.

        An error of the system, or of its settings, ends the run, and is in its record. Raises DependencyError
        where a store of the product or the turn is unavailable.
        """
        async with self.turn:
            run = _Run(self, await self.last_run(), confirmed=confirmed, again=again)
            await self.runs.put_run(run.record)
            try:
                async with self.connect() as run.connector, self.open_target() as run.target:
                    await run.read_changes()
                    await run.compare_ids()
                run.update(succeeded_at=self.clock.now())
            except AssistantError as error:
                _log.warning("source_run_stopped", source=self.source.name, code=error.code)
                run.note(f"{error.code}: {error.message}")
            run.update(ended_at=self.clock.now())
            await self.runs.put_run(run.record)
            return run.record

    async def last_run(self) -> SourceRun | None:
        """Return the last run of the source into the same place; None before the first."""
        place = (self.source.name, self.into)
        return next((run for run in await self.runs.runs() if (run.source, run.into) == place), None)

    async def run(self, stopping: asyncio.Event) -> None:
        """Run every ``every_minutes`` until ``stopping`` is set. An error is logged; the next run follows."""
        stopped, runs = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(self._on_schedule())
        await asyncio.wait([stopped, runs], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        runs.cancel()
        with suppress(asyncio.CancelledError):
            await runs

    async def _on_schedule(self) -> None:
        """Run whenever ``every_minutes`` have passed since the last run began, in whatever process that
        was."""
        while True:
            try:
                last, wait_s = await self.last_run(), 0.0
                if last is not None:
                    due = last.started_at + timedelta(minutes=self.every_minutes)
                    wait_s = (due - self.clock.now()).total_seconds()
                if wait_s <= 0.0:
                    await self()
            except AssistantError as error:
                _log.warning("source_not_run", source=self.source.name, code=error.code)
                wait_s = _LONGEST_WAIT_S
            await asyncio.sleep(max(1.0, wait_s))


class _Run:
    """One run in progress: its steps, and its record so far.

    ``SyncSource`` sets ``connector`` and ``target``, then calls ``read_changes`` and ``compare_ids``.
    """

    connector: Connector
    target: KnowledgeTarget

    def __init__(self, sync: SyncSource, last: SourceRun | None, *, confirmed: bool, again: bool) -> None:
        self._sync = sync
        self._confirmed = confirmed
        self._until = Deadline.after(sync.longest_s, clock=sync.clock)
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._seen: dict[str, str] = {}
        """Revision by id of each item that this run has stored: a later page may name it again."""
        self.record = SourceRun(
            source=sync.source.name,
            into=sync.into,
            started_at=sync.clock.now(),
            cursor=last.cursor if last and not again else None,
            succeeded_at=last.succeeded_at if last else None,
        )

    def update(self, **fields: object) -> None:
        self.record = self.record.model_copy(update=fields)

    def note(self, error: str) -> None:
        self.update(errors=(*self.record.errors, error)[:_MOST_ERRORS])

    async def read_changes(self) -> None:
        """Bring the changes since the cursor, and store the cursor after each page."""
        is_last = False
        while not is_last:
            cursor = self.record.cursor
            page = await self._call(partial(self.connector.changes, cursor))
            await self._remove(await self._bring(page.changed))
            is_last = page.is_last
            if not is_last and page.cursor == cursor:
                raise ConflictError("The system names the same page again and again. Run it again later.")
            self.update(cursor=page.cursor)
            await self._sync.runs.put_run(self.record)

    async def compare_ids(self) -> None:
        """List all ids of the system; bring items that are not known, and withdraw documents that it does not
        list."""
        # Read before the system is asked: a document that is added meanwhile must not be withdrawn.
        known = await self.target.known_ids()
        there: set[str] = set()
        after: str | None = None
        while True:
            ids, after = await self._call(partial(self.connector.all_ids, after))
            there.update(ids)
            new = [ChangedItem(name, "") for name in ids if name not in known and name not in self._seen]
            await self._bring(new)
            if after is None:
                break
        await self._remove(known - there)

    async def _bring(self, changed: Sequence[ChangedItem]) -> set[str]:
        """Fetch and store items, and count them; return the ids of those that the system no longer has."""
        new = [item for item in changed if self._seen.get(item.item_id) != item.revision]
        fetched = await all_or_cancel(self._fetch(item.item_id) for item in new)
        summary = await self.target.add([item for item in fetched if item is not None])
        self._seen.update((item.item_id, item.revision) for item in new)
        for failure in summary.failures:
            self.note(f"{failure.origin}: {failure.reason}")
        self._count(
            changed=summary.added + summary.changed,
            unchanged=summary.unchanged + len(changed) - len(new),
            refused=len(summary.failures),
        )
        return {item.item_id for item, content in zip(new, fetched, strict=True) if content is None}

    async def _fetch(self, item_id: str) -> SourceItem | None:
        """Return an item, or why it is refused; None if it is gone."""
        try:
            fetched = await self._call(partial(self.connector.fetch, item_id))
        except DocumentInvalidError as error:
            return SourceFailure(item_id, error.code, error.message, item_id)
        return None if fetched is None else _as_source_item(item_id, fetched)

    async def _remove(self, item_ids: AbstractSet[str]) -> None:
        """Withdraw those of these ids that are known.

        Raises ConflictError, and withdraws none, where the run would then have withdrawn more than half of
        the documents, unless that is confirmed: the system or its settings may be wrong.
        """
        known = await self.target.known_ids() if item_ids else frozenset[str]()
        gone = sorted(known & item_ids)
        if not gone:
            return
        all_known, all_gone = len(known) + self.record.deleted, len(gone) + self.record.deleted
        if 2 * all_gone > all_known and not self._confirmed:
            raise ConflictError(
                f"{all_gone:,} of {all_known:,} documents are gone from the system, more than half. Nothing "
                "more is withdrawn. If that is right, run it again with --yes."
            )
        await self.target.withdraw(gone)
        self._count(deleted=len(gone))

    def _count(self, **more: int) -> None:
        self.update(**{name: getattr(self.record, name) + number for name, number in more.items()})

    async def _call(self, call: Callable[..., Awaitable[Result]]) -> Result:
        """Call a method of the connector with a deadline; after OverloadedError wait and repeat it.

        Raises DeadlineExceededError once the run has taken its longest time.
        """
        attempt = 0
        while True:
            if not self._until.remaining_s():
                raise DeadlineExceededError("The run took its longest time; the next one goes on.")
            async with self._free:
                deadline = Deadline.after(self._until.within_s(_CALL_S), clock=self._sync.clock)
                try:
                    return await call(deadline=deadline)
                except OverloadedError as error:
                    wait_s = back_off_s(attempt, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
                    wait_s = max(wait_s, error.retry_after_s or 0.0)
                    attempt += 1
                    if attempt == _ATTEMPTS:
                        raise
                # It waits within the semaphore, so that fewer other calls reach a system that asks to wait.
                await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S, self._until.remaining_s()))


def _as_source_item(item_id: str, fetched: FetchedItem) -> SourceItem:
    """Return a fetched item as a document to store, or as a failure where a field is invalid."""
    fields = {name: value for name, value in asdict(fetched).items() if value is not None}
    item = as_item(item_id, {"document_id": item_id, **fields}, metadata={})
    return replace(item, own_id=item_id) if isinstance(item, SourceFailure) else item
