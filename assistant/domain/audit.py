"""Audit records: who saw what, and which live systems were read; and the chains that they form.

Each record of a writer names the one before it by its hash, and a digest closes each day. A writer is one
process's store of one tenant, with a random id. Its records of one day are a chain of their own, so that a
day is checked by its records alone. The chain begins with a start record, which names the last record of the
same writer before that day. Example of two days of the writer ``a``::

    2026-03-01   start (sequence 0)  <-  record 1  <-  record 2
    2026-03-02   start (sequence 0, previous = hash of record 2, follows = 2026-03-01)  <-  record 1

``assistant.stores.audit`` writes chains and digests and verifies them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Annotated, Literal

import orjson
from pydantic import Field, StringConstraints
from pydantic.json_schema import SkipJsonSchema

from assistant.domain.public import PublicModel, RecordId

SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
"""Name of a ``[[reach]]`` entry."""


class AccessEntry(PublicModel):
    """One recorded sight of documents or records: by a read, or by an answer that was given."""

    at: datetime
    agent: str
    """Who saw it."""
    kind: Literal[
        "asked",
        "answer",
        "conversation",
        "document",
        "search",
        "verdicts",
        "audit",
        "widening",
        "release",
        "desk",
        "said",
    ]
    """``asked``: the agent was given an answer, and its sources with it. ``answer``, ``conversation``: an
    auditor, or a reviewer at the desk, read another's. ``desk``: a reviewer saw agents' questions in a list,
    a case (``case:ID``), what reviewers made (``items``, ``KIND:ID``), or took the desk's export.
    ``document``: anybody read its text. ``search``: somebody searched from the command line, without a
    question's record. ``audit``: an auditor asked who saw what. ``widening``: somebody who does not hold a
    document's labels tried to make it readable to more, and was refused; they saw nothing by it.
    ``release``: a second person released documents of a source, which is the subject. ``said``: the agent
    judged the answer, sent a text or did something with it; an audit does not list it."""
    subject_id: str
    """Id of the answer, conversation or document; for an audit its filters."""
    documents: tuple[str, ...] = ()
    """Documents that it showed, each once: an answer's sources. Empty in entries of older releases."""
    quoted: tuple[str, ...] = ()
    """Documents whose text the answer quoted or cited."""
    titles: tuple[str, ...] = ()
    """At the desk: the documents' titles in the order of ``documents``, as the reader saw them."""
    contents: tuple[str, ...] = ()
    """Hash of each content that a release let answer, in the order of ``documents``."""
    rows: SkipJsonSchema[dict[str, str]] = Field(default_factory=dict, exclude_if=lambda rows: not rows)
    """SHA-256 of each row that was stored together with the entry, by the row's name. An audit leaves it
    out."""

    def shows(self, document_id: str) -> bool:
        """Return whether it showed the document, or was an attempt to widen its labels."""
        is_read = self.kind in ("document", "widening") and self.subject_id == document_id
        return is_read or document_id in self.documents


@dataclass(frozen=True, slots=True)
class AccessQuery:
    """Selects access entries: in [since, until), and of the document and the agent that are not None."""

    since: datetime
    until: datetime
    document_id: str | None = None
    agent: str | None = None
    after: str | None = None
    """``next_after`` of the page before."""
    limit: int = 100

    def wants(self, entry: AccessEntry) -> bool:
        """Return whether an entry matches the document and the agent; its time is not checked."""
        is_of_agent = entry.kind != "said" and self.agent in (None, entry.agent)
        return is_of_agent and (self.document_id is None or entry.shows(self.document_id))


@dataclass(frozen=True, slots=True)
class AccessPage:
    entries: tuple[AccessEntry, ...]
    """Oldest first."""
    next_after: str | None
    """Where the next page begins; None when there is none."""


