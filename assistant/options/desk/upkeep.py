"""Keeps approved answers and documents consistent.

The upkeep suspends an approved answer whose source changed or whose date has passed, and opens a case for the
reviewers. Until then nothing outdated is quoted: serving checks an answer's sources with every match. Each
process that serves runs the upkeep; of several that write the same revision, the store refuses all but one.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import date

import structlog

from assistant.documents.readable import pages_of
from assistant.domain.desk import (
    BoundSource,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    ItemState,
    Resolution,
    body_of_item,
    case_id,
)
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DocumentInvalidError,
)
from assistant.options.desk.approved import REMOVED_TEXT, ApprovedAnswer
from assistant.options.desk.cases import (
    CLOSED,
    OPENED_AGAIN,
    UNRESOLVED,
    UPKEEP,
    DeskServices,
    open_case,
    read_cases,
)
from assistant.stores.desk import StoredDesk

UPKEEP_EVERY_S = 10.0
_REVIEWS_EVERY_S = 3600.0
"""Review dates are days, so an hour is soon enough to read all documents' states."""
_MOST_REVIEWS = 100
"""Cases that one hourly run opens at most: one page of the desk. The next run opens the others."""
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_SAME_WORDS = "A source was read again, with the same words."
_NOT_PASSED = "Its date has not passed: the clock that suspended it was ahead."
# States of content that is stored and not searchable yet.
_PENDING = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
_log = structlog.get_logger(__name__)


class ApprovedTexts:
    """Finds and removes the texts of approved answers, in every revision, by the documents that are their
    sources. For one event loop."""

    def __init__(self, store: StoredDesk) -> None:
        self._store = store
        self._bound: dict[tuple[str, int], frozenset[str]] = {}
        """Ids of the source documents of all revisions whose text is not removed, by the item's id and newest
        revision: an item's history is read again only if it has a new one."""

    async def resting(self) -> Mapping[str, list[str]]:
        """Return by document id the ids of the answers with a text whose source it is."""
        answers_of: dict[str, list[str]] = {}
        bound: dict[tuple[str, int], frozenset[str]] = {}
        for item in await self._store.list(DeskKind.APPROVED_ANSWER):
            key = (item.item_id, item.revision)
            bound[key] = self._bound[key] if key in self._bound else await self._documents_of(item.item_id)
            for document_id in bound[key]:
                answers_of.setdefault(document_id, []).append(item.item_id)
        self._bound = bound
        return answers_of

    async def remove(self, document_id: str) -> int:
        """Remove every text with this source from every revision, and return the number of answers.

        A text that another revision has without this source is removed there too.
        """
        item_ids = (await self.resting()).get(document_id, [])
        for item_id in item_ids:
            revisions = await self._revisions(item_id)
            texts = {body.text for _, body in revisions if _rests_on(body, document_id)}
            # Revisions with this source come last: after a crash they still tell which texts to remove.
            for item, body in sorted(revisions, key=lambda pair: _rests_on(pair[1], document_id)):
                if body.text in texts:
                    blank = body.model_copy(update={"text": REMOVED_TEXT})
                    await self._store.rewrite(item.model_copy(update={"body": blank.model_dump_json()}))
            self._bound = {key: names for key, names in self._bound.items() if key[0] != item_id}
            _log.info("approved_text_removed", item_id=item_id, document_id=document_id)
        return len(item_ids)

    async def _documents_of(self, item_id: str) -> frozenset[str]:
        bodies = [body for _, body in await self._revisions(item_id) if body.text != REMOVED_TEXT]
        return frozenset(bound.document_id for body in bodies for bound in body.sources)

    async def _revisions(self, item_id: str) -> list[tuple[DeskItem, ApprovedAnswer]]:
        items = await self._store.history(DeskKind.APPROVED_ANSWER, item_id)
        return [(item, body_of_item(item, ApprovedAnswer)) for item in items]


def _rests_on(body: ApprovedAnswer, document_id: str) -> bool:
    return any(bound.document_id == document_id for bound in body.sources)


