"""Approved answers: matched with what is asked, served or offered, and shown again.

The same question gets its answer. To a near one the answer is offered, and the agent decides: a vector does
not tell "a child" from "an adult". docs/decisions/0046 has the measurements. An answer's sources are checked
at the moment it is served.

Approved for "Where do I order a new headset?":
    "where do i order a new headset"        equal: the same words as stems; the answer is served
    "How can I order another headset?"      near: the answer is offered beside whatever answers
    "Where do I order headset 3?"           number: neither
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from heapq import nsmallest
from operator import itemgetter, mul
from typing import Literal

import structlog
from pydantic import ValidationError

from assistant.answer.adaptations import LOAD_LIMIT_S, readable_bodies
from assistant.answer.call import AnswerCall, call_within
from assistant.answer.excerpts import Excerpts, Place, shown_title
from assistant.answer.message import PartQuery
from assistant.answer.offers import Cite, Offer, QuotedBlock
from assistant.answer.scores import CosineScale
from assistant.answer.services import TenantServices
from assistant.domain.answers import APPROVED_PREFIX, ApprovedUse, ShownAs, source_kind
from assistant.domain.clock import Deadline
from assistant.domain.desk import DeskApprovedAnswer, DeskItem, DeskKind, ItemState
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    ParsedDocument,
    Passage,
    Span,
    StoredDocument,
)
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    DependencyError,
    RecordsUnavailableError,
)
from assistant.stores.ports import DocumentTexts, LiveDesk
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import Language, language, quantities

REMOVED_TEXT = "[withdrawn]"
"""Text of every revision of an approved answer after the withdrawal of one of its sources."""
LEAST_COSINE = 0.48
"""Least cosine of a question that is offered an answer, on the scale of the packaged model. Chosen on
evaluation/approved/tuning_pharmacy.jsonl, like the two below."""
_UNCOUNTED = frozenset({"0", "1", "2"})
"""Numbers that may differ between a question and the approved one: "one" is often a pronoun, and "two plans"
may be said by naming both."""
_SHORTEST_NAME = 4
"""Characters of a name at least: a shorter rare word is an abbreviation."""
_NEAREST = 8
"""Wordings whose cosine is computed at most: a scalar product takes 15 µs."""

Reason = Literal["equal", "near", "none_near", "number", "name"]
"""``equal``: the answer is served; ``near``: it is offered. Why there is none: no question is near enough
(``none_near``), its numbers or codes differ (``number``), or it names another thing (``name``)."""
APPROVED_SOURCE = "Approved answer"
"""``source`` and ``type`` of an approved answer among the numbered sources."""
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")
"""Text up to the next blank line: "Order here.\\nExt. 4990.\\n\\nIt takes 2 days." has two."""
_CHECK_LIMIT_S = 1.0
"""Limit of the check of an answer's sources; without its result the answer is not served."""
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_log = structlog.get_logger(__name__)


class ApprovedAnswer(DeskApprovedAnswer):
    """Body of a desk item of this kind: the answer and the vectors by which serving finds it."""

    vectors: tuple[tuple[float, ...], ...] = ()
    """One unit vector for each question, by ``embedding_model``; empty: loading embeds them."""
    embedding_model: str = ""


def approved_hash(text: str) -> str:
    """Return the hash of an answer's text. Records name a text by it, as they name a document's by its
    content hash."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """An approved answer that is live, as the desk holds it."""

    item_id: str
    revision: int
    at: datetime
    """When this revision was made."""
    answer: ApprovedAnswer


@dataclass(frozen=True, slots=True)
class Match:
    """The approved answer that is nearest to a question and open to its reader, and whether it is used."""

    reason: Reason
    live: LiveAnswer | None = None
    """None with ``none_near``. With ``number`` or ``name`` it is the answer that is not used."""
    wording: str = ""
    """The approved question that is nearest."""
    cosine: float = 0.0


@dataclass(frozen=True, slots=True)
class _Wording:
    """One question of an approved answer, with what it is compared by."""

    live: LiveAnswer
    question: str
    vector: Sequence[float]
    """Unit length."""
    signs: int
    """``_signs`` of the vector."""
    key: str
    """``Language.question_key`` of the question: equal for the same question."""
    names: frozenset[str]
    """Stems of the names in the item's questions and text."""


