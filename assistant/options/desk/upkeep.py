"""Keeps documents and the desk in step: questions that reviewers add to documents, and what is suspended.

An added question stands in the canonical document, as if its file had it: the document is stored again and
queued, so that the worker indexes it with the question beside its title. A load of the file replaces the
document without the question, and the upkeep puts it back.

Serving checks an approved answer's sources with every match, so nothing outdated is quoted until the upkeep
has run: it writes the suspended revision, and opens a case for the reviewers. Each process that serves runs
it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import date

import structlog

from assistant.documents.files import SourceDocument
from assistant.documents.readable import pages_of
from assistant.documents.sources import Writer
from assistant.documents.withdraw import KeptTexts, Stores
from assistant.domain.desk import (
    BoundSource,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    DocumentQuestion,
    ItemState,
    Resolution,
    body_of_item,
    case_id,
)
from assistant.domain.documents import HELD_STATES, Document, DocumentState, DocumentStatus
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DocumentInvalidError,
    InvalidRequestError,
    NotFoundError,
)
from assistant.options.desk.approved import REMOVED_TEXT, ApprovedAnswer
from assistant.options.desk.cases import (
    CLOSED,
    OPENED_AGAIN,
    UNRESOLVED,
    UPKEEP,
    DeskServices,
    not_found,
    open_case,
    read_cases,
)
from assistant.stores.desk import DESK, StoredDesk

UPKEEP_EVERY_S = 10.0
_REVIEWS_EVERY_S = 3600.0
_MOST_REVIEWS = 100
"""Cases that one run opens, of an hour: one page of the desk. The next run goes on."""
MOST_CHARACTERS = 500
"""Length of one question: as long as ``Document.questions`` allows."""
_MOST_QUESTIONS = 50
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_SAME_WORDS = "A source was read again, with the same words."
_NOT_PASSED = "Its date has not passed: the clock that suspended it was ahead."
_PENDING = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
_log = structlog.get_logger(__name__)


class DocumentQuestions:
    """Adds questions to stored documents and takes them out again."""

    def __init__(self, services: DeskServices) -> None:
        self._services = services
        self._checked: dict[str, str] = {}
        """By document, the content in which all its live questions were found."""

    async def check(self, document_id: str, question: str) -> None:
        """Raise unless the question can be added: NotFoundError, InvalidRequestError (too long, too many),
        ConflictError (the document has it, or does not answer now)."""
        if len(question) > MOST_CHARACTERS:
            raise InvalidRequestError(
                f"question has {len(question)} characters; a document takes {MOST_CHARACTERS} at most."
            )
        document, _ = await self._live(document_id)
        if _has(document, question):
            raise ConflictError(f"The document {document_id} has this question already.")
        if len(document.questions) >= _MOST_QUESTIONS:
            raise InvalidRequestError(
                f"The document {document_id} has {_MOST_QUESTIONS} questions, the most. Withdraw one."
            )

    async def add(self, document_id: str, question: str, *, by: str) -> None:
        """Add the question; a document that has it stays as it is. Raises as ``check``, DependencyError."""
        document, status = await self._live(document_id)
        if not _has(document, question) and len(document.questions) < _MOST_QUESTIONS:
            questions = (*document.questions, question)
            await self._store(document, status, questions=questions, by=by)

    async def remove(self, document_id: str, question: str, *, by: str) -> None:
        """Take the question out; of a document that is gone there is nothing to take."""
        try:
            document, status = await self._live(document_id)
        except (NotFoundError, ConflictError):
            return
        if _has(document, question):
            questions = tuple(
                variant for variant in document.questions if variant.casefold() != question.casefold()
            )
            await self._store(document, status, questions=questions, by=by)

    async def add_missing(self) -> int:
        """Add live questions to documents that were loaded without them since; return how many.

        Reads a document only when its content is another one than at the last call.
        """
        wanted: dict[str, list[str]] = {}
        for item in await self._services.store.list(DeskKind.DOCUMENT_QUESTION):
            body = body_of_item(item, DocumentQuestion)
            if body.state is ItemState.LIVE:
                wanted.setdefault(body.document_id, []).append(body.question)
        statuses = await self._services.knowledge.states.get_many(list(wanted))
        added = 0
        for document_id, status in statuses.items():
            state = f"{status.content_hash} {'|'.join(wanted[document_id])}"
            if status.state not in HELD_STATES or self._checked.get(document_id) == state:
                continue
            document = await self._services.knowledge.documents.get(document_id)
            missing = [text for text in wanted[document_id] if document and not _has(document, text)]
            for question in missing:
                await self.add(document_id, question, by=UPKEEP)
                added += 1
            if not missing:
                self._checked[document_id] = state
        return added

    async def _live(self, document_id: str) -> tuple[Document, DocumentStatus]:
        status = await self._services.knowledge.states.get(document_id)
        document = None if status is None else await self._services.knowledge.documents.get(document_id)
        if status is None or document is None:
            raise not_found()
        if status.live_content_hash is None:
            raise ConflictError(f"The document {document_id} is {status.state} and answers nothing now.")
        return document, status

    async def _store(
        self, before: Document, status: DocumentStatus, *, questions: tuple[str, ...], by: str
    ) -> None:
        """Store the document with these questions and queue it, as a load of its file would."""
        document = before.model_copy(update={"questions": questions})
        source = self._services.sources.of_document(document.document_id)
        if source is None:
            raise not_found()
        own_id = document.document_id.removeprefix(source.id_prefix)
        item = SourceDocument(document.model_copy(update={"document_id": own_id}), status.origin or "")
        writer = Writer(by, frozenset(document.labels))  # labels stay as they are
        summary = await self._services.add_documents([item], source=source, writer=writer)
        if summary.failures:
            raise DocumentInvalidError(summary.failures[0].reason)
        if status.live_content_hash == before.content_hash():  # else newer content or other readers decide
            await self._bind_again(document, status)
        _log.info("document_questions_changed", document_id=document.document_id, by=by)

    async def _bind_again(self, document: Document, before: DocumentStatus) -> None:
        """Bind approved answers to the document's new hash: of its content, only a question changed."""
        old = BoundSource(document_id=before.document_id, content_hash=before.content_hash)
        new = old.model_copy(update={"content_hash": document.content_hash()})
        for item in await self._services.store.list(DeskKind.APPROVED_ANSWER):
            answer = body_of_item(item, ApprovedAnswer)
            if old not in answer.sources or answer.state not in (ItemState.LIVE, ItemState.PROPOSED):
                continue
            sources = tuple(new if source == old else source for source in answer.sources)
            body = answer.model_copy(update={"sources": sources})
            note = f"The questions of {before.document_id} changed, and nothing else of it."
            with suppress(ConflictError):  # somebody decides on it now, and binds it anew
                await self._services.put_next(item, body, by=UPKEEP, note=note)


