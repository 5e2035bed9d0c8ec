"""Offers approved answers, loaded by each process that serves, and shows their texts again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import structlog
from pydantic import ValidationError

from assistant.answer.adaptations import LOAD_LIMIT_S, readable_bodies
from assistant.answer.offers import Offer
from assistant.answer.scores import CosineScale
from assistant.answer.services import TenantServices, call_within
from assistant.answer.sources import EvidenceQuery, SearchScope
from assistant.domain.answers import APPROVED_PREFIX, source_kind
from assistant.domain.clock import Deadline
from assistant.domain.desk import DeskItem, DeskKind, ItemState
from assistant.domain.documents import DocumentState, DocumentStatus, ParsedDocument, StoredDocument
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    DependencyError,
    RecordsUnavailableError,
)
from assistant.options.desk.approved import ApprovedAnswers, LiveAnswer, ServedAnswer, approved_hash
from assistant.options.desk.domain import ApprovedAnswer
from assistant.stores.ports import DocumentTexts, LiveDesk
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language

_CHECK_LIMIT_S = 1.0
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_log = structlog.get_logger(__name__)


def matcher_for(tenant: TenantConfig) -> Callable[[Iterable[LiveAnswer]], ApprovedAnswers]:
    """Return what makes answers ready to match, as serving does."""
    scale = CosineScale.of(tenant.embedding)
    return partial(ApprovedAnswers.of, language=language(tenant.language), scale=scale)


class OfferApproved(Offer):
    """Serves the approved answer to the same question, and offers that to a near one.

    Its sources are checked at the moment it is served.
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._matcher_of = matcher_for(services.tenant)
        self._answers: tuple[LiveAnswer, ...] = ()
        """The live ones, by revision: only what changed is parsed and embedded."""
        self.approved: ApprovedAnswers | None = None
        """None where no approved answer is live."""

    async def load(self, revisions: LiveDesk) -> None:
        answers = await self._live_answers(await revisions.list(DeskKind.APPROVED_ANSWER))
        if answers != self._answers:
            self.approved = await asyncio.to_thread(self._matcher_of, answers) if answers else None
        self._answers = answers
        _log.info("approved_answers_loaded", tenant=self._services.tenant.name, answers=len(answers))

    async def find(
        self,
        query: EvidenceQuery,
        scope: SearchScope,
        *,
        meanings: Mapping[str, str],  # noqa: ARG002 - of the port
    ) -> ServedAnswer | None:
        """Return the answer to serve or to offer.

        None where there is none, where a source changed, is withdrawn or is closed to the reader, and where
        that cannot be checked now. Raises DeadlineExceededError.
        """
        # With the question before it, it may mean something else.
        if self.approved is None or query.before is not None:
            return None
        today = self._services.clock.now().date()
        match = self.approved.match(query.question, query.vector, labels=scope.labels, today=today)
        live = match.live
        if live is None or match.reason not in ("equal", "near"):
            return None
        with scope.steps.step("approved"):
            try:
                documents = await call_within(
                    _CHECK_LIMIT_S,
                    lambda step: self._unchanged(live, scope.labels, deadline=step),
                    deadline=scope.deadline,
                    late=DependencyError("The check of an approved answer's sources is late."),
                )
            except DeadlineExceededError:
                raise
            except AssistantError as error:
                _log.warning("approved_answer_not_checked", item_id=live.item_id, code=error.code)
                return None
        if documents is None:
            return None
        return ServedAnswer(live, documents, answers=match.reason == "equal", wording=match.wording)

    async def _unchanged(
        self, live: LiveAnswer, labels: frozenset[str], *, deadline: Deadline
    ) -> Mapping[str, StoredDocument] | None:
        """Return the sources as the index has them; None when one is not what the answer rests on."""
        bound = {source.document_id: source.content_hash for source in live.answer.sources}
        if not bound:
            return {}
        states, documents = await asyncio.gather(
            self._services.documents.states.get_many(list(bound)),
            self._services.search.read_documents(list(bound), labels=labels, deadline=deadline),
        )
        for document_id, content_hash in bound.items():
            status = states.get(document_id)
            if status is None or document_id not in documents or not _holds(status, content_hash):
                _log.info("approved_answer_source_changed", item_id=live.item_id, document_id=document_id)
                return None
        return {document_id: documents[document_id] for document_id in bound}

    async def _live_answers(self, items: Sequence[DeskItem]) -> tuple[LiveAnswer, ...]:
        """Return the live answers with vectors of the model that embeds what is asked."""
        known = {(answer.item_id, answer.revision): answer for answer in self._answers}
        changed = [item for item in items if (item.item_id, item.revision) not in known]
        # Thousands of vectors are parsed in a thread: the loop goes on answering.
        for item, body in await asyncio.to_thread(readable_bodies, changed, ApprovedAnswer):
            if body.state is ItemState.LIVE:
                answer = await self._with_vectors(body)
                known[item.item_id, item.revision] = LiveAnswer(item.item_id, item.revision, item.at, answer)
        keys = ((item.item_id, item.revision) for item in items)
        return tuple(known[key] for key in keys if key in known)

    async def _with_vectors(self, answer: ApprovedAnswer) -> ApprovedAnswer:
        """Return an answer with vectors of its questions by this tenant's model; there are 20 at most."""
        embedding = self._services.tenant.embedding
        model, dimensions = embedding.model, embedding.dimensions
        is_whole = len(answer.vectors) == len(answer.questions)
        if answer.embedding_model == model and is_whole and {*map(len, answer.vectors)} <= {dimensions}:
            return answer
        deadline = Deadline.after(LOAD_LIMIT_S, clock=self._services.clock)
        vectors = tuple(map(tuple, await self._services.embedder.embed(answer.questions, deadline=deadline)))
        return answer.model_copy(update={"vectors": vectors, "embedding_model": model})


def _holds(status: DocumentStatus, content_hash: str) -> bool:
    """Return whether this content answers now, and no newer one was received."""
    return status.state not in _GONE and status.content_hash == status.live_content_hash == content_hash


class TextsWithApproved:
    """``DocumentTexts`` of documents and approved answers alike.

    Records keep an approved answer's text by its place, as a document's. A withdrawn one is gone from them,
    and so is one whose source its reader may not read any more (docs/decisions/0046).
    """

    def __init__(self, documents: DocumentTexts, desk: LiveDesk) -> None:
        self._documents = documents
        self._desk = desk

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        if source_kind(document_id) == "document":
            return await self._documents.is_readable(document_id, labels=labels)
        return bool(await self._revisions(document_id, labels=labels))

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        if source_kind(document_id) == "document":
            return await self._documents.read(document_id, content_hash, labels=labels)
        for answer in await self._revisions(document_id, labels=labels):
            if approved_hash(answer.text) == content_hash:
                return ParsedDocument(answer.text, ())
        return None

    async def _revisions(self, document_id: str, *, labels: frozenset[str]) -> list[ApprovedAnswer]:
        """Return an approved answer's revisions; none where the newest one may not be read."""
        item_id = document_id.removeprefix(APPROVED_PREFIX)
        items = await self._desk.history(DeskKind.APPROVED_ANSWER, item_id)
        try:
            answers = [ApprovedAnswer.model_validate_json(item.body) for item in items]
        except ValidationError:
            raise RecordsUnavailableError(
                f"The desk's item {item_id} is of another release. Update this process."
            ) from None
        newest = answers[-1] if answers else None
        if newest is None or newest.state is ItemState.WITHDRAWN or not labels.issuperset(newest.labels):
            return []
        for source in newest.sources:
            if not await self._documents.is_readable(source.document_id, labels=labels):
                return []
        return answers