class LiveRead(PublicModel):
    """The record of one read of a live system: who, whose, when and what, without any value."""

    read_id: RecordId
    at: datetime
    agent: str
    answer_id: RecordId | None = None
    """None for a test of a connector."""
    system: SystemName
    operation: str = Field(max_length=64)
    subject: str | None = Field(default=None, max_length=128)
    """Keyed pseudonym of whose data were asked for: the context's customer, else the id itself with its kind.
    None where the data are nobody's, or no id was given."""
    outcome: str = Field(max_length=40)
    """``ready`` or a code of ``ElementProblem``."""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class LiveReadQuery:
    """Selects reads of live systems: in [since, until), and of the agent and the customer that are not
    None."""

    since: datetime
    until: datetime
    agent: str | None = None
    subject: str | None = None
    """Keyed pseudonym of the customer."""
    after: str | None = None
    """``next_after`` of the page before, of the same query."""
    limit: int = 100

    def wants(self, read: LiveRead) -> bool:
        """Return whether the read matches agent and subject; its time is not checked."""
        return self.agent in (None, read.agent) and self.subject in (None, read.subject)


@dataclass(frozen=True, slots=True)
class LiveReadPage:
    reads: tuple[LiveRead, ...]
    next_after: str | None
    """Where the next page begins, opaque; None on the last one."""


def place_of(read: LiveRead) -> str:
    """Return the sort key of a read, oldest first: "2026-03-01T09:30:00.000000+00:00#<read_id>"."""
    return f"{read.at.astimezone(UTC).isoformat(timespec='microseconds')}#{read.read_id}"


# Chains


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
    """An audit record as the store has it."""

    content: str
    """JSON, as it is stored: of an AccessEntry, a LiveRead or a WriterStart."""
    link: AuditLink | None
    """None: written by a release without chains."""


def hash_of(record: AuditRecord) -> str:
    """Return the SHA-256 (hex) of link and content as canonical JSON: sorted keys, no spaces, UTF-8. Stored
    digests depend on this form: never change it."""
    link = None if record.link is None else record.link.model_dump(mode="json")
    whole = {"link": link, "content": orjson.loads(record.content)}
    return sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()


def link_after(content: str, link: AuditLink) -> AuditLink:
    """Return the link of the next record in the chain, after the record of ``content`` and ``link``."""
    previous = hash_of(AuditRecord(content, link))
    return link.model_copy(update={"sequence": link.sequence + 1, "previous": previous})


class WriterEnd(PublicModel):
    """How far a writer's chain of a day goes."""

    writer: str
    sequence: int
    """Sequence of the last record."""
    hash: str
    """Hash of the last record."""
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
    """Return the day in UTC whose chains and digest a record of that time belongs to."""
    return at.astimezone(UTC).date()


@dataclass(frozen=True, slots=True)
class Chained:
    """A record in its chain."""

    hash: str
    """Its own hash, which the next record must name as ``previous``."""
    previous: str
    content: str
    """JSON, as it is stored."""


def by_writer(records: Iterable[AuditRecord]) -> dict[str, dict[int, list[Chained]]]:
    """Return the chained records as {writer: {sequence: records}}, writers and sequences ascending.

    A list has one record. Two or more show that somebody added records. Unchained records are left out.
    """
    writers: dict[str, dict[int, list[Chained]]] = defaultdict(lambda: defaultdict(list))
    chained = [(record.link, record) for record in records if record.link is not None]
    for link, record in sorted(chained, key=lambda pair: (pair[0].writer, pair[0].sequence)):
        in_chain = Chained(hash_of(record), link.previous, record.content)
        writers[link.writer][link.sequence].append(in_chain)
    return writers


def digest_of(day: date, records: Sequence[AuditRecord], *, previous: str) -> DayDigest:
    """Return the digest of a day's records. ``previous``: hash of the digest of the day before, or empty."""
    ends: list[WriterEnd] = []
    for writer, chain in by_writer(records).items():
        last, count = max(chain), sum(map(len, chain.values()))
        ends.append(WriterEnd(writer=writer, sequence=last, hash=chain[last][0].hash, count=count))
    unchained = sum(record.link is None for record in records)
    return DayDigest(day=day, previous=previous, writers=tuple(ends), unchained=unchained)