@dataclass(frozen=True, slots=True)
class ApprovedAnswers:
    """The approved answers of one tenant, ready to match."""

    wordings: tuple[_Wording, ...]
    language: Language
    scale: CosineScale
    """Maps cosines of the tenant's embedding model to the scale of ``LEAST_COSINE``."""
    names: frozenset[str]
    """Stems of the names in any item's questions and text."""

    @classmethod
    def of(cls, answers: Iterable[LiveAnswer], *, language: Language, scale: CosineScale) -> ApprovedAnswers:
        """Prepare answers for matching. Each must have a vector for each question, by the tenant's model."""
        wordings = tuple(
            _Wording(
                live, question, array("f", vector), _signs(vector), language.question_key(question), names
            )
            for live in answers
            for names in [_names(" ".join((*live.answer.questions, live.answer.text)), language)]
            for question, vector in zip(live.answer.questions, live.answer.vectors, strict=True)
        )
        names = frozenset[str]().union(*(wording.names for wording in wordings))
        return cls(wordings, language, scale, names)

    def match(self, question: str, vector: Sequence[float], *, labels: frozenset[str], today: date) -> Match:
        """Return the approved answer to serve or to offer, or why there is none.

        ``vector``: embedding of the question as asked, unit length. ``labels``: the reader's access labels.
        The caller checks the answer's sources.
        """
        open_now = [
            wording
            for wording in self.wordings
            if labels.issuperset(wording.live.answer.labels) and today < wording.live.answer.expires_on
        ]
        key = self.language.question_key(question)
        equal = [wording for wording in open_now if wording.key == key]
        cosines = [
            (self.scale.value(sum(map(mul, vector, wording.vector))), wording)
            for wording in _nearest(vector, equal or open_now)
        ]
        if not cosines:
            return Match("none_near")
        cosine, nearest = max(cosines, key=itemgetter(0))
        reason: Reason = "near"
        if equal:
            reason = "equal"
        elif cosine < LEAST_COSINE:
            return Match("none_near")
        elif _numbers(question) != _numbers(nearest.question):
            reason = "number"
        else:
            names, approved = (_names(text, self.language) for text in (question, nearest.question))
            # Each names something that the other does not. A rare word that no approved answer has does not
            # count: it is a misspelling as often as a name.
            if names & self.names - nearest.names and approved - names:
                reason = "name"
        return Match(reason, nearest.live, nearest.question, cosine)


def _nearest(vector: Sequence[float], wordings: Sequence[_Wording]) -> Sequence[_Wording]:
    """Return up to ``_NEAREST`` wordings, those with the fewest elements of another sign than ``vector``.

    The number of different signs estimates the angle to 5 degrees or so, in 0.1 µs instead of 15.
    """
    if len(wordings) <= _NEAREST:
        return wordings
    signs = _signs(vector)
    return nsmallest(_NEAREST, wordings, key=lambda wording: (wording.signs ^ signs).bit_count())


def _numbers(question: str) -> frozenset[str]:
    """Return the numbers and codes that must be equal in a near question: "10 mg of a1c" has 10 and a1c."""
    numbers = quantities(question)
    return numbers.values - _UNCOUNTED | numbers.codes


def _names(text: str, language: Language) -> frozenset[str]:
    """Return the stems of a text's rare words: medicines, forms, plans."""
    stems = {word: language.stem(word) for word in language.content_words(text)}
    return frozenset(
        stem
        for word, stem in stems.items()
        if len(word) >= _SHORTEST_NAME and word.isalpha() and not language.is_common(word)
        if not language.is_common(stem)
    )


def _signs(vector: Sequence[float]) -> int:
    """Return an integer with a bit for each element, 1 where it is positive: [0.3, -0.1, 0.2] is 0b101."""
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)


def matcher_for(tenant: TenantConfig) -> Callable[[Iterable[LiveAnswer]], ApprovedAnswers]:
    """Return the function that prepares live answers for matching in one tenant."""
    scale = CosineScale.of(tenant.embedding)
    return partial(ApprovedAnswers.of, language=language(tenant.language), scale=scale)


