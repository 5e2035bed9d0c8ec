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
from collections.abc import Mapping
from contextlib import suppress
from datetime import date

import structlog

from assistant.domain.desk import (
    ApprovedAnswer,
    BoundSource,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    DocumentQuestion,
    ItemState,
)
from assistant.domain.documents import HELD_STATES, Document, DocumentState, DocumentStatus
from assistant.domain.errors import (
    AssistantError,
    ConflictError,
    DocumentInvalidError,
    InvalidRequestError,
    NotFoundError,
)
from assistant.knowledge.files import SourceDocument
from assistant.knowledge.sources import Writer
from assistant.learning.desk import (
    OPENED_AGAIN,
    UPKEEP,
    DeskServices,
    body_of_item,
    first_revision,
    not_found,
)
from assistant.learning.intake import case_id

UPKEEP_EVERY_S = 10.0
MOST_CHARACTERS = 500
"""Of one question; as long as ``Document.questions`` allows."""
_MOST_QUESTIONS = 50
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
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
            await self._store(document.model_copy(update={"questions": questions}), status, by=by)

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
            await self._store(document.model_copy(update={"questions": questions}), status, by=by)

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
            missing = [one for one in wanted[document_id] if document and not _has(document, one)]
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

    async def _store(self, document: Document, status: DocumentStatus, *, by: str) -> None:
        """Store the document and queue it, as a load of its file would."""
        source = self._services.sources.of_document(document.document_id)
        if source is None:
            raise not_found()
        own_id = document.document_id.removeprefix(source.id_prefix)
        item = SourceDocument(document.model_copy(update={"document_id": own_id}), status.origin or "")
        writer = Writer(by, frozenset(document.labels))  # labels stay as they are
        summary = await self._services.add_documents([item], source=source, writer=writer)
        if summary.failures:
            raise DocumentInvalidError(summary.failures[0].reason)
        await self._bind_again(document, status)
        _log.info("document_questions_changed", document_id=document.document_id, by=by)

    async def _bind_again(self, document: Document, before: DocumentStatus) -> None:
        """Bind approved answers to the document's new hash: of its content, only a question changed."""
        if before.content_hash != before.live_content_hash:
            return  # newer content waits, and it decides
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
    return question.casefold() in {question.casefold() for question in document.questions}


class DeskUpkeep:
    """Watches one tenant's live items. For one event loop."""

    def __init__(self, services: DeskServices, questions: DocumentQuestions) -> None:
        self._services = services
        self._questions = questions
        self._version = -1
        self._live: list[tuple[DeskItem, ApprovedAnswer]] = []
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
        """Suspend what no longer holds, then put missing questions back. Raises RecordsUnavailableError,
        DependencyError."""
        version = await self._services.store.version()
        if version != self._version:
            self._live = await self._read_live()
            self._version = version
        if self._live:
            await self._suspend()
        await self._questions.add_missing()

    async def _read_live(self) -> list[tuple[DeskItem, ApprovedAnswer]]:
        items = await self._services.store.list(DeskKind.APPROVED_ANSWER)
        both = [(item, body_of_item(item, ApprovedAnswer)) for item in items]
        return [(item, body) for item, body in both if body.state is ItemState.LIVE]

    async def _suspend(self) -> None:
        names = sorted({bound.document_id for _, body in self._live for bound in body.sources})
        statuses = await self._services.knowledge.states.get_many(names)
        today = self._services.clock.now().date()
        for item, body in self._live:
            because = why_suspended(body, statuses, today=today)
            if not because:
                continue
            try:
                await self._put_suspended(item, body, because)
            except ConflictError:  # a person, or another process, was first
                _log.info("suspended_before", item_id=item.item_id)
            else:
                _log.info("approved_answer_suspended", item_id=item.item_id, because=because)

    async def _put_suspended(self, item: DeskItem, body: ApprovedAnswer, because: str) -> None:
        # The case first: when the process dies between both, the next run opens the same case, and suspends.
        await self._open_case(body, because)
        suspended = body.model_copy(update={"state": ItemState.SUSPENDED, "suspended_because": because})
        await self._services.put_next(item, suspended, by=UPKEEP, note=because)

    async def _open_case(self, body: ApprovedAnswer, because: str) -> None:
        if body.from_answer is None:
            return
        item_id = case_id(body.from_answer, CaseReason.ANSWER_SUSPENDED)
        existing = await self._services.store.get(DeskKind.CASE, item_id)
        if existing is None:
            now = self._services.clock.now()
            case = Case(
                answer_id=body.from_answer,
                reason=CaseReason.ANSWER_SUSPENDED,
                opened_at=now,
                documents=tuple(bound.document_id for bound in body.sources),
                reader_labels=body.labels,
            )
            first = first_revision(DeskKind.CASE, item_id, case, by=UPKEEP, at=now, note=because)
            await self._services.store.put(first)
            return
        case = body_of_item(existing, Case)
        if case.state in (CaseState.RESOLVED, CaseState.DISMISSED):
            opened = case.model_copy(update=OPENED_AGAIN)
            await self._services.put_next(existing, opened, by=UPKEEP, note=because)


def why_suspended(body: ApprovedAnswer, statuses: Mapping[str, DocumentStatus], *, today: date) -> str:
    """Return why an approved answer may not be live; "" when it may."""
    if body.expires_on <= today:
        return f"It expired on {body.expires_on}."
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