def _has(document: Document, question: str) -> bool:
    return question.casefold() in {held.casefold() for held in document.questions}


class ApprovedTexts:
    """The texts of approved answers, in every revision, by the documents that they rest on. For one event
    loop."""

    def __init__(self, store: StoredDesk) -> None:
        self._store = store
        self._bound: dict[tuple[str, int], frozenset[str]] = {}
        """Documents by item and its newest revision, of revisions that have their text."""

    async def resting(self) -> Mapping[str, list[str]]:
        """Return by document the ids of the answers that have a text which rests on it."""
        found: dict[str, list[str]] = {}
        bound: dict[tuple[str, int], frozenset[str]] = {}
        for item in await self._store.list(DeskKind.APPROVED_ANSWER):
            key = (item.item_id, item.revision)
            bound[key] = self._bound[key] if key in self._bound else await self._documents_of(item.item_id)
            for document_id in bound[key]:
                found.setdefault(document_id, []).append(item.item_id)
        self._bound = bound
        return found

    async def remove(self, document_id: str) -> int:
        """Take every text that rests on the document out of every revision; return of how many answers."""
        item_ids = (await self.resting()).get(document_id, [])
        for item_id in item_ids:
            both = await self._revisions(item_id)
            texts = {body.text for _, body in both if _rests_on(body, document_id)}
            # Those bound to the document last: they say which texts are meant, should the process end here.
            for item, body in sorted(both, key=lambda pair: _rests_on(pair[1], document_id)):
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
    """Watches one tenant's approved answers. For one event loop."""

    def __init__(self, services: DeskServices, questions: DocumentQuestions) -> None:
        self._services = services
        self._questions = questions
        self._states = services.knowledge.states
        self._reviews = ReviewDates(services)
        self._version = -1
        self._dated: list[tuple[DeskItem, ApprovedAnswer]] = []
        """Those that are live, or were suspended because their date had passed."""
        self._texts = ApprovedTexts(services.store)
        self._resting: Mapping[str, list[str]] = {}
        self._is_away = False

    async def run(self) -> None:
        """Work every 10 s until cancelled. A store that is away is logged once."""
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
        """Suspend what no longer holds, remove texts of withdrawn documents, then put missing questions back.
        Raises RecordsUnavailableError, DependencyError."""
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
        await self._questions.add_missing()
        await self._reviews()

    async def _read_dated(self) -> list[tuple[DeskItem, ApprovedAnswer]]:
        items = await self._services.store.list(DeskKind.APPROVED_ANSWER)
        both = [(item, body_of_item(item, ApprovedAnswer)) for item in items]
        return [each for each in both if each[1].state is ItemState.LIVE or is_expired(each[1])]

    async def _suspend(self) -> None:
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
        """Return the answer with its sources bound to the content that answers now where that has the same
        words and labels: other readers read it, or a question of it changed."""
        sources: list[BoundSource] = []
        for bound in body.sources:
            status = statuses.get(bound.document_id)
            live_hash = (status.live_content_hash if status else None) or bound.content_hash
            is_same = live_hash != bound.content_hash and await self._is_same(bound, live_hash)
            sources.append(bound.model_copy(update={"content_hash": live_hash}) if is_same else bound)
        return body.model_copy(update={"sources": tuple(sources)})

    async def _is_same(self, bound: BoundSource, content_hash: str) -> bool:
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
        # The case first: when the process dies between both, the next run opens the same case, and suspends.
        await self._open_case(body, because)
        suspended = body.model_copy(update={"state": ItemState.SUSPENDED, "suspended_because": because})
        await self._services.put_next(item, suspended, by=UPKEEP, note=because)
        _log.info("approved_answer_suspended", item_id=item.item_id, because=because)

    async def _put_back(self, item: DeskItem, body: ApprovedAnswer) -> None:
        """Make an answer live again that a clock which was ahead suspended, and close its case."""
        _log.warning("approved_answer_put_back", item_id=item.item_id, expires_on=str(body.expires_on))
        live = body.model_copy(update={"state": ItemState.LIVE, "suspended_because": ""})
        await self._services.put_next(item, live, by=UPKEEP, note=_NOT_PASSED)
        if body.from_answer is None:
            return
        name = case_id(body.from_answer, CaseReason.ANSWER_SUSPENDED)
        opened = await self._services.store.get(DeskKind.CASE, name)
        if opened is not None and (opened.by, opened.note) == (UPKEEP, body.suspended_because):
            await _resolve(self._services, opened, body_of_item(opened, Case), note=_NOT_PASSED)

    async def _open_case(self, body: ApprovedAnswer, because: str) -> None:
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
    another date, or is withdrawn. A case that a person closed stays closed for that date; one that the upkeep
    closed, as after a clock that was ahead, is opened again."""

    def __init__(self, services: DeskServices) -> None:
        self._services = services
        self._read_at_s: float | None = None

    async def __call__(self) -> None:
        """Read all states once an hour. Raises RecordsUnavailableError, DependencyError."""
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
                again = closed.model_copy(update=OPENED_AGAIN)
                with suppress(ConflictError):  # another process was first
                    await self._services.put_next(existing, again, by=UPKEEP, note=note)
            if opened == _MOST_REVIEWS:
                _log.warning("reviews_left_for_the_next_run", opened=opened, due=len(due))
                break

    async def _close(self, due: Mapping[str, DocumentStatus]) -> None:
        async for item, case in read_cases(self._services.store, UNRESOLVED):
            if case.reason is CaseReason.REVIEW_DUE and case.answer_id not in due:
                note = "The document has another review date, or is withdrawn."
                await _resolve(self._services, item, case, note=note)


async def _resolve(services: DeskServices, item: DeskItem, case: Case, *, note: str) -> None:
    resolution = Resolution(kind="correction", note=note)
    update = {"state": CaseState.RESOLVED, "resolution": resolution, "resolved_by": UPKEEP}
    with suppress(ConflictError):  # somebody decides on it now
        await services.put_next(item, case.model_copy(update=update), by=UPKEEP, note=note)


def _review_of(status: DocumentStatus) -> str:
    """Return what stands for an answer in the case of a document's review date."""
    named = f"{status.document_id}#{status.review_after}"
    return f"review-{hashlib.sha256(named.encode()).hexdigest()[:24]}"