class DeskUpkeep:
    """Watches one tenant's approved answers and review dates. For one event loop.

    What it reads from the desk is kept until the desk's version changes: ``_dated`` and ``_resting``.
    """

    def __init__(self, services: DeskServices) -> None:
        self._services = services
        self._states = services.knowledge.states
        self._reviews = ReviewDates(services)
        self._version = -1
        self._dated: list[tuple[DeskItem, ApprovedAnswer]] = []
        """Approved answers that are live, or were suspended because their date had passed."""
        self._texts = ApprovedTexts(services.store)
        self._resting: Mapping[str, list[str]] = {}
        """As ``ApprovedTexts.resting``."""
        self._is_away = False
        """Whether the last run failed, which is logged already."""

    async def run(self) -> None:
        """Work every 10 s until cancelled. Of failures in a row, the first is logged."""
        while True:
            try:
                await self()
                self._is_away = False
            except AssistantError as error:
                if not self._is_away:
                    _log.warning("desk_upkeep_failed", reason=error.code)
                self._is_away = True
            await asyncio.sleep(UPKEEP_EVERY_S)

    async def __call__(self) -> None:
        """Suspend approved answers that may not be live, remove texts of withdrawn documents, and open cases
        for review dates.

        Raises RecordsUnavailableError, DependencyError.
        """
        version = await self._services.store.version()
        if version != self._version:
            self._dated = await self._read_dated()
            self._resting = await self._texts.resting()
            self._version = version
        if self._dated:
            await self._suspend()
        for document_id, status in (await self._states.get_many(list(self._resting))).items():
            if status.state is DocumentState.WITHDRAWN:
                await self._texts.remove(document_id)
        await self._reviews()

    async def _read_dated(self) -> list[tuple[DeskItem, ApprovedAnswer]]:
        items = await self._services.store.list(DeskKind.APPROVED_ANSWER)
        pairs = [(item, body_of_item(item, ApprovedAnswer)) for item in items]
        return [pair for pair in pairs if pair[1].state is ItemState.LIVE or is_expired(pair[1])]

    async def _suspend(self) -> None:
        """Go through ``_dated``: bind an answer again, suspend it, or make it live.

        | state of the answer | why it may not be live | what is done |
        | --- | --- | --- |
        | live | none | nothing |
        | live | a source has a new hash with the same words | it is bound to that hash |
        | live | another | it is suspended, with a case |
        | suspended, since expired | none: the clock was ahead | it is live again, its case closed |
        """
        names = sorted({bound.document_id for _, body in self._dated for bound in body.sources})
        statuses = await self._services.knowledge.states.get_many(names)
        today = (await self._services.store.now()).date()
        for item, body in self._dated:
            because = why_suspended(body, statuses, today=today)
            if bool(because) is (body.state is ItemState.SUSPENDED):
                continue
            try:
                if not because:
                    await self._put_back(item, body)
                elif why_suspended(same := await self._rebound(body, statuses), statuses, today=today):
                    await self._put_suspended(item, body, because)
                else:
                    await self._services.put_next(item, same, by=UPKEEP, note=_SAME_WORDS)
            except ConflictError:  # a person, or another process, was first
                _log.info("suspended_before", item_id=item.item_id)

    async def _rebound(self, body: ApprovedAnswer, statuses: Mapping[str, DocumentStatus]) -> ApprovedAnswer:
        """Return the answer with each source bound to the document's live content, if that has the same words
        and labels as the content that was approved. The hash may change without them, as when the file's
        questions changed."""
        sources: list[BoundSource] = []
        for bound in body.sources:
            status = statuses.get(bound.document_id)
            live_hash = (status.live_content_hash if status else None) or bound.content_hash
            is_same = live_hash != bound.content_hash and await self._is_same(bound, live_hash)
            sources.append(bound.model_copy(update={"content_hash": live_hash}) if is_same else bound)
        return body.model_copy(update={"sources": tuple(sources)})

    async def _is_same(self, bound: BoundSource, content_hash: str) -> bool:
        """Return whether this content of a source has the words and labels of the approved one."""
        get_parsed = self._services.knowledge.documents.get_parsed
        try:
            before = await get_parsed(bound.document_id, bound.content_hash)
            now = await get_parsed(bound.document_id, content_hash)
        except DocumentInvalidError:  # what is stored is damaged
            return False
        if before is None or now is None or before.labels != now.labels:
            return False
        return before.text.split() == now.text.split()

    async def _put_suspended(self, item: DeskItem, body: ApprovedAnswer, because: str) -> None:
        # The case first: after a crash in between, the next run finds the same case, and suspends.
        await self._open_case(body, because)
        suspended = body.model_copy(update={"state": ItemState.SUSPENDED, "suspended_because": because})
        await self._services.put_next(item, suspended, by=UPKEEP, note=because)
        _log.info("approved_answer_suspended", item_id=item.item_id, because=because)

    async def _put_back(self, item: DeskItem, body: ApprovedAnswer) -> None:
        """Make an answer live again that was suspended while the clock was ahead, and close its case."""
        _log.warning("approved_answer_put_back", item_id=item.item_id, expires_on=str(body.expires_on))
        live = body.model_copy(update={"state": ItemState.LIVE, "suspended_because": ""})
        await self._services.put_next(item, live, by=UPKEEP, note=_NOT_PASSED)
        if body.from_answer is None:
            return
        name = case_id(body.from_answer, CaseReason.ANSWER_SUSPENDED)
        opened = await self._services.store.get(DeskKind.CASE, name)
        if opened is not None and (opened.by, opened.note) == (UPKEEP, body.suspended_because):
            await _close_case(self._services, opened, body_of_item(opened, Case), note=_NOT_PASSED)

    async def _open_case(self, body: ApprovedAnswer, because: str) -> None:
        """Open the case of a suspended answer, or open it again. Without ``from_answer`` there is no case."""
        if body.from_answer is None:
            return
        case = Case(
            answer_id=body.from_answer,
            reason=CaseReason.ANSWER_SUSPENDED,
            opened_at=self._services.clock.now(),
            documents=tuple(bound.document_id for bound in body.sources),
            reader_labels=body.labels,
        )
        existing = await open_case(self._services.store, case, by=UPKEEP, note=because)
        if existing is None:
            return
        case = body_of_item(existing, Case)
        if case.state in CLOSED:
            opened = case.model_copy(update=OPENED_AGAIN)
            await self._services.put_next(existing, opened, by=UPKEEP, note=because)


