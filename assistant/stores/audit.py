"""Audit records: the chain of each writer, the digest of each day, and how both are verified.

``AuditChain`` links each record to the one before when it is written. ``CloseDays`` writes, once a day, a
digest with the end of each chain. ``VerifyAudit`` reads records and digests again and reports each
difference: a record that is gone, added or altered. It does the same with the rows of answers, verdicts, sent
texts and acts, whose hashes are in audit records. ``assistant.domain.audit`` shows a chain.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Protocol

import orjson
import structlog
from pydantic import ValidationError

from assistant.domain.audit import (
    AuditLink,
    AuditRecord,
    Chained,
    DayDigest,
    WriterStart,
    by_writer,
    day_of,
    digest_of,
    link_after,
)
from assistant.domain.clock import set_within
from assistant.domain.errors import AssistantError, ConflictError, DependencyError, DocumentInvalidError
from assistant.domain.public import PublicModel
from assistant.process.settings import RunningIn
from assistant.stores.blobs import Blobs, BlobVersion
from assistant.stores.store import BlobsOf, Store
from assistant.tenant.deployed_names import AUDIT_FOLDER

PutRecord = Callable[[str, AuditLink], Awaitable[bool]]
"""Makes an audit record durable: its content and its place in the chain. A repeat with the same arguments
changes nothing. Returns False where a record of that name is stored already, so that nothing was written."""


class AuditChain:
    """The chain of one writer of audit records: one record after the other, in the order of the calls.

    A record whose write failed may be stored or not. It keeps its place: the next call first writes the same
    record again, so that no two records name the same one before them. The first record of a day comes after
    a start record, which the chain writes by ``put_start``.
    """

    def __init__(self, put_start: PutRecord) -> None:
        self._put_start = put_start
        self._lock = asyncio.Lock()
        self._next: dict[date, AuditLink] = {}
        """The place of the next record of each day."""
        self._latest = AuditLink(writer=uuid.uuid4().hex, day=date.min, sequence=0, previous="")
        """The place that was given last."""
        self._uncertain: tuple[str, AuditLink, PutRecord] | None = None
        """The record whose write failed: the next call repeats it."""
        self._failure: DependencyError | None = None
        """The error of the latest write; None after a success."""

    async def append(self, content: str, *, at: datetime, put: PutRecord) -> bool:
        """Add a record of that time; return what ``put`` returns. Raises what it raises.

        A caller that waited for the lock while the store failed gets the same error: it does not retry a
        store that is down, one caller after the other.
        """
        failure_before, day = self._failure, day_of(at)
        async with self._lock:
            if self._failure is not None and self._failure is not failure_before:
                raise self._failure
            if self._uncertain is not None:
                with suppress(ConflictError):  # its caller has had an error already
                    await self._settle(*self._uncertain)
            if day not in self._next:
                first = self._latest.model_copy(update={"day": day, "sequence": 0})
                await self._settle(self._start(), first, self._put_start)
            return await self._settle(content, self._next[day], put)

    def _start(self) -> str:
        process, latest = RunningIn.read(), self._latest.day
        start = WriterStart(
            kind=process.program,
            task=process.task,
            at=datetime.now(UTC),
            follows=None if latest == date.min else latest,
        )
        return start.model_dump_json()

    async def _settle(self, content: str, link: AuditLink, put: PutRecord) -> bool:
        """Write a record. If it is stored under this link, the next record of the day follows it."""
        self._uncertain = content, link, put
        try:
            is_stored = await put(content, link)
        except DependencyError as error:
            self._failure = error
            raise
        except AssistantError:  # refused: it is not stored
            self._uncertain = None
            raise
        self._uncertain = self._failure = None
        if is_stored:
            self._next[link.day] = self._latest = link_after(content, link)
        return is_stored


_DAY = timedelta(days=1)
SETTLED = timedelta(hours=1)
"""A day is closed this long after midnight UTC: answers that were asked before it are recorded by then."""
_LATE = timedelta(hours=26)
"""A digest counts as missing this long after the end of its day: the daily run, and a repeat, are over."""
_EVERY_S = 3600.0
MOST_DAYS = 31
"""Most days that one run closes; the next run goes on. Days of 100,000 records take some 90 s to hash, of the
900 s that a function has."""
_FUTURE = timedelta(minutes=15)
"""A version that is dated further ahead of the store's clock was written while that clock was wrong, and is
ignored. S3 refuses a request whose time differs by more (RequestTimeTooSkewed)."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WrittenDigests:
    """What the store has of digests, by the store's own clock."""

    now: datetime
    by_day: Mapping[date, Sequence[BlobVersion]]
    """All versions of a day's keys, ``DAY.json`` and ``DAY.2.json``, and their delete markers."""

    def writes(self, day: date) -> list[BlobVersion]:
        """Return what was written or deleted after that day's end, oldest first. Versions come newest first
        and have times of whole seconds: of one second the reversed order counts."""
        end = datetime.combine(day + _DAY, time.min, UTC)
        until, stored = self.now + _FUTURE, reversed(self.by_day.get(day, ()))
        after_end = [version for version in stored if end <= version.written_at <= until]
        return sorted(after_end, key=lambda version: version.written_at)

    def counted(self, day: date) -> BlobVersion | None:
        """Return the digest that counts for that day: the first that was written after its end. None where
        all were written before it, or are dated in the future."""
        return next((version for version in self.writes(day) if not version.deleted), None)