# --- what is served or offered ----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """An ``Offered`` of an approved answer, to serve or to offer, whose sources were just found unchanged."""

    live: LiveAnswer
    documents: Mapping[str, StoredDocument]
    """Its sources, by id, in the order of the item."""
    answers: bool
    """Whether it answers the same question, and is served. Otherwise it is only offered."""
    wording: str
    """The approved question that is nearest."""

    @property
    def refusal(self) -> str:
        return ""

    @property
    def use(self) -> ApprovedUse:
        return ApprovedUse(item_id=self.live.item_id, revision=self.live.revision)

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

    def blocks(self, cite: Cite, excerpts: Excerpts, *, opening: str) -> list[QuotedBlock]:
        """Return its paragraphs. Each cites the answer itself, and in ``rests_on`` its documents.

        ``before`` of a paragraph is the white space since the last one; the first has ``opening``.
        """
        passage = self.passage
        n = cite(passage)
        documents = self.documents.values()
        rests_on = tuple(cite(document.passages[0]) for document in documents if document.passages)
        built: list[QuotedBlock] = []
        end = 0
        for paragraph in _PARAGRAPH.finditer(passage.text):
            text, span = paragraph[0], paragraph.span()
            before = passage.text[end : paragraph.start()] if built else opening
            excerpts.add(text, Place(passage.document_id, passage.content_hash, (span,), ShownAs.UNIT))
            built.append(QuotedBlock(before, text, passage, span, n, rests_on=rests_on))
            end = paragraph.end()
        return built


class OfferApproved(Offer):
    """Serves the approved answer to the same question, and offers that to a near one.

    ``load`` is called when the desk has changed, ``find`` for each question.
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._matcher_of = matcher_for(services.tenant)
        self._answers: tuple[LiveAnswer, ...] = ()
        """The live ones of the last ``load``: only revisions that are not among them are parsed and
        embedded."""
        self.approved: ApprovedAnswers | None = None
        """None where no approved answer is live."""

    async def load(self, revisions: LiveDesk) -> None:
        """Read the live answers from the desk, and embed the questions of those without vectors."""
        answers = await self._live_answers(await revisions.list(DeskKind.APPROVED_ANSWER))
        if answers != self._answers:
            self.approved = await asyncio.to_thread(self._matcher_of, answers) if answers else None
        self._answers = answers
        _log.info("approved_answers_loaded", tenant=self._services.tenant.name, answers=len(answers))

    async def find(
        self,
        query: PartQuery,
        call: AnswerCall,
        *,
        meanings: Mapping[str, str],  # noqa: ARG002 - of the port
    ) -> ServedAnswer | None:
        """Return the answer to serve or to offer.

        None where there is none, where a source changed, is withdrawn or is closed to the reader, and where
        the check of the sources fails or is late. Raises DeadlineExceededError.
        """
        if self.approved is None:
            return None
        today = self._services.clock.now().date()
        match = self.approved.match(query.question, query.vector, labels=call.labels, today=today)
        live = match.live
        if live is None or match.reason not in ("equal", "near"):
            return None
        with call.steps.step("approved"):
            try:
                documents = await call_within(
                    _CHECK_LIMIT_S,
                    lambda step: self._unchanged(live, call.labels, deadline=step),
                    deadline=call.deadline,
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
        """Return the sources as the index has them, by id; None when one differs from when it was
        approved."""
        approved_hashes = {source.document_id: source.content_hash for source in live.answer.sources}
        if not approved_hashes:
            return {}
        states, documents = await asyncio.gather(
            self._services.documents.states.get_many(list(approved_hashes)),
            self._services.search.read_documents(list(approved_hashes), labels=labels, deadline=deadline),
        )
        for document_id, content_hash in approved_hashes.items():
            status = states.get(document_id)
            if status is None or document_id not in documents or not _holds(status, content_hash):
                _log.info("approved_answer_source_changed", item_id=live.item_id, document_id=document_id)
                return None
        return {document_id: documents[document_id] for document_id in approved_hashes}

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
    """Return whether the document has this content now: it is live, and no newer one was received."""
    return status.state not in _GONE and status.content_hash == status.live_content_hash == content_hash


class TextsWithApproved:
    """``DocumentTexts`` of documents and approved answers alike, by the prefix of the id.

    Records keep the place of an approved answer's text and not the text, as for a document. The text is not
    there for a reader once the answer is withdrawn, or where the reader may not read one of its sources
    (docs/decisions/0046).
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
        """Return an approved answer's revisions, the oldest first; none where the newest may not be read."""
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
