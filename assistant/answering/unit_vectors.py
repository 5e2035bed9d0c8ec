"""Vectors of single units, made when a question needs them and kept for the next one.

An index that stored a vector for each unit would be three times as large (450 MB more at 16,407 documents)
and take twice as long to fill. The dozen units that a question may quote cost the embedding endpoint some 500
tokens instead, and those of documents that are asked about again nothing.

A unit is embedded under its document's title and its heading: alone, "Use prescription numbers and not names"
says nothing of what it is about (docs/decisions/0029).
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import mul
from typing import NamedTuple

import structlog

from assistant.answering.ports import TextEmbedder
from assistant.answering.waiting import within
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import DocumentCard, Unit, embedding_input
from assistant.domain.errors import AssistantError, EmbeddingUnavailableError

MOST_KEPT = 4_000
"""Vectors in one process: 6 MiB at 384 dimensions."""
TIMEOUT_S = 0.25
"""A quote without these vectors is worse by some points; one that comes late is worse than that."""
LONGEST_CHARACTERS = 700
"""A longer text is over the model's limit, or nearly: a unit goes without a vector."""
_log = structlog.get_logger(__name__)


class Key(NamedTuple):
    """What names the text that a vector is of."""

    content_hash: str
    title: str
    ordinal: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Units of one document that may be quoted."""

    card: DocumentCard
    units: Sequence[Unit]

    def texts(self) -> Iterator[tuple[Key, str]]:
        """Yield each unit's key, and its text under the document's title and the unit's heading."""
        title = self.card.title
        for unit in self.units:
            text = embedding_input(title=title, heading=unit.heading, text=unit.text)
            yield Key(self.card.content_hash, title, unit.ordinal), text


class UnitVectors:
    """One tenant's units, the least recently used forgotten first. For one event loop."""

    def __init__(self, embedder: TextEmbedder, *, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._kept: OrderedDict[Key, array[float]] = OrderedDict()

    async def cosines(
        self, question: Sequence[float], wanted: Sequence[Candidates], *, deadline: Deadline
    ) -> Mapping[str, Mapping[int, float]]:
        """Return the cosine of the question's unit-length vector with each unit: by document id, by ordinal.

        Empty when the endpoint fails or is late: a quote does not depend on it. Raises DeadlineExceededError.
        """
        short = {
            one.card.document_id: {key: text for key, text in one.texts() if len(text) <= LONGEST_CHARACTERS}
            for one in wanted
        }
        texts = {key: text for placed in short.values() for key, text in placed.items()}
        if not texts:
            return {}
        vectors = {key: kept for key in texts if (kept := self._kept.get(key)) is not None}
        missing = [key for key in texts if key not in vectors]
        made = await self._embed([texts[key] for key in missing], deadline=deadline)
        if len(made) < len(missing):
            return {}
        asked = array("f", question)
        vectors.update((key, array("f", vector)) for key, vector in zip(missing, made, strict=True))
        for key, vector in vectors.items():  # another question may have forgotten some meanwhile
            self._kept[key] = vector
            self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return {
            document_id: {key.ordinal: _product(asked, vectors[key]) for key in placed}
            for document_id, placed in short.items()
        }

    async def _embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return a vector for each text; none at all when the endpoint fails or is late."""
        if not texts:
            return []
        step = Deadline.after(deadline.within_s(TIMEOUT_S), clock=self._clock)
        try:
            return await within(
                self._embedder.embed(texts, deadline=step),
                step=step,
                whole=deadline,
                late=EmbeddingUnavailableError("The embedding endpoint is late."),
            )
        except AssistantError as error:
            _log.info("units_without_vectors", code=error.code)
            return []


def _product(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the scalar product: 15 µs at 384 dimensions. (``math.sumprod`` is of Python 3.12.)"""
    return sum(map(mul, one, other))