class DayDigests:
    """The digests of one tenant, ``audit/DAY.json``; ``audit/DAY.2.json`` stands for one that was written
    before that day had ended. All methods raise DependencyError.

    The version that was written first after the day's end counts: in a bucket a lock keeps it, and neither a
    later version nor a delete marker hides it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, day: date, digest: DayDigest, *, attempt: int = 1) -> bytes:
        """Write a digest, durable on return, unless one of that day and attempt is stored. Return the bytes
        that are stored now."""
        key = key_of(day, attempt)
        await self._blobs.add(key, digest.model_dump_json(exclude_defaults=True).encode())
        kept = [found async for found in self._blobs.versions(key) if found.key == key and not found.deleted]
        return await self.get(kept[-1])

    async def get(self, version: BlobVersion) -> bytes:
        content = await self._blobs.get(version.key, version=version.version)
        if content is None:
            raise DependencyError(f"{version.key} was deleted meanwhile. Retry.")
        return content

    async def now(self) -> datetime:
        """Return the time by the store's own clock."""
        return await self._blobs.now(AUDIT_FOLDER)

    async def written(self) -> WrittenDigests:
        """Return all versions of all digests, with the store's time."""
        by_day, now = defaultdict[date, list[BlobVersion]](list), await self.now()
        async for found in self._blobs.versions(AUDIT_FOLDER):  # its key is as of ``key_of``
            by_day[date.fromisoformat(found.key.removeprefix(AUDIT_FOLDER).partition(".")[0])].append(found)
        return WrittenDigests(now, by_day)


DIGESTS = Store(
    BlobsOf("The digests of audit records", folder="", setting="trail_bucket"),
    lambda blobs, _: DayDigests(blobs),
)


def key_of(day: date, attempt: int = 1) -> str:
    """Return the key of a digest: ``audit/2026-03-01.json``, of a second attempt
    ``audit/2026-03-01.2.json``."""
    return f"{AUDIT_FOLDER}{day}{f'.{attempt}' if attempt > 1 else ''}.json"


def _hash_of(digest: bytes | None) -> str:
    """Return what the next day's digest names as ``previous``: empty where there is none."""
    return "" if digest is None else sha256(digest).hexdigest()


HashedRow = tuple[str, tuple[date, str] | None]
"""A record of an answer, a verdict, a sent text or an act as the store has it: its name as in
``AccessEntry.rows``; the day (UTC) of its own time and its hash, None where nobody can read it."""


class AuditedDays(Protocol):
    """Reads audit records: ``StoredRecords`` implements it. Its module imports this one for
    ``AuditChain``."""

    async def audited(self, day: date) -> Sequence[AuditRecord]:
        """Return all audit records of a day in UTC, start records included, in no order. Raises
        RecordsUnavailableError."""
        ...

    def hashed_rows(self) -> AsyncIterator[HashedRow]:
        """Yield all rows that have their hash in an audit record, or should. Raises as ``audited`` does."""
        ...


