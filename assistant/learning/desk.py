"""The review desk as a reviewer sees it: the queue, one case, the gaps, the export.

A case is visible to who holds every access label under which its question was asked: a reviewer sees all of
those, a knowledge owner the ones with a document of a source that they may write. Every other case is not
there for them, by the same path as an unknown one. Reading an agent's question or answer is recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from assistant.answering.ports import AnswerRecords, TextEmbedder
from assistant.answering.stored import ReadAnswers
from assistant.domain.answers import AccessEntry, AnswerRecord, StoredAnswer
from assistant.domain.clock import Clock
from assistant.domain.desk import (
    Case,
    CaseReason,
    CaseState,
    DeskCaseLine,
    DeskDocument,
    DeskGap,
    DeskItem,
    DeskKind,
)
from assistant.domain.documents import DocumentStatus
from assistant.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RecordsUnavailableError,
)
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel, fields_of
from assistant.knowledge.add_documents import AddDocuments
from assistant.knowledge.ports import KnowledgeStores
from assistant.knowledge.sources import KnowledgeSources
from assistant.learning.ports import DeskStore

UPKEEP = "desk"
"""Who makes a revision that no person decided on."""
OPENED_AGAIN: Mapping[str, object] = {
    "state": CaseState.OPEN,
    "resolution": None,
    "resolved_by": None,
    "approved_by": None,
}
"""What a case loses when it is open again."""
MOST_CASES = 5_000
"""Newest cases that the queue, the gaps and the export read."""
_READ_AT_ONCE = 16
_EXAMPLES = 3
_PAGE = 100
Body = TypeVar("Body", bound=PublicModel)


@dataclass(frozen=True, slots=True)
class DeskServices:
    """What the desk of one tenant works with."""

    store: DeskStore
    records: AnswerRecords
    answers: ReadAnswers
    knowledge: KnowledgeStores
    sources: KnowledgeSources
    add_documents: AddDocuments
    embedder: TextEmbedder
    embedding_model: str
    labels: tuple[str, ...]
    """The tenant's vocabulary of access labels."""
    needs_two_people: bool
    """Under the deployment profile ``hipaa``: nothing goes live by one person's decision."""
    clock: Clock

    def owns(self, identity: Identity) -> Callable[[str], bool]:
        """Return what says whether a document is of a source that the caller may write."""
        writable = self.sources.writable_by(identity)
        return lambda document_id: self.sources.of_document(document_id) in writable

    def may_see(self, identity: Identity, labels: Collection[str], documents: Iterable[str]) -> bool:
        """Return whether a reviewer or owner may see what was asked under these labels of these documents."""
        if not identity.labels.issuperset(labels):
            return False
        if Role.REVIEWER in identity.roles:
            return True
        named = [name for name in documents if "/" not in name]  # an approved answer has no owner
        return Role.KNOWLEDGE_OWNER in identity.roles and any(map(self.owns(identity), named))

    async def put_next(self, item: DeskItem, body: PublicModel, *, by: str, note: str) -> DeskItem:
        """Add the revision after ``item``, and return it. Raises ConflictError when another one was made
        meanwhile, RecordsUnavailableError."""
        update = {"revision": item.revision + 1, "at": self.clock.now(), "by": by, "note": note}
        revision = item.model_copy(update={**update, "body": body.model_dump_json()})
        await self.store.put(revision)
        return revision


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case with the revision that it stands at."""

    item: DeskItem
    case: Case
    joined: int = 0
    """Cases that joined it, in a list."""


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases of the queue are wanted; None takes all."""

    state: CaseState | None = None
    reason: CaseReason | None = None
    gap: str | None = None
    document_id: str | None = None

    def wants(self, case: Case) -> bool:
        return (
            self.state in (None, case.state)
            and self.reason in (None, case.reason)
            and self.gap in (None, case.gap)
            and (self.document_id is None or self.document_id in case.documents)
        )


@dataclass(frozen=True, slots=True)
class CaseReading:
    """One case, whole."""

    stored: StoredCase
    answer: StoredAnswer | None
    """Under the reader's own labels; None where the record is missing."""
    history: tuple[DeskItem, ...]
    """All revisions, oldest first."""


def body_of_item(item: DeskItem, model: type[Body]) -> Body:
    """Raises RecordsUnavailableError for a body that a later release wrote."""
    try:
        return model.model_validate_json(item.body)
    except ValidationError:
        raise RecordsUnavailableError(
            f"The desk's {item.kind.value} {item.item_id} is of another release. Update this process."
        ) from None


