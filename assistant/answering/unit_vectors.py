"""Vectors of single units, made when a question needs them and kept for the next one.

An index that stored a vector for each unit would be three times as large (450 MB more at 16,407 documents)
and take twice as long to fill. The dozen units that a question may quote cost the embedding endpoint some 300
tokens instead, and those of documents that are asked about again nothing.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from operator import mul

import structlog

from assistant.answering.ports import TextEmbedder
from assistant.answering.waiting import within
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import Unit
from assistant.domain.errors import AssistantError, EmbeddingUnavailableError

MOST_KEPT = 4_000
"""Vectors in one process: 6 MiB at 384 dimensions."""
TIMEOUT_S = 0.25
"""A quote without these vectors is worse by some points; one that comes late is worse than that."""
LONGEST_CHARACTERS = 700
"""A longer unit is over the model's limit, or nearly: it goes without a vector."""
_log = structlog.get_logger(__name__)


class UnitVectors:
    """One tenant's units, the least recently used forgotten first. For one event loop."""

    def __init__(self, embedder: TextEmbedder, *, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._kept: OrderedDict[tuple[str, int], array[float]] = OrderedDict()

    async def cosines(
        self, question: Sequence[float], units: Sequence[Unit], *, content_hash: str, deadline: Deadline
    ) -> Mapping[int, float]:
        """Return the cosine of the question's unit-length vector with each unit, by ordinal.

        ``content_hash`` names the content that the units are of. Empty when the endpoint fails or is late:
        a quote does not depend on it. Raises DeadlineExceededError.
        """
        short = [unit for unit in units if len(unit.text) <= LONGEST_CHARACTERS]
        vectors = {
            unit.ordinal: kept
            for unit in short
            if (kept := self._kept.get((content_hash, unit.ordinal))) is not None
        }
        missing = [unit for unit in short if unit.ordinal not in vectors]
        if missing:
            step = Deadline.after(deadline.within_s(TIMEOUT_S), clock=self._clock)
            try:
                made = await within(
                    self._embedder.embed([unit.text for unit in missing], deadline=step),
                    step=step,
                    whole=deadline,
                    late=EmbeddingUnavailableError("The embedding endpoint is late."),
                )
            except AssistantError as error:
                _log.info("units_without_vectors", code=error.code)
                return {}
            for unit, vector in zip(missing, made, strict=True):
                vectors[unit.ordinal] = array("f", vector)
        for ordinal, vector in vectors.items():  # another question may have forgotten some meanwhile
            self._kept[content_hash, ordinal] = vector
            self._kept.move_to_end((content_hash, ordinal))
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        asked = array("f", question)
        return {ordinal: _product(asked, vector) for ordinal, vector in vectors.items()}


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the scalar product: 15 µs at 384 dimensions. (``math.sumprod`` is of Python 3.12.)"""
    return sum(map(mul, one, other))