@dataclass(frozen=True, slots=True)
class CloseDays:
    """Writes the digest of each day that ended by the store's own clock, missed days included.

    A digest that was written before its day ended (by a wrong clock) does not count: it is written again
    under the next attempt, and ``replaces`` names the first. Two processes at once write the same.
    """

    records: AuditedDays
    digests: DayDigests

    async def run(self, stopping: asyncio.Event) -> None:
        """Close days every hour until ``stopping`` is set."""
        while not stopping.is_set():
            try:
                await self.close()
            except DependencyError as error:
                _log.warning("audit_not_closed", code=error.code, reason=error.message)
            await set_within(stopping, _EVERY_S)

    async def close(self) -> int:
        """Return how many days were closed, at most MOST_DAYS. Raises RecordsUnavailableError,
        DependencyError."""
        written = await self.digests.written()
        last_ended = day_of(written.now - SETTLED) - _DAY
        last_closed = max(filter(written.counted, written.by_day), default=last_ended - _DAY)
        # Days without a digest that counts: after the last closed one, and those closed too early.
        missed = (last_closed + number * _DAY for number in range(1, (last_ended - last_closed).days + 1))
        early = (day for day in written.by_day if day <= last_ended and written.counted(day) is None)
        closed = dict[date, bytes]()
        for day in sorted({*missed, *early})[:MOST_DAYS]:
            before, versions = written.counted(day - _DAY), written.by_day.get(day, ())
            previous = closed.get(day - _DAY) or (await self.digests.get(before) if before else None)
            digest = digest_of(day, await self.records.audited(day), previous=_hash_of(previous))
            # Written too early, newest first: the first one of them is named as replaced.
            if old := [found for found in versions if found.key == key_of(day) and not found.deleted]:
                digest = digest.model_copy(update={"replaces": _hash_of(await self.digests.get(old[-1]))})
                _log.warning("audit_day_closed_again", day=str(day), written_at=str(old[-1].written_at))
            attempt = len({version.key for version in versions}) + 1
            closed[day] = await self.digests.put(day, digest, attempt=attempt)
        return len(closed)


_ADVICE = {
    "record": "Compare the day with a restore of the records to a time before, and ask the trail who wrote.",
    "digest": "S3's access logs of its bucket name who did that. The first version, which is locked, counts.",
    "day": "The function's next run makes it up, unless a later day is closed: then it was removed.",
    "release": "An older release ran again, or somebody wrote by hand: look who deployed.",
    "row": "Compare the table of records with a restore of it to a time before, and ask the trail who wrote.",
}
"""What the operator must do, by what a fault is about. It follows the fault's text in
``AuditFinding.said``."""


class AuditFinding(PublicModel):
    day: date
    fault: str
    """``gap``, ``fork``, ``altered``, ``truncated``, ``missing writer``, ``late``, ``unchained``, ``missing
    day``, ``swapped``, ``rewritten``; of a row ``altered``, ``deleted``, ``invented``, ``unreadable``,
    ``unhashed``."""
    said: str
    """What was found, and what to do."""


class AuditReport(PublicModel):
    since: date
    until: date
    days: int
    """Days with a digest."""
    writers: int
    """Chains: a writer counts on each day."""
    records: int
    """Chained records."""
    unchained: int
    """Records of releases without chains."""
    chained_from: date | None
    """First day with a digest or a chain."""
    rows: int
    """Rows of answers, verdicts, sent texts and acts of closed days that are as their hashes say."""
    unhashed: int
    """Those of closed days before the first hash: an older release wrote them, so nobody can tell."""
    findings: tuple[AuditFinding, ...]


Chain = Mapping[int, Sequence[Chained]]
"""A writer's records of one day by sequence, ascending; each list has one, unless somebody added records."""