def first_revision(
    kind: DeskKind, item_id: str, body: PublicModel, *, by: str, at: datetime, note: str = ""
) -> DeskItem:
    """Return a new item."""
    return DeskItem(
        kind=kind, item_id=item_id, revision=1, at=at, by=by, note=note, body=body.model_dump_json()
    )


def case_id(answer_id: str, reason: CaseReason) -> str:
    """Return the id of the one case of an answer and a reason: 32 hexadecimal digits."""
    return hashlib.sha256(f"{answer_id}#{reason.value}".encode()).hexdigest()[:32]


async def open_case(store: DeskStore, case: Case, *, by: str, note: str = "") -> DeskItem | None:
    """Open the one case of its answer and reason; return the one that is there already, if there is one.

    Raises RecordsUnavailableError."""
    item_id = case_id(case.answer_id, case.reason)
    existing = await store.get(DeskKind.CASE, item_id)
    if existing is None:
        first = first_revision(DeskKind.CASE, item_id, case, by=by, at=case.opened_at, note=note)
        with suppress(ConflictError):  # another process opened it in this moment
            await store.put(first)
    return existing


def not_found() -> NotFoundError:
    return NotFoundError("There is no such thing, or it is not yours.")


def check_revision(item: DeskItem, revision: int) -> None:
    """Raise ConflictError unless the change was made on the newest revision."""
    if item.revision != revision:
        raise ConflictError(
            f"The newest revision is {item.revision}, made by {item.by} at {item.at:%Y-%m-%d %H:%M} UTC;"
            f" the change was made on revision {revision}. Read it again, then decide."
        )


def is_open_to(status: DocumentStatus | None, labels: Collection[str]) -> bool:
    """Return whether a reader with these labels may know of the document; None is an unknown document."""
    if status is None:
        return False
    needed = set(status.labels or ()) or set(status.live_labels or ())
    return not needed or not needed.isdisjoint(labels)


