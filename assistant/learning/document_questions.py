"""Questions that reviewers add to documents: they stand in the canonical document, as if its file had them.

The document is stored again and queued, so that the worker indexes it with the question beside its title. A
load of the file replaces the document without the question; ``add_missing`` puts it back.
"""

from __future__ import annotations

from contextlib import suppress

import structlog

from assistant.domain.desk import ApprovedAnswer, BoundSource, DeskKind, DocumentQuestion, ItemState
from assistant.domain.documents import HELD_STATES, Document, DocumentStatus
from assistant.domain.errors import ConflictError, DocumentInvalidError, InvalidRequestError, NotFoundError
from assistant.knowledge.files import SourceDocument
from assistant.knowledge.sources import Writer
from assistant.learning.desk import DeskServices, body_of_item, not_found

UPKEEP = "desk"
"""Who makes a revision that no person decided on."""
MOST_CHARACTERS = 500
"""Of one question; as long as ``Document.questions`` allows."""
_MOST_QUESTIONS = 50
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
            questions = tuple(one for one in document.questions if one.casefold() != question.casefold())
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
            body = answer.model_copy(update={"sources": sources}).model_dump_json()
            update = {
                "revision": item.revision + 1,
                "at": self._services.clock.now(),
                "by": UPKEEP,
                "note": f"The questions of {before.document_id} changed, and nothing else of it.",
                "body": body,
            }
            with suppress(ConflictError):  # somebody decides on it now, and binds it anew
                await self._services.store.put(item.model_copy(update=update))


def _has(document: Document, question: str) -> bool:
    return question.casefold() in {one.casefold() for one in document.questions}
