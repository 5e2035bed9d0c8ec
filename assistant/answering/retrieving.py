"""Text → vector → hits: the one way to search, for answers, the command line and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum, sqrt

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from assistant.answering.services import TenantServices
from assistant.answering.steps import PROVIDER, Steps
from assistant.answering.waiting import within
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    EmbeddingUnavailableError,
    PassageTooLongError,
    SearchUnavailableError,
)
from assistant.domain.retrieval import PassageQuery, Retrieved, SearchFilters, StoredDocument

_MOST_PIECES = 64


class RetrievePassages:
    """Embeds a question and searches the tenant's index, each under its own limit and the deadline."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def retrieve(
        self,
        searched: str,
        *,
        vector: Sequence[float],
        labels: frozenset[str],
        deadline: Deadline,
        filters: SearchFilters | None = None,
        size: int | None = None,
        with_codes: Sequence[str] = (),
        steps: Steps | None = None,
    ) -> Retrieved:
        """Return what the index has for a text and its vector, with the best ``size`` passages (by default
        as many as the tenant's answers show; all of both legs where the question names codes).

        Raises SearchUnavailableError, DeadlineExceededError.
        """
        steps = steps or Steps(trace.INVALID_SPAN, clock=self._services.clock)
        retrieval = self._services.tenant.retrieval
        wanted = size or retrieval.passages
        leg_size = max(retrieval.leg_size, wanted)
        query = PassageQuery(
            text=searched,
            vector=vector,
            filters=filters or SearchFilters(),
            labels=labels,
            leg_size=leg_size,
            size=2 * leg_size if with_codes else wanted,
        )
        return await self._search(query, deadline=deadline, steps=steps)

    async def read(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline, steps: Steps
    ) -> Mapping[str, StoredDocument]:
        """Return documents with their units. Raises SearchUnavailableError, DeadlineExceededError."""
        if not document_ids:
            return {}
        with steps.step("read", kind=SpanKind.CLIENT):
            limit_s = self._services.tenant.limits.search_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again.")
            reading = self._services.search.read_documents(document_ids, labels=labels, deadline=step)
            return await within(reading, step=step, whole=deadline, late=late)

    async def embed(
        self, texts: Sequence[str], *, deadline: Deadline, steps: Steps | None = None
    ) -> list[list[float]]:
        """Return a vector for each text, by one call. A text over the model's token limit is embedded in
        pieces, whose mean stands for it: nothing is cut.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        steps = steps or Steps(trace.INVALID_SPAN, clock=self._services.clock)
        embedding = self._services.tenant.embedding
        with steps.step(
            "embed",
            span_name=f"embeddings {embedding.model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": embedding.model,
                "gen_ai.embeddings.dimension.count": embedding.dimensions,
            },
        ):
            limit_s = self._services.tenant.limits.embedding_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = EmbeddingUnavailableError(f"The embedding endpoint took over {limit_s:g} s; ask again.")
            return await within(self._vectors(texts, deadline=step), step=step, whole=deadline, late=late)

    async def _vectors(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        try:
            return await self._services.embedder.embed(texts, deadline=deadline)
        except PassageTooLongError:
            return [_mean(await self._of_pieces(text, deadline=deadline)) for text in texts]

    async def _of_pieces(self, text: str, *, deadline: Deadline) -> list[list[float]]:
        pieces = [text]
        while True:
            try:
                return await self._services.embedder.embed(pieces, deadline=deadline)
            except PassageTooLongError:
                if len(pieces) >= _MOST_PIECES:
                    raise
                pieces = [half for piece in pieces for half in _halves(piece)]

    async def _search(self, query: PassageQuery, *, deadline: Deadline, steps: Steps) -> Retrieved:
        with steps.step(
            "search",
            span_name="retrieval passages",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "passages"},
        ) as span:
            limit_s = self._services.tenant.limits.search_timeout_s
            step = Deadline.after(deadline.within_s(limit_s), clock=self._services.clock)
            late = SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again.")
            search = self._services.search.search(query, deadline=step)
            retrieved = await within(search, step=step, whole=deadline, late=late)
            span.set_attribute("assistant.index_version", retrieved.index_version)
            span.set_attribute("assistant.passages", len(retrieved.passages))
            return retrieved


def _halves(text: str) -> list[str]:
    """Cut a text in two at the white space nearest to its middle; a text without any in its middle."""
    middle = len(text) // 2
    before, after = text.rfind(" ", 0, middle), text.find(" ", middle)
    cut = min((at for at in (before, after) if at > 0), key=lambda at: abs(at - middle), default=middle)
    return [half for half in (text[:cut].strip(), text[cut:].strip()) if half]


def _mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    """Return the unit-length mean of unit-length vectors."""
    if len(vectors) == 1:
        return list(vectors[0])
    sums = [fsum(column) for column in zip(*vectors, strict=True)]
    length = sqrt(fsum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]