class ReviewDesk:
    """Reads the desk for reviewers and knowledge owners. All methods raise RecordsUnavailableError."""

    def __init__(self, services: DeskServices) -> None:
        self._services = services

    async def page(
        self, wanted: CaseFilter, *, identity: Identity, after: str | None = None, limit: int = 50
    ) -> tuple[list[DeskCaseLine], str | None]:
        """Return the next lines of the queue, the latest opened first, and where the page after begins.

        Raises InvalidRequestError for an ``after`` that no page gave.
        """
        cases = await self._visible(identity)
        if after is not None:
            places = [place for place, stored in enumerate(cases) if stored.item.item_id == after]
            if not places:
                raise InvalidRequestError("after must be the next_after of a page of this queue.")
            cases = cases[places[0] + 1 :]
        wanted_cases = [stored for stored in cases if wanted.wants(stored.case)]
        lines = await self._lines(wanted_cases[:limit], identity=identity, subject="cases")
        return lines, wanted_cases[limit - 1].item.item_id if len(wanted_cases) > limit else None

    async def find(self, case_id: str, *, identity: Identity) -> StoredCase:
        """Return a case. Raises NotFoundError (unknown, or not visible: one path for both)."""
        item = await self._services.store.get(DeskKind.CASE, case_id)
        if item is None:
            raise not_found()
        stored = StoredCase(item, body_of_item(item, Case))
        if not self._services.may_see(identity, stored.case.reader_labels, stored.case.documents):
            raise not_found()
        return stored

    async def one(self, case_id: str, *, identity: Identity) -> CaseReading:
        """Return a case with its answer's texts. Raises as ``find``, and DependencyError."""
        stored = await self.find(case_id, identity=identity)
        try:
            answer = await self._services.answers.for_review(stored.case.answer_id, identity=identity)
        except NotFoundError:  # nothing of the record is kept
            answer = None
        history = await self._services.store.history(DeskKind.CASE, case_id)
        return CaseReading(stored, answer, tuple(history))

    async def gaps(self, *, identity: Identity) -> list[DeskGap]:
        """Return the gaps with open cases, the largest first."""
        by_gap: dict[str, list[StoredCase]] = {}
        for stored in await self._visible(identity):
            if stored.case.gap is not None and stored.case.state is CaseState.OPEN:
                by_gap.setdefault(stored.case.gap, []).append(stored)
        shown = {gap: cases[::-1][:_EXAMPLES] for gap, cases in by_gap.items()}
        first = [stored for cases in shown.values() for stored in cases]
        questions = await self._questions(first, identity=identity, subject="gaps")
        gaps: list[DeskGap] = []
        for gap, cases in by_gap.items():
            examples = [
                questions[one.case.answer_id] for one in shown[gap] if one.case.answer_id in questions
            ]
            gaps.append(
                DeskGap(
                    gap=gap,
                    count=sum(1 + case.joined for case in cases),
                    title=examples[0] if examples else gap,
                    examples=tuple(examples),
                    case_ids=tuple(case.item.item_id for case in cases),
                )
            )
        return sorted(gaps, key=lambda one: (-one.count, one.title))

    async def export(self, *, identity: Identity) -> AsyncIterator[DeskCaseLine]:
        """Yield every visible case, the latest opened first."""
        cases = await self._visible(identity)
        for start in range(0, len(cases), _PAGE):
            page = cases[start : start + _PAGE]
            for line in await self._lines(page, identity=identity, subject="export"):
                yield line

    async def put_case(self, stored: StoredCase, case: Case, *, by: str, note: str) -> None:
        """Add a revision of a case. Raises ConflictError when another one was made meanwhile."""
        await self._services.put_next(stored.item, case, by=by, note=note)

    async def _visible(self, identity: Identity) -> list[StoredCase]:
        """Return all visible cases that joined no other one, the latest opened first."""
        visible: list[tuple[DeskItem, Case]] = []
        joined: Counter[str | None] = Counter()
        async for item, case in read_cases(self._services.store):
            if self._services.may_see(identity, case.reader_labels, case.documents):
                visible.append((item, case))
                joined[case.joined] += 1
        first = [
            StoredCase(item, case, joined[item.item_id]) for item, case in visible if case.joined is None
        ]
        return sorted(first, key=lambda one: (one.case.opened_at, one.item.item_id), reverse=True)

    async def _lines(
        self, cases: Sequence[StoredCase], *, identity: Identity, subject: str
    ) -> list[DeskCaseLine]:
        questions = await self._questions(cases, identity=identity, subject=subject)
        names = list(dict.fromkeys(name for stored in cases for name in stored.case.documents))
        statuses = await self._services.knowledge.states.get_many(names)
        titles = {
            name: status.title for name, status in statuses.items() if is_open_to(status, identity.labels)
        }
        return [
            DeskCaseLine(
                case_id=stored.item.item_id,
                revision=stored.item.revision,
                question=questions.get(stored.case.answer_id),
                documents=tuple(
                    DeskDocument(document_id=name, title=titles[name])
                    for name in stored.case.documents
                    if name in titles
                ),
                joined=stored.joined,
                **fields_of(stored.case, DeskCaseLine, but=("documents", "joined")),
            )
            for stored in cases
        ]

    async def _questions(
        self, cases: Sequence[StoredCase], *, identity: Identity, subject: str
    ) -> Mapping[str, str]:
        """Return the questions by answer, after recording that the reader sees them."""
        if not cases:
            return {}
        entry = AccessEntry(
            at=self._services.clock.now(), agent=identity.agent, kind="desk", subject_id=subject
        )
        await self._services.records.record_access(entry)
        answer_ids = dict.fromkeys(stored.case.answer_id for stored in cases)
        records = await read_records(self._services.records, answer_ids)
        return {record.answer_id: record.question for record in records}


async def read_cases(store: DeskStore) -> AsyncIterator[tuple[DeskItem, Case]]:
    """Yield the newest cases, the latest changed first."""
    for number, item in enumerate(await store.list(DeskKind.CASE, limit=MOST_CASES)):
        if number % _PAGE == 0:
            await asyncio.sleep(0)  # thousands of cases: let answers run between them
        yield item, body_of_item(item, Case)


async def read_records(records: AnswerRecords, answer_ids: Iterable[str]) -> list[AnswerRecord]:
    """Return the records that exist, in the order asked for."""
    free = asyncio.Semaphore(_READ_AT_ONCE)

    async def read(answer_id: str) -> AnswerRecord | None:
        async with free:
            return await records.get_answer(answer_id)

    found = await asyncio.gather(*(read(answer_id) for answer_id in answer_ids))
    return [record for record in found if record is not None]