@dataclass(slots=True)
class VerifyAudit:
    """Checks days of audit records by themselves (chains without gaps) and against their digests (the chain
    ends, the counts and the digest of the day before), then the rows of closed days against their hashes."""

    records: AuditedDays
    digests: DayDigests

    async def run(self, since: date, until: date) -> AuditReport:
        """Verify the days from ``since`` to ``until``, both included. Raises DependencyError,
        RecordsUnavailableError, DocumentInvalidError (a digest that nobody can read)."""
        written, findings = await self.digests.written(), list[AuditFinding]()
        # previous: stored digest of the day before. hashes: of all records so far, by writer and day.
        # loose: records of the day without a chain.
        previous, hashes = await self._digest(since - _DAY, written), dict[tuple[str, date], set[str]]()
        first_day, chained, unchained = min(written.by_day, default=None), 0, 0
        rows = await self._rows_before(since, first_day)
        due = day_of(written.now - _LATE)
        for day in (since + number * _DAY for number in range((until - since).days + 1)):
            records, stored = await self.records.audited(day), await self._digest(day, written)
            writers, loose = by_writer(records), sum(record.link is None for record in records)
            first_day = first_day or (day if writers else None)
            faults = [*_faults_of_chains(writers), *_faults_of_starts(day, writers, hashes, since=since)]
            faults += rows.faults_of_day(day, records, is_closed=stored is not None)
            digest = None if stored is None else _read(stored, day)
            # In a folder a clock that was ahead may have dated the first digest: then the second replaces it.
            replaces = digest is not None and digest.replaces
            if any(later.key != key_of(day) or not replaces for later in written.writes(day)[1:]):
                faults.append(("digest", "rewritten", f"{key_of(day)} was written or deleted again."))
            if digest is not None:
                faults += _faults_of_digest(day, digest, previous)
                faults += _faults_by_digest(writers, loose, digest) if digest.day == day else []
            elif first_day is not None and first_day <= day < due:
                faults.append(("day", "missing day", "No digest of it was written after it ended."))
            if loose and first_day is not None and day > first_day:
                faults.append(("release", "unchained", f"{loose} records have no chain."))
            findings += [_finding(day, fault) for fault in faults]
            previous, chained, unchained = stored, chained + len(records) - loose, unchained + loose
        today = day_of(written.now)
        findings += [_finding(day, fault) async for day, fault in rows.faults(self.records, today=today)]
        return AuditReport(
            since=since,
            until=until,
            days=sum(since <= day <= until for day in filter(written.counted, written.by_day)),
            writers=len(hashes),
            records=chained,
            unchained=unchained,
            chained_from=first_day,
            rows=rows.good,
            unhashed=rows.unhashed,
            findings=tuple(findings),
        )

    async def _rows_before(self, since: date, first_day: date | None) -> _Rows:
        """Return the state of rows before ``since``: of the last day on which an answer began."""
        rows, day = _Rows(), since
        while first_day is not None and day > first_day and not rows.bare and not rows.began:
            day -= _DAY
            list(rows.faults_of_day(day, await self.records.audited(day), is_closed=False))
        return rows

    async def _digest(self, day: date, written: WrittenDigests) -> bytes | None:
        """Return the stored digest that counts for a day; None where there is none."""
        version = written.counted(day)
        return None if version is None else await self.digests.get(version)


Fault = tuple[str, str, str]
"""A key of ``_ADVICE``, the fault (as ``AuditFinding.fault``) and what was found:
``("record", "gap", "2 records before number 7 of writer 3f… are gone.")``."""


def _finding(day: date, fault: Fault) -> AuditFinding:
    about, name, said = fault
    return AuditFinding(day=day, fault=name, said=f"{said} {_ADVICE[about]}")


@dataclass(slots=True)
class _Rows:
    """What the audit records of closed days say of rows, held against the rows."""

    began: bool = False
    """Whether a day before had hashes."""
    bare: int = 0
    """Answers of the latest day without a hash: an older release wrote them."""
    good: int = 0
    unhashed: int = 0
    _expected: dict[str, tuple[date, str]] = field(default_factory=dict[str, tuple[date, str]])
    """By row: day and hash. What the earliest entry says of a row counts: a later day may still be open."""
    _closed: dict[date, bool] = field(default_factory=dict[date, bool])
    """Closed days, and whether every row of the day must have a hash."""

    def faults_of_day(self, day: date, records: Sequence[AuditRecord], *, is_closed: bool) -> Iterator[Fault]:
        """Take the hashes of the next day's records; yield where an older release wrote again."""
        said = [orjson.loads(record.content) for record in records]
        hashes = {name: (day, value) for entry in said for name, value in entry.get("rows", {}).items()}
        self.bare = sum(entry.get("kind") == "asked" and "rows" not in entry for entry in said)
        if is_closed:
            self._expected = hashes | self._expected
            self._closed[day] = not self.bare and (self.began or bool(hashes))
        if self.bare and self.began:
            yield "release", "unhashed", f"{self.bare} answers have no hash."
        self.began = self.began or bool(hashes)

    async def faults(self, records: AuditedDays, *, today: date) -> AsyncIterator[tuple[date, Fault]]:
        """Read all rows, and yield each that is not as the records say, with its day. A row without a hash is
        invented also where its own time is to come, or before its answer: by a day, as clocks may differ."""
        began = ((name, day) for name, (day, _) in self._expected.items() if name.count("#") == 1)
        asked = {name.partition(" ")[0]: day for name, day in began}
        async for name, row in records.hashed_rows():
            earliest = asked.get(name.partition(" ")[0], date.min + _DAY) - _DAY
            expected = self._expected.pop(name, None)
            if expected is not None and expected != row:
                yield expected[0], ("row", "altered", f"The row {name} is not as it was written.")
            elif expected is not None:
                self.good += 1
            elif row is None:
                yield today, ("row", "unreadable", f"The row {name} cannot be read, and has no hash.")
            elif self._closed.get(row[0]) or not earliest <= row[0] <= today + _DAY:
                yield row[0], ("row", "invented", f"The row {name} is in no audit record.")
            else:
                self.unhashed += row[0] in self._closed
        for name, (day, _) in self._expected.items():
            yield day, ("row", "deleted", f"The row {name} is gone.")


