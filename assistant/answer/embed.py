"""Embeds the texts of a message, of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from math import fsum, log2, sqrt

from opentelemetry.trace import SpanKind

from assistant.answer.call import PROVIDER, AnswerCall, call_within
from assistant.answer.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.errors import EmbeddingUnavailableError, PassageTooLongError

Vectors = Mapping[str, Sequence[float]]
"""Unit-length vectors, by text."""
_HALVINGS = (0, 1, 3, 6)
"""How often the longest of some texts is cut in two, attempt after attempt, where one is over the model's
token limit: at most four calls, and 2^6 = 64 pieces of a text."""


class EmbedTexts:
    """Embeds texts by one tenant's model. One instance serves all requests of a process.

    Example::

        vectors = await embed.run(["Are refills payable?"], call)
        vectors["Are refills payable?"]  # shape (dimensions,), unit length
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def run(self, texts: Sequence[str], call: AnswerCall) -> dict[str, Sequence[float]]:
        """Return a vector by text, by one call. A text over the model's token limit is embedded in pieces
        and gets the mean of their vectors: no text is shortened.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        embedding = self._services.tenant.embedding
        limit_s = self._services.tenant.limits.embedding_timeout_s
        with call.steps.step(
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
            vectors = await call_within(
                limit_s,
                lambda step: self._vectors(texts, deadline=step),
                deadline=call.deadline,
                late=EmbeddingUnavailableError(f"The embedding endpoint took over {limit_s:g} s; ask again."),
            )
        return dict(zip(texts, vectors, strict=True))

    async def _vectors(
        self, texts: Sequence[str], *, deadline: Deadline, halvings: Sequence[int] = _HALVINGS
    ) -> list[list[float]]:
        """Return a vector for each text. ``halvings``: those of the attempts that are left."""
        longest = max([1, *map(len, texts)])

        def times(text: str) -> int:
            """Return how often a text is cut in two; below 1: not at all. One of half the longest's length
            is cut once less, so that pieces of all texts are about as long."""
            return halvings[0] - int(log2(longest / (len(text) or 1)))

        pieces_of_texts = [_pieces(text, times=times(text)) for text in texts]
        try:
            vectors = iter(await self._services.embedder.embed([*chain(*pieces_of_texts)], deadline=deadline))
        except PassageTooLongError:
            if len(halvings) == 1:
                raise
            return await self._vectors(texts, deadline=deadline, halvings=halvings[1:])
        return [_mean([next(vectors) for _ in pieces]) for pieces in pieces_of_texts]


def _pieces(text: str, *, times: int) -> list[str]:
    """Cut a text in two, then its halves, and so on: 2 ** ``times`` pieces, or fewer of a short text."""
    pieces = [text]
    for _ in range(times):
        pieces = [half for piece in pieces for half in _halves(piece)]
    return pieces


def _halves(text: str) -> list[str]:
    """Cut a text in two at the white space nearest to its middle, or in its middle if it has none."""
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
