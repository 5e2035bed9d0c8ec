"""Audit records as chains: each record of a writer names the one before it by its hash, and a digest closes
each day.

A writer is one process's store of one tenant, with a random id. Its records of one day are a chain of their
own, so that a day is checked by its records alone. The chain begins with a start record, which names the last
record of the same writer before that day.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256

import orjson

from assistant.domain.public import PublicModel


class AuditLink(PublicModel):
    """Where a record is in its writer's chain."""

    writer: str
    day: date
    """In UTC: of the time that the record is about."""
    sequence: int
    """0 is the start record."""
    previous: str
    """SHA-256 (hex) of the record before; of a start record that of the writer's last record before that day,
    empty where it has none."""


class WriterStart(PublicModel):
    """The content of a start record."""

    kind: str
    """The program."""
    task: str
    """The task on ECS, the function's log stream, or host and process."""
    at: datetime
    follows: date | None = None
    """Day of the record that ``previous`` names."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    content: str
    """JSON, as it is stored."""
    link: AuditLink | None
    """None: written by a release without chains."""


def hash_of(record: AuditRecord) -> str:
    """Return the SHA-256 (hex) of link and content as canonical JSON: sorted keys, no spaces, UTF-8."""
    link = None if record.link is None else record.link.model_dump(mode="json")
    whole = {"link": link, "content": orjson.loads(record.content)}
    return sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def link_after(content: str, link: AuditLink) -> AuditLink:
    """Return the place of the record that follows this one."""
    previous = hash_of(AuditRecord(content, link))
    return link.model_copy(update={"sequence": link.sequence + 1, "previous": previous})


class WriterEnd(PublicModel):
    """How far a writer's chain of a day goes."""

    writer: str
    sequence: int
    """Of the last record."""
    hash: str
    """Of the last record."""
    count: int
    """With the start record."""


class DayDigest(PublicModel):
    """What there was of a day's audit records when it was closed."""

    day: date
    previous: str
    """SHA-256 (hex) of the digest of the day before, as it is stored; empty in the first one."""
    writers: tuple[WriterEnd, ...]
    unchained: int
    """Records without a link."""
    replaces: str = ""
    """SHA-256 (hex) of the first digest of this day, where that was written before the day had ended."""


def day_of(at: datetime) -> date:
    return at.astimezone(UTC).date()


@dataclass(frozen=True, slots=True)
class Chained:
    """A record in its chain."""

    hash: str
    previous: str
    content: str


def by_writer(records: Iterable[AuditRecord]) -> dict[str, dict[int, list[Chained]]]:
    """Return the chained records by writer and sequence, in order. There is one of each, unless somebody
    changed them."""
    writers: dict[str, dict[int, list[Chained]]] = defaultdict(lambda: defaultdict(list))
    chained = [(each.link, each) for each in records if each.link is not None]
    for link, record in sorted(chained, key=lambda pair: (pair[0].writer, pair[0].sequence)):
        kept = Chained(hash_of(record), link.previous, record.content)
        writers[link.writer][link.sequence].append(kept)
    return writers


def digest_of(day: date, records: Sequence[AuditRecord], *, previous: str) -> DayDigest:
    ends: list[WriterEnd] = []
    for writer, chain in by_writer(records).items():
        last, count = max(chain), sum(map(len, chain.values()))
        ends.append(WriterEnd(writer=writer, sequence=last, hash=chain[last][0].hash, count=count))
    unchained = sum(record.link is None for record in records)
    return DayDigest(day=day, previous=previous, writers=tuple(ends), unchained=unchained)
