"""Asks the committed questions by the code of the answer path, without any model writing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from assistant.answering.prepare import AnswerRequest, FollowUpRequest, PrepareAnswer, PreparedAnswer
from assistant.answering.quote import Headings
from assistant.answering.services import TenantServices, elapsed_ms
from assistant.domain.clock import Deadline
from assistant.domain.documents import RRF_K, VECTOR_LEG_WEIGHT, Retrieved, StoredDocument
from assistant.domain.documents import reciprocal_rank_fusion as fuse
from assistant.domain.errors import ConfigurationError, OverloadedError
from assistant.domain.identity import Identity, Role
from assistant.evaluation.questions import EvaluationQuestion

_DEADLINE_S = 30.0
_ATTEMPTS = 4
_BACK_OFF_S = 0.2
_READ_AT_ONCE = 20
_MOST_EARLIER_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class Observed:
    """What the answer path prepared for one question."""

    question: EvaluationQuestion
    before: str | None
    prepared: PreparedAnswer
    timings_ms: Mapping[str, float]
    """By step of the first attempt, and their ``total``."""
    without_unit_vectors: bool


class Observer:
    """Asks one tenant's questions, as an agent without access labels does."""

    def __init__(self, services: TenantServices) -> None:
        self._services = replace(services, model=replace(services.model, writes_answers=False))
        self._prepare = PrepareAnswer(self._services)
        self._identity = Identity(services.tenant.name, "evaluation", frozenset({Role.AGENT}), frozenset())
        self._read: dict[str, StoredDocument] = {}

    @property
    def headings(self) -> Headings:
        return self._prepare.find_evidence.headings

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 (hex) of each weights file, by kind."""
        return self._prepare.find_evidence.weights

    @property
    def leg_size(self) -> int:
        return self._services.tenant.retrieval.leg_size

    @property
    def max_words(self) -> int:
        return self._services.tenant.answers.max_words

    async def ask(self, question: EvaluationQuestion, *, before: str | None = None) -> Observed:
        """Return what an agent would be shown. Asks again while the embedding endpoint is late.

        Raises AssistantError.
        """
        timings_ms: Mapping[str, float] = {}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                prepared, spent_ms = await self._once(question.question, before)
            except OverloadedError:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(_BACK_OFF_S * 2**attempt)
                continue
            timings_ms = timings_ms or spent_ms
            late = _lacks_unit_vectors(prepared)
            if not late or attempt == _ATTEMPTS:
                return Observed(question, before, prepared, timings_ms, late)
        raise AssertionError("unreachable")

    async def _once(self, question: str, before: str | None) -> tuple[PreparedAnswer, Mapping[str, float]]:
        clock = self._services.clock
        started_s = clock.monotonic_s()
        request = (
            AnswerRequest(question=question)
            if before is None
            else FollowUpRequest(question=question, earlier_question=before[:_MOST_EARLIER_CHARACTERS])
        )
        prepared = await self._prepare.prepare(
            request, identity=self._identity, deadline=Deadline.after(_DEADLINE_S, clock=clock)
        )
        prepared.steps.root.end()
        return prepared, {**prepared.steps.timings_ms, "total": elapsed_ms(started_s, clock=clock)}

    async def documents(self, document_ids: Iterable[str]) -> Mapping[str, StoredDocument]:
        """Return documents by id; those that are not in the index are absent. Raises AssistantError."""
        wanted = list(dict.fromkeys(document_ids))
        missing = [name for name in wanted if name not in self._read]
        for start in range(0, len(missing), _READ_AT_ONCE):
            deadline = Deadline.after(_DEADLINE_S, clock=self._services.clock)
            self._read.update(
                await self._services.search.read_documents(
                    missing[start : start + _READ_AT_ONCE], labels=frozenset(), deadline=deadline
                )
            )
        return {name: self._read[name] for name in wanted if name in self._read}

    async def check(self, questions: Sequence[EvaluationQuestion]) -> None:
        """Raise ConfigurationError for the first question that names a document which is not there."""
        named = {
            question.qid: {*question.documents, *filter(None, [question.near])} for question in questions
        }
        known = await self.documents(name for names in named.values() for name in names)
        for qid, names in named.items():
            for name in sorted(names - known.keys()):
                raise ConfigurationError(
                    f"{qid} names the document {name}, which {self._services.tenant.name} does not have or "
                    "shows to agents with a label only. Add the document, or correct the question."
                )


def rrf_documents(retrieved: Retrieved, *, leg_size: int) -> list[str]:
    """Return the documents as plain reciprocal rank fusion of both legs of passages orders them."""
    lexical = sorted(
        (hit for hit in retrieved.hits if hit.lexical_score is not None),
        key=lambda hit: (-(hit.lexical_score or 0.0), hit.passage_id),
    )
    vector = sorted(
        (hit for hit in retrieved.hits if hit.cosine is not None),
        key=lambda hit: (-(hit.cosine or 0.0), hit.passage_id),
    )
    documents = {hit.passage_id: hit.document_id for hit in retrieved.hits}
    legs = [[hit.passage_id for hit in leg[:leg_size]] for leg in (lexical, vector)]
    fused = fuse(legs, weights=(1.0, VECTOR_LEG_WEIGHT), k=RRF_K)
    return list(dict.fromkeys(documents[passage_id] for passage_id in fused))


def _lacks_unit_vectors(prepared: PreparedAnswer) -> bool:
    for evidence in prepared.evidence:
        best = evidence.best
        if best is None:
            continue
        units = evidence.scored.get(best.card.document_id, ())
        if units and not any("unit_cosine" in one.features for one in units):
            return True
    return False