class ReviewDates:
    """Opens a case for each document whose review date has passed, and closes it when the document has
    another date, or is withdrawn.

    A case that a person closed stays closed for that date. One that the upkeep closed is opened again: the
    clock may have been wrong in between.
    """

    def __init__(self, services: DeskServices) -> None:
        self._services = services
        self._read_at_s: float | None = None

    async def __call__(self) -> None:
        """Read all documents' states, at most once an hour. Raises RecordsUnavailableError,
        DependencyError."""
        now_s = self._services.clock.monotonic_s()
        if self._read_at_s is not None and now_s - self._read_at_s < _REVIEWS_EVERY_S:
            return
        today = (await self._services.store.now()).date()
        due: dict[str, DocumentStatus] = {}
        async for page in pages_of(self._services.knowledge.states):
            for status in page:
                is_due = status.review_after is not None and status.review_after <= today
                if is_due and status.state is not DocumentState.WITHDRAWN:
                    due[_review_of(status)] = status
        await self._close(due)
        await self._open(due)
        self._read_at_s = now_s

    async def _open(self, due: Mapping[str, DocumentStatus]) -> None:
        """Open up to ``_MOST_REVIEWS`` new cases. ``due``: states by ``_review_of``."""
        opened = 0
        for review, status in due.items():
            case = Case(
                answer_id=review,
                reason=CaseReason.REVIEW_DUE,
                opened_at=self._services.clock.now(),
                documents=(status.document_id,),
                reader_labels=status.labels or (),
            )
            note = f"Its review date was {status.review_after}."
            existing = await open_case(self._services.store, case, by=UPKEEP, note=note)
            if existing is None:
                opened += 1
            elif (closed := body_of_item(existing, Case)).state in CLOSED and closed.resolved_by == UPKEEP:
                reopened = closed.model_copy(update=OPENED_AGAIN)
                with suppress(ConflictError):  # another process was first
                    await self._services.put_next(existing, reopened, by=UPKEEP, note=note)
            if opened == _MOST_REVIEWS:
                _log.warning("reviews_left_for_the_next_run", opened=opened, due=len(due))
                break

    async def _close(self, due: Mapping[str, DocumentStatus]) -> None:
        async for item, case in read_cases(self._services.store, UNRESOLVED):
            if case.reason is CaseReason.REVIEW_DUE and case.answer_id not in due:
                note = "The document has another review date, or is withdrawn."
                await _close_case(self._services, item, case, note=note)


async def _close_case(services: DeskServices, item: DeskItem, case: Case, *, note: str) -> None:
    resolution = Resolution(kind="correction", note=note)
    update = {"state": CaseState.RESOLVED, "resolution": resolution, "resolved_by": UPKEEP}
    with suppress(ConflictError):  # somebody decides on it now
        await services.put_next(item, case.model_copy(update=update), by=UPKEEP, note=note)


def _review_of(status: DocumentStatus) -> str:
    """Return the ``answer_id`` of the case of a document's review date, in place of an answer's."""
    named = f"{status.document_id}#{status.review_after}"
    return f"review-{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def _expired(body: ApprovedAnswer) -> str:
    return f"It expired on {body.expires_on}."


def is_expired(body: ApprovedAnswer) -> bool:
    """Return whether an answer is suspended because its date had passed."""
    return body.state is ItemState.SUSPENDED and body.suspended_because == _expired(body)


def why_suspended(body: ApprovedAnswer, statuses: Mapping[str, DocumentStatus], *, today: date) -> str:
    """Return why an approved answer may not be live; "" when it may."""
    if body.text == REMOVED_TEXT:
        return "A source's withdrawal removed its text."
    if body.expires_on <= today:
        return _expired(body)
    reasons = (_fault_of_source(bound, statuses.get(bound.document_id)) for bound in body.sources)
    return next(filter(None, reasons), "")


def _fault_of_source(bound: BoundSource, status: DocumentStatus | None) -> str:
    """Return why a source does not hold; "" when it does: its approved content is live, or is being
    indexed."""
    if status is None or status.state in _GONE:
        state = "not there" if status is None else status.state.value
        return f"Its source {bound.document_id} is {state}."
    is_on_its_way = status.state in _PENDING and status.content_hash == bound.content_hash
    if bound.content_hash == status.live_content_hash or is_on_its_way:
        return ""
    return f"Its source {bound.document_id} has another content now."
