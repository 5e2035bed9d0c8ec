"""Audit records: the chain of each writer, the digest of each day, and how both are verified."""

from __future__ import annotations

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Protocol

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
    record again, so that no two records follow one.
    """

    def __init__(self, put_start: PutRecord) -> None:
        self._put_start = put_start
        self._lock = asyncio.Lock()
        self._next: dict[date, AuditLink] = {}
        """The place of the next record of each day."""
        self._latest = AuditLink(writer=uuid.uuid4().hex, day=date.min, sequence=0, previous="")
        """The place that was given last."""
        self._unsettled: tuple[str, AuditLink, PutRecord] | None = None
        self._failure: DependencyError | None = None

    async def append(self, content: str, *, at: datetime, put: PutRecord) -> None:
        """Add a record of that time. Raises what ``put`` raises.

        Who waits while the store fails gets the same error, and does not try it again in turn.
        """
        failure, day = self._failure, day_of(at)
        async with self._lock:
            if self._failure is not None and self._failure is not failure:
                raise self._failure
            if self._unsettled is not None:
                with suppress(ConflictError):  # of another caller, who has had an error already
                    await self._settle(*self._unsettled)
            if day not in self._next:
                first = self._latest.model_copy(update={"day": day, "sequence": 0})
                await self._settle(self._start(), first, self._put_start)
            await self._settle(content, self._next[day], put)

    def _start(self) -> str:
        process, latest = RunningIn.read(), self._latest.day
        start = WriterStart(
            kind=process.program,
            task=process.task,
            at=datetime.now(UTC),
            follows=None if latest == date.min else latest,
        )
        return start.model_dump_json()

    async def _settle(self, content: str, link: AuditLink, put: PutRecord) -> None:
        """Write a record, and go on from it where it stands."""
        self._unsettled = content, link, put
        try:
            stands = await put(content, link)
        except DependencyError as error:
            self._failure = error
            raise
        except AssistantError:  # refused: it is not stored
            self._unsettled = None
            raise
        self._unsettled = self._failure = None
        if stands:
            self._next[link.day] = self._latest = link_after(content, link)


_DAY = timedelta(days=1)
SETTLED = timedelta(hours=1)
"""After midnight: answers that were asked before it are recorded by then."""
_LATE = timedelta(hours=26)
"""After the end of a day, when its digest counts as missing: one run and a repeat later."""
_EVERY_S = 3600.0
MOST_DAYS = 31
"""That one run closes; the next run goes on. Each with 100,000 records, they take some 90 s to hash, of the
900 s that a function has."""
_FUTURE = timedelta(minutes=15)
"""A write that is dated further ahead of the store's clock was made by a wrong one. S3 refuses a request
whose time differs by more (RequestTimeTooSkewed)."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WrittenDigests:
    """What the store has of digests, by the store's own clock."""

    now: datetime
    by_day: Mapping[date, Sequence[BlobVersion]]

    def writes(self, day: date) -> list[BlobVersion]:
        """Return what was written or deleted after that day's end, the first one first: versions come with
        the newest first, and have times of whole seconds."""
        end = datetime.combine(day + _DAY, time.min, UTC)
        until, stored = self.now + _FUTURE, reversed(self.by_day.get(day, ()))
        found = [each for each in stored if end <= each.written_at <= until]
        return sorted(found, key=lambda each: each.written_at)

    def counted(self, day: date) -> BlobVersion | None:
        """Return the digest of that day: the first that was written after its end. None where there is none,
        or one that is dated wrongly."""
        return next((each for each in self.writes(day) if not each.deleted), None)


