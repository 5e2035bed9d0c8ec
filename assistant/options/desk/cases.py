"""The review desk as a reviewer sees it: the queue, one case, the gaps, the export.

A case is visible to somebody who has every access label under which its question was asked: a reviewer sees
all of those, a knowledge owner the ones with a document of a source that they may write. Another case is
answered as an unknown one. Reading an agent's question or answer is recorded.

A case lives as revisions of a desk item. In a list of the queue, cases of the same question are one line:
the first one, with the number of those that joined it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from assistant.documents.sources import KnowledgeSources
from assistant.domain.answers import AnswerRecord, StoredAnswer
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.desk import (
    JOINED,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    body_of_item,
    case_id,
    first_revision,
)
from assistant.domain.documents import DocumentStatus
from assistant.domain.errors import ConflictError, InvalidRequestError, NotFoundError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel, fields_of
from assistant.options.desk import bodies
from assistant.service.stored import ReadAnswers
from assistant.stores.desk import StoredDesk
from assistant.stores.documents import KnowledgeStores
from assistant.stores.ports import TextEmbedder
from assistant.stores.records import StoredRecords

UPKEEP = "desk"
"""``by`` of a revision that the service makes without a person's decision."""
OPENED_AGAIN: Mapping[str, object] = {
    "state": CaseState.OPEN,
    "resolution": None,
    "resolved_by": None,
    "approved_by": None,
}
"""Update of a case's fields that reopens it."""
MOST_CASES = 5_000
"""Newest cases of each state that the queue, the gaps and the export read."""
CLOSED = (CaseState.RESOLVED, CaseState.DISMISSED)
UNRESOLVED = tuple(state for state in CaseState if state not in CLOSED)
_READ_AT_ONCE = 16
"""Records that are read at the same time."""
_EXAMPLES = 3
"""Questions that are shown of a gap."""
_PAGE = 100
"""Lines of the export that are read at once, and cases that are read between two pauses for other
requests."""


@dataclass(frozen=True, slots=True)
class DeskServices:
    """Stores and settings of one tenant's desk, and what all its parts do with them."""

    store: StoredDesk
    records: StoredRecords
    answers: ReadAnswers
    knowledge: KnowledgeStores
    sources: KnowledgeSources
    embedder: TextEmbedder
    embedding_model: str
    labels: tuple[str, ...]
    """The tenant's vocabulary of access labels."""
    needs_two_people: bool
    """Under the deployment profile ``hipaa``: nothing goes live by one person's decision."""
    open_cases_per_agent: int
    clock: Clock

    def owns(self, identity: Identity) -> Callable[[str], bool]:
        """Return a predicate of document ids: whether the caller may write the document's source."""
        writable = self.sources.writable_by(identity)
        return lambda document_id: self.sources.of_document(document_id) in writable

    def may_see(self, identity: Identity, labels: Collection[str], documents: Iterable[str]) -> bool:
        """Return whether a reviewer or owner may see a case.

        ``labels``: the access labels under which its question was asked. ``documents``: ids of its documents.
        """
        if not identity.labels.issuperset(labels):
            return False
        if Role.REVIEWER in identity.roles:
            return True
        named = [name for name in documents if "/" not in name]  # "approved/…" has no owner
        return Role.KNOWLEDGE_OWNER in identity.roles and any(map(self.owns(identity), named))

    async def titles(self, names: Iterable[str], *, identity: Identity) -> dict[str, str]:
        """Return titles by id of those documents that the reader may know of."""
        statuses = await self.knowledge.states.get_many(list(dict.fromkeys(names)))
        return {
            name: status.title for name, status in statuses.items() if is_open_to(status, identity.labels)
        }

    async def record_read(self, subject: str, titles: Mapping[str, str], *, identity: Identity) -> None:
        """Record what the reader sees at the desk; call it before anything is shown.

        ``subject``: what is read, such as "case:<id>" or "gaps". ``titles``: titles of the documents by id.
        """
        entry = AccessEntry(at=self.clock.now(), agent=identity.agent, kind="desk", subject_id=subject)
        shown = {"documents": tuple(titles), "titles": tuple(titles.values())}
        await self.records.record_access(entry.model_copy(update=shown))

    async def put_next(self, item: DeskItem, body: PublicModel, *, by: str, note: str) -> DeskItem:
        """Add the revision after ``item``, and return it. Raises ConflictError when another one was made
        meanwhile, RecordsUnavailableError."""
        update = {"revision": item.revision + 1, "at": self.clock.now(), "by": by, "note": note}
        revision = item.model_copy(update={**update, "body": body.model_dump_json()})
        await self.store.put(revision)
        return revision