def _expired(body: ApprovedAnswer) -> str:
    return f"It expired on {body.expires_on}."


def is_expired(body: ApprovedAnswer) -> bool:
    return body.state is ItemState.SUSPENDED and body.suspended_because == _expired(body)


def why_suspended(body: ApprovedAnswer, statuses: Mapping[str, DocumentStatus], *, today: date) -> str:
    """Return why an approved answer may not be live; "" when it may."""
    if body.text == REMOVED_TEXT:
        return "A source's withdrawal removed its text."
    if body.expires_on <= today:
        return _expired(body)
    reasons = (_source(bound, statuses.get(bound.document_id)) for bound in body.sources)
    return next(filter(None, reasons), "")


def _source(bound: BoundSource, status: DocumentStatus | None) -> str:
    if status is None or status.state in _GONE:
        state = "not there" if status is None else status.state.value
        return f"Its source {bound.document_id} is {state}."
    is_on_its_way = status.state in _PENDING and status.content_hash == bound.content_hash
    if bound.content_hash == status.live_content_hash or is_on_its_way:
        return ""
    return f"Its source {bound.document_id} has another content since {status.updated_at:%Y-%m-%d %H:%M} UTC."


# The receipt of a withdrawal


async def _counts(stores: Stores, document_id: str) -> Mapping[str, int]:
    resting = await ApprovedTexts(await stores.of(DESK)).resting()
    return {"approved_answers": len(resting.get(document_id, []))}


async def _remove(stores: Stores, document_id: str) -> int:
    return await ApprovedTexts(await stores.of(DESK)).remove(document_id)


KEPT = KeptTexts(counts=_counts, remove=_remove)  # the service removes them, too, when it runs
"""Approved answers in the receipt."""