class DayDigests:
    """The digests of one tenant, ``audit/DAY.json``; ``audit/DAY.2.json`` stands for one that was written
    before that day had ended. All methods raise DependencyError.

    What was first written after the end counts: in a bucket a lock keeps it, and neither a later version nor
    a delete marker hides it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, day: date, digest: DayDigest, *, attempt: int = 1) -> bytes:
        """Write a digest, durable on return; one of that day and attempt is left as it is. Return the one
        that is stored."""
        key = key_of(day, attempt)
        await self._blobs.add(key, digest.model_dump_json(exclude_defaults=True).encode())
        kept = [each async for each in self._blobs.versions(key) if each.key == key and not each.deleted]
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
        """Return what was written of each day, and deleted, where the store knows."""
        by_day, now = defaultdict[date, list[BlobVersion]](list), await self.now()
        async for each in self._blobs.versions(AUDIT_FOLDER):
            by_day[date.fromisoformat(each.key.removeprefix(AUDIT_FOLDER).partition(".")[0])].append(each)
        return WrittenDigests(now, by_day)


DIGESTS = Store(
    BlobsOf("The digests of audit records", folder="", setting="trail_bucket"),
    lambda blobs, _: DayDigests(blobs),
)


def key_of(day: date, attempt: int = 1) -> str:
    return f"{AUDIT_FOLDER}{day}{f'.{attempt}' if attempt > 1 else ''}.json"


def _hash_of(digest: bytes | None) -> str:
    return "" if digest is None else sha256(digest).hexdigest()


class AuditedDays(Protocol):
    """What has audit records: ``StoredRecords``, whose module needs the chain."""

    async def audited(self, day: date) -> Sequence[AuditRecord]: ...


@dataclass(frozen=True, slots=True)
class CloseDays:
    """Writes the digest of each day that ended by the store's own clock, the missed ones too, and anew where
    it was written before that. Two at once write the same."""

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
        last = day_of(written.now - SETTLED) - _DAY
        latest = max(filter(written.counted, written.by_day), default=last - _DAY)
        missed = (latest + number * _DAY for number in range(1, (last - latest).days + 1))
        early = (day for day in written.by_day if day <= last and written.counted(day) is None)
        closed = dict[date, bytes]()
        for day in sorted({*missed, *early})[:MOST_DAYS]:
            before, standing = written.counted(day - _DAY), written.by_day.get(day, ())
            previous = closed.get(day - _DAY) or (await self.digests.get(before) if before else None)
            digest = digest_of(day, await self.records.audited(day), previous=_hash_of(previous))
            if first := [each for each in standing if each.key == key_of(day) and not each.deleted]:
                digest = digest.model_copy(update={"replaces": _hash_of(await self.digests.get(first[-1]))})
                _log.warning("audit_day_closed_again", day=str(day), written_at=str(first[-1].written_at))
            attempt = len({each.key for each in standing}) + 1
            closed[day] = await self.digests.put(day, digest, attempt=attempt)
        return len(closed)


_ADVICE = {
    "record": "Compare the day with a restore of the records to a time before, and ask the trail who wrote.",
    "digest": "S3's access logs of its bucket name who did that. The first version, which is locked, counts.",
    "day": "The function's next run makes it up, unless a later day is closed: then it was removed.",
    "release": "An older release ran again, or somebody wrote by hand: look who deployed.",
}
"""What to do, by what a finding is about."""


class AuditFinding(PublicModel):
    day: date
    fault: str
    """``gap``, ``fork``, ``altered``, ``truncated``, ``missing writer``, ``late``, ``unchained``, ``missing
    day``, ``swapped``, ``rewritten``."""
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
    findings: tuple[AuditFinding, ...]


Chain = Mapping[int, Sequence[Chained]]


@dataclass(slots=True)
class VerifyAudit:
    """Checks days of audit records by themselves and against their digests."""

    records: AuditedDays
    digests: DayDigests

    async def run(self, since: date, until: date) -> AuditReport:
        """Verify the days from ``since`` to ``until``, both included. Raises DependencyError,
        RecordsUnavailableError, DocumentInvalidError (a digest that nobody can read)."""
        written, findings = await self.digests.written(), list[AuditFinding]()
        previous, hashes = await self._digest(since - _DAY, written), dict[tuple[str, date], set[str]]()
        first, chained, unchained = min(written.by_day, default=None), 0, 0
        due = day_of(written.now - _LATE)
        for day in (since + number * _DAY for number in range((until - since).days + 1)):
            records, stored = await self.records.audited(day), await self._digest(day, written)
            writers, loose = by_writer(records), sum(record.link is None for record in records)
            first = first or (day if writers else None)
            faults = [*_faults_of_chains(writers), *_faults_of_starts(day, writers, hashes, since=since)]
            digest = None if stored is None else _read(stored, day)
            # In a folder a clock that was ahead may have dated the first digest: then the second replaces it.
            replaces = digest is not None and digest.replaces
            if any(each.key != key_of(day) or not replaces for each in written.writes(day)[1:]):
                faults.append(("digest", "rewritten", f"{key_of(day)} was written or deleted again."))
            if digest is not None:
                faults += _faults_of_digest(day, digest, previous)
                faults += _faults_by_digest(writers, loose, digest) if digest.day == day else []
            elif first is not None and first <= day < due:
                faults.append(("day", "missing day", "No digest of it was written after it ended."))
            if loose and first is not None and day > first:
                faults.append(("release", "unchained", f"{loose} records have no chain."))
            findings += [
                AuditFinding(day=day, fault=fault, said=f"{said} {_ADVICE[about]}")
                for about, fault, said in faults
            ]
            previous, chained, unchained = stored, chained + len(records) - loose, unchained + loose
        return AuditReport(
            since=since,
            until=until,
            days=sum(since <= day <= until for day in filter(written.counted, written.by_day)),
            writers=len(hashes),
            records=chained,
            unchained=unchained,
            chained_from=first,
            findings=tuple(findings),
        )

    async def _digest(self, day: date, written: WrittenDigests) -> bytes | None:
        version = written.counted(day)
        return None if version is None else await self.digests.get(version)


Fault = tuple[str, str, str]
"""A key of ``_ADVICE``, the fault, and what was found."""


def _faults_of_starts(
    day: date, writers: Mapping[str, Chain], hashes: dict[tuple[str, date], set[str]], *, since: date
) -> Iterator[Fault]:
    """Yield each writer of the day that has lost the record, of a day before, which its start record names.

    ``hashes``: of the records of each writer and day from ``since`` on; those of this day are added.
    """
    for writer, chain in writers.items():
        hashes[writer, day] = {each.hash for same in chain.values() for each in same}
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
    if digest.day != day:
        yield "digest", "swapped", f"{key_of(day)} is the digest of {digest.day}."
    elif digest.previous != _hash_of(previous):
        if previous is None:
            yield "digest", "missing day", f"It names a digest of {day - _DAY}, and there is none."
        elif digest.previous != (_read(previous, day - _DAY).replaces or None):
            yield "digest", "altered", f"It names another digest of {day - _DAY} than is there."


def _faults_of_chains(writers: Mapping[str, Chain]) -> Iterator[Fault]:
    """Yield what the records of a day show by themselves."""
    for writer, chain in writers.items():
        for before, sequence in pairwise((-1, *chain)):
            same, name = chain[sequence], f"number {sequence} of writer {writer}"
            if len(same) > 1:
                yield "record", "fork", f"{len(same)} records are {name}: all but one were added."
            if sequence > before + 1:
                count = sequence - before - 1
                yield "record", "gap", f"{count} records before {name} are gone."
            elif before >= 0 and not {each.previous for each in same} <= {
                each.hash for each in chain[before]
            }:
                yield "record", "altered", f"The record {name} or the one before it was altered."


def _faults_by_digest(writers: Mapping[str, Chain], loose: int, digest: DayDigest) -> Iterator[Fault]:
    """Yield where the records of a day are not those that the digest knows."""
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
        elif end.hash not in {each.hash for each in writers[writer][last]}:
            yield "record", "altered", f"The last record of writer {writer}, number {last}, was altered."
    if loose != digest.unchained:
        fault, known = "truncated" if loose < digest.unchained else "late", digest.unchained
        yield "record", fault, f"The digest knows {known} records without a chain; there are {loose}."