@dataclass(frozen=True, slots=True)
class StoredCase:
    """A case with the desk item of its newest revision."""

    item: DeskItem
    case: Case
    joined: int = 0
    """Number of visible cases that joined it; 0 where one case is read by itself."""

    @property
    def place(self) -> tuple[datetime, str]:
        """Sort key of the queue, in which the greatest comes first."""
        return self.case.opened_at, self.item.item_id


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Which cases of the queue are wanted; None in a field takes all. The caller filters by ``state``."""

    state: CaseState | None = None
    reason: CaseReason | None = None
    gap: str | None = None
    document_id: str | None = None

    def wants(self, case: Case) -> bool:
        """Return whether a case fits all fields but ``state``."""
        return (
            self.reason in (None, case.reason)
            and self.gap in (None, case.gap)
            and (self.document_id is None or self.document_id in case.documents)
        )


async def open_case(store: StoredDesk, case: Case, *, by: str, note: str = "") -> DeskItem | None:
    """Open the one case of an answer and reason. Return the existing case; None where this one was opened.

    Raises RecordsUnavailableError.
    """
    item_id = case_id(case.answer_id, case.reason)
    existing = await store.get(DeskKind.CASE, item_id)
    if existing is None:
        first = first_revision(DeskKind.CASE, item_id, case, by=by, at=case.opened_at, note=note)
        with suppress(ConflictError):  # another process opened it in this moment
            await store.put(first)
    return existing


def not_found() -> NotFoundError:
    """Return the error for an unknown case and for one that the reader may not see: they must not differ."""
    return NotFoundError("There is no such thing, or it is not yours.")


def check_revision(item: DeskItem, revision: int) -> None:
    """Raise ConflictError unless the change was made on the newest revision."""
    if item.revision != revision:
        raise ConflictError(
            f"The newest revision is {item.revision}, made by {item.by};"
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
    ) -> tuple[list[bodies.DeskCaseLine], str | None]:
        """Return up to ``limit`` lines of the queue, the latest opened first, and the ``after`` of the next
        page; None after the last.

        ``after``: id of the last case of the page before. Raises InvalidRequestError for an ``after`` that no
        page gave.
        """
        states = CaseState if wanted.state is None else (wanted.state,)
        cases = await self._visible(identity, states)
        if after is not None:
            try:
                previous = await self.find(after, identity=identity)
            except NotFoundError:
                message = "after must be the next_after of a page of this queue."
                raise InvalidRequestError(message) from None
            cases = [stored for stored in cases if stored.place < previous.place]
        wanted_cases = [stored for stored in cases if wanted.wants(stored.case)]
        lines = await self._lines(wanted_cases[:limit], identity=identity, subject="cases")
        return lines, wanted_cases[limit - 1].item.item_id if len(wanted_cases) > limit else None

    async def find(self, case_id: str, *, identity: Identity) -> StoredCase:
        """Return a case. Raises NotFoundError for an unknown one, and equally for one that is not visible."""
        item = await self._services.store.get(DeskKind.CASE, case_id)
        if item is None:
            raise not_found()
        stored = StoredCase(item, body_of_item(item, Case))
        if not self._services.may_see(identity, stored.case.reader_labels, stored.case.documents):
            raise not_found()
        return stored

    async def read(self, case_id: str, *, identity: Identity) -> bodies.DeskCase:
        """Return a case with its answer's texts, under the reader's own labels. Raises as ``find``, and
        DependencyError."""
        stored = await self.find(case_id, identity=identity)
        titles = await self._services.titles(stored.case.documents, identity=identity)
        await self._services.record_read(f"case:{case_id}", titles, identity=identity)
        try:
            answer = await self._services.answers.for_review(stored.case.answer_id, identity=identity)
        except NotFoundError:  # nothing of the record is kept
            answer = None
        history = await self._services.store.history(DeskKind.CASE, case_id)
        return _desk_case(stored, answer, history)

    async def gaps(self, *, identity: Identity) -> list[bodies.DeskGap]:
        """Return the gaps with open cases, the largest first. Each has its oldest questions as examples."""
        by_gap: dict[str, list[StoredCase]] = {}
        for stored in await self._visible(identity, (CaseState.OPEN,)):
            if stored.case.gap is not None:
                by_gap.setdefault(stored.case.gap, []).append(stored)
        examples_of = {gap: cases[::-1][:_EXAMPLES] for gap, cases in by_gap.items()}
        example_cases = [stored for cases in examples_of.values() for stored in cases]
        if example_cases:
            await self._services.record_read("gaps", {}, identity=identity)
        questions = await self._questions(example_cases)
        gaps: list[bodies.DeskGap] = []
        for name, cases in by_gap.items():
            answer_ids = [stored.case.answer_id for stored in examples_of[name]]
            examples = tuple(questions[answer_id] for answer_id in answer_ids if answer_id in questions)
            gap = bodies.DeskGap(
                gap=name,
                count=sum(1 + case.joined for case in cases),
                title=examples[0] if examples else name,
                examples=examples,
                case_ids=tuple(case.item.item_id for case in cases),
            )
            gaps.append(gap)
        return sorted(gaps, key=lambda gap: (-gap.count, gap.title))

    async def export(self, *, identity: Identity) -> AsyncIterator[bodies.DeskCaseLine]:
        """Yield the visible cases, the latest opened first."""
        cases = await self._visible(identity, CaseState)
        for start in range(0, len(cases), _PAGE):
            page = cases[start : start + _PAGE]
            for line in await self._lines(page, identity=identity, subject="export"):
                yield line

    async def put_case(self, stored: StoredCase, update: Mapping[str, object], *, by: str, note: str) -> None:
        """Add a revision of a case with these fields changed.

        Raises ConflictError when another revision was made meanwhile.
        """
        await self._services.put_next(stored.item, stored.case.model_copy(update=update), by=by, note=note)

    async def _visible(self, identity: Identity, states: Iterable[CaseState]) -> list[StoredCase]:
        """Return the visible cases in these states that joined no other one, the latest opened first, each
        with the number of those that joined it."""
        visible: list[tuple[DeskItem, Case]] = []
        joined: Counter[str | None] = Counter()
        async for item, case in read_cases(self._services.store, (*states, JOINED)):
            if self._services.may_see(identity, case.reader_labels, case.documents):
                visible.append((item, case))
                joined[case.joined] += 1
        first = [
            StoredCase(item, case, joined[item.item_id]) for item, case in visible if case.joined is None
        ]
        return sorted(first, key=lambda stored: stored.place, reverse=True)

    async def _lines(
        self, cases: Sequence[StoredCase], *, identity: Identity, subject: str
    ) -> list[bodies.DeskCaseLine]:
        if not cases:
            return []
        names = (name for stored in cases for name in stored.case.documents)
        titles = await self._services.titles(names, identity=identity)
        await self._services.record_read(subject, titles, identity=identity)
        questions = await self._questions(cases)
        return [
            bodies.DeskCaseLine(
                case_id=stored.item.item_id,
                revision=stored.item.revision,
                question=questions.get(stored.case.answer_id),
                documents=tuple(
                    bodies.DeskDocument(document_id=name, title=titles[name])
                    for name in stored.case.documents
                    if name in titles
                ),
                joined=stored.joined,
                **fields_of(stored.case, bodies.DeskCaseLine, but=("documents", "joined")),
            )
            for stored in cases
        ]

    async def _questions(self, cases: Sequence[StoredCase]) -> Mapping[str, str]:
        """Return questions by answer id, of those whose record is kept."""
        answer_ids = dict.fromkeys(stored.case.answer_id for stored in cases)
        records = await read_records(self._services.records, answer_ids)
        return {record.answer_id: record.question for record in records}


def _desk_case(
    stored: StoredCase, answer: StoredAnswer | None, history: Iterable[DeskItem]
) -> bodies.DeskCase:
    """Return the case as it is served; without an answer's texts where ``answer`` is None."""
    verdicts, sent = ((), ()) if answer is None else (answer.verdicts, answer.sent)
    better = [marked.verdict.better_text for marked in verdicts if marked.verdict.better_text]
    revisions = [
        bodies.DeskRevision(
            **fields_of(body_of_item(item, Case), bodies.DeskRevision) | fields_of(item, bodies.DeskRevision)
        )
        for item in history
    ]
    return bodies.DeskCase(
        case_id=stored.item.item_id,
        revision=stored.item.revision,
        case=stored.case,
        asked="" if answer is None else answer.record.question,
        shown="" if answer is None else answer.record.text,
        sent=tuple(bodies.DeskSent(at=sending.at, text=sending.sent.text) for sending in sent),
        better_text=better[-1] if better else None,
        verdicts=tuple(
            bodies.DeskVerdict(at=marked.at, **fields_of(marked.verdict, bodies.DeskVerdict))
            for marked in verdicts
        ),
        sources=() if answer is None else answer.sources,
        history=tuple(revisions),
    )


async def read_cases(store: StoredDesk, lists: Iterable[str]) -> AsyncIterator[tuple[DeskItem, Case]]:
    """Yield up to ``MOST_CASES`` cases of each list, list by list, the latest changed first.

    ``lists``: states, or ``JOINED`` for the cases that joined another one.
    """
    for listed in lists:
        for number, item in enumerate(await store.list(DeskKind.CASE, listed=listed, limit=MOST_CASES)):
            if number % _PAGE == 0:
                await asyncio.sleep(0)  # thousands of cases: let answers run between them
            yield item, body_of_item(item, Case)


async def read_records(records: StoredRecords, answer_ids: Iterable[str]) -> list[AnswerRecord]:
    """Return the records that exist, in the order of ``answer_ids``; 16 reads at the same time."""
    slots = asyncio.Semaphore(_READ_AT_ONCE)

    async def read(answer_id: str) -> AnswerRecord | None:
        async with slots:
            return await records.get_answer(answer_id)

    read_in_order = await asyncio.gather(*(read(answer_id) for answer_id in answer_ids))
    return [record for record in read_in_order if record is not None]