def _faults_of_starts(
    day: date, writers: Mapping[str, Chain], hashes: dict[tuple[str, date], set[str]], *, since: date
) -> Iterator[Fault]:
    """Yield a fault for each writer whose start record names a record of an earlier day that is gone. Days
    before ``since`` were not read and are not checked.

    ``hashes``: hashes of the records read so far, by writer and day. This adds those of ``day``, so call it
    for the days in order.
    """
    for writer, chain in writers.items():
        hashes[writer, day] = {record.hash for same in chain.values() for record in same}
        for start in chain.get(0, ()):
            former = WriterStart.model_validate_json(start.content).follows
            if former is None or former < since:
                continue
            kept = hashes.get((writer, former), set())
            if start.previous not in kept:
                fault = "truncated" if kept else "missing writer"
                yield "record", fault, f"Writer {writer} names a record of {former} that is gone."


def _read(stored: bytes, day: date) -> DayDigest:
    try:
        return DayDigest.model_validate_json(stored)
    except ValidationError:
        raise DocumentInvalidError(f"{key_of(day)} is not a digest of a day. Read it by hand.") from None


def _faults_of_digest(day: date, digest: DayDigest, previous: bytes | None) -> Iterator[Fault]:
    """Yield whether the digest is of another day, or names another digest than ``previous``, the one stored
    for the day before. It may also name the first digest of that day, which ``previous`` replaces."""
    if digest.day != day:
        yield "digest", "swapped", f"{key_of(day)} is the digest of {digest.day}."
    elif digest.previous != _hash_of(previous):
        if previous is None:
            yield "digest", "missing day", f"It names a digest of {day - _DAY}, and there is none."
        elif digest.previous != (_read(previous, day - _DAY).replaces or None):
            yield "digest", "altered", f"It names another digest of {day - _DAY} than is there."


def _faults_of_chains(writers: Mapping[str, Chain]) -> Iterator[Fault]:
    """Yield the faults that the records of a day show without its digest: forks, gaps and altered records."""
    for writer, chain in writers.items():
        for before, sequence in pairwise((-1, *chain)):  # -1: nothing is before the start record
            same, name = chain[sequence], f"number {sequence} of writer {writer}"
            if len(same) > 1:
                yield "record", "fork", f"{len(same)} records are {name}: all but one were added."
            if sequence > before + 1:
                count = sequence - before - 1
                yield "record", "gap", f"{count} records before {name} are gone."
            elif before >= 0 and not {record.previous for record in same} <= {
                record.hash for record in chain[before]
            }:
                yield "record", "altered", f"The record {name} or the one before it was altered."


def _faults_by_digest(writers: Mapping[str, Chain], loose: int, digest: DayDigest) -> Iterator[Fault]:
    """Yield where the records of a day differ from its digest. ``loose``: number of records without a
    chain."""
    ends = {end.writer: end for end in digest.writers}
    for writer in writers.keys() - ends.keys():
        yield "record", "late", f"The digest does not know writer {writer}: it came after the day was closed."
    for writer, end in ends.items():
        last, known = max(writers.get(writer, ()), default=None), f"up to number {end.sequence}"
        if last is None:
            yield "record", "missing writer", f"None of the {end.count} records of writer {writer} is left."
        elif last != end.sequence:
            fault = "truncated" if last < end.sequence else "late"
            yield "record", fault, f"The digest knows writer {writer} {known}; its records end at {last}."
        elif end.hash not in {record.hash for record in writers[writer][last]}:
            yield "record", "altered", f"The last record of writer {writer}, number {last}, was altered."
    if loose != digest.unchained:
        fault, known = "truncated" if loose < digest.unchained else "late", digest.unchained
        yield "record", fault, f"The digest knows {known} records without a chain; there are {loose}."
