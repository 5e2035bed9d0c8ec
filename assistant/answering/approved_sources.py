"""Finds the approved answer of a question, and checks its sources at the moment it is served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from assistant.answering.adaptations import Adaptations, approved_hash
from assistant.answering.approved import LiveAnswer, Match, NoMatch
from assistant.answering.excerpts import shown_title
from assistant.answering.search import SearchScope
from assistant.answering.services import TenantServices, call_within
from assistant.domain.answers import APPROVED_PREFIX
from assistant.domain.clock import Deadline
from assistant.domain.documents import DocumentState, DocumentStatus, Passage, Span, StoredDocument
from assistant.domain.errors import AssistantError, DeadlineExceededError, DependencyError

APPROVED_SOURCE = "Approved answer"
"""``source`` and ``type`` of an approved answer among the numbered sources."""
_CHECK_LIMIT_S = 1.0
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """An approved answer, to serve or to offer, whose sources were just found unchanged."""

    live: LiveAnswer
    documents: Mapping[str, StoredDocument]
    """Its sources, by id, in the order of the item."""
    is_equal: bool
    """Whether it answers the same question, and is served. Otherwise it is only offered."""
    wording: str
    """The approved question that is nearest."""

    @property
    def passage(self) -> Passage:
        """The approved answer as a source: one passage without units."""
        answer = self.live.answer
        document_id = APPROVED_PREFIX + self.live.item_id
        return Passage(
            passage_id=f"{document_id}#{self.live.revision}",
            document_id=document_id,
            content_hash=approved_hash(answer.text),
            ordinal=0,
            title=shown_title(answer.questions[0]),
            heading="",
            text=answer.text,
            span=Span(0, len(answer.text)),
            token_count=0,
            source=APPROVED_SOURCE,
            type=APPROVED_SOURCE,
            url=None,
            updated_at=self.live.at,
            labels=answer.labels,
        )


class FindApproved:
    """Finds approved answers for one tenant's questions."""

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        self._services = services
        self._adaptations = adaptations

    async def find(self, question: str, vector: Sequence[float], scope: SearchScope) -> ServedAnswer | None:
        """Return the approved answer to serve or to offer; ``vector``: of the question as asked, of unit
        length.

        None where there is none, where a source changed, is withdrawn or is closed to the reader, and where
        that cannot be checked now. Raises DeadlineExceededError.
        """
        approved = self._adaptations.now.approved
        if approved is None:
            return None
        today = self._services.clock.now().date()
        found = approved.match(question, vector, labels=scope.labels, today=today)
        if isinstance(found, NoMatch):
            return None
        with scope.steps.step("approved"):
            try:
                documents = await call_within(
                    _CHECK_LIMIT_S,
                    lambda step: self._unchanged(found.live, scope.labels, deadline=step),
                    deadline=scope.deadline,
                    late=lambda: DependencyError("The check of an approved answer's sources is late."),
                )
            except DeadlineExceededError:
                raise
            except AssistantError as error:
                _log.warning("approved_answer_not_checked", item_id=found.live.item_id, code=error.code)
                return None
        if documents is None:
            return None
        return ServedAnswer(found.live, documents, is_equal=isinstance(found, Match), wording=found.wording)

    async def _unchanged(
        self, live: LiveAnswer, labels: frozenset[str], *, deadline: Deadline
    ) -> Mapping[str, StoredDocument] | None:
        """Return the sources as the index has them; None when one is not what the answer rests on."""
        bound = {source.document_id: source.content_hash for source in live.answer.sources}
        if not bound:
            return {}
        states, documents = await asyncio.gather(
            self._services.live.get_many(list(bound)),
            self._services.search.read_documents(list(bound), labels=labels, deadline=deadline),
        )
        for document_id, content_hash in bound.items():
            status = states.get(document_id)
            if status is None or document_id not in documents or not _holds(status, content_hash):
                _log.info("approved_answer_source_changed", item_id=live.item_id, document_id=document_id)
                return None
        return {document_id: documents[document_id] for document_id in bound}


def _holds(status: DocumentStatus, content_hash: str) -> bool:
    """Return whether this content answers now, and no newer one was received."""
    return status.state not in _GONE and status.content_hash == status.live_content_hash == content_hash
