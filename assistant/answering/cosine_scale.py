"""One scale for the cosines of any embedding model.

The shipped weights were fitted on the packaged model's cosines. Another model's lie elsewhere: with
bge-small-en-v1.5 unrelated texts have 0.47 and not 0.07, and a gate that reads them raw lets everything
through. Two points, the mean cosine of unrelated and of related texts, bring one scale to the other
(docs/decisions/0032).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from assistant.domain.retrieval import Retrieved
from assistant.settings import EmbeddingSection

_FITTED_ON = EmbeddingSection()
"""The packaged model's means."""


@dataclass(frozen=True, slots=True)
class CosineScale:
    """Cosines of a tenant's embedding model as the weights expect them."""

    unrelated: float
    related: float

    @classmethod
    def of(cls, embedding: EmbeddingSection) -> CosineScale:
        return cls(embedding.cosine_unrelated, embedding.cosine_related)

    @property
    def is_fitted(self) -> bool:
        """Whether the weights were fitted on this very scale: then nothing is changed, to the last bit."""
        fitted = (_FITTED_ON.cosine_unrelated, _FITTED_ON.cosine_related)
        return (self.unrelated, self.related) == fitted

    def value(self, cosine: float) -> float:
        if self.is_fitted:
            return cosine
        steepness = (_FITTED_ON.cosine_related - _FITTED_ON.cosine_unrelated) / (
            self.related - self.unrelated
        )
        return _FITTED_ON.cosine_unrelated + (cosine - self.unrelated) * steepness

    def values(self, cosines: Mapping[int, float]) -> Mapping[int, float]:
        return {at: self.value(cosine) for at, cosine in cosines.items()}

    def retrieved(self, found: Retrieved) -> Retrieved:
        """Return what the index has, its hits' cosines on the scale of the weights."""
        if self.is_fitted:
            return found
        return replace(
            found,
            hits=tuple(
                hit if hit.cosine is None else replace(hit, cosine=self.value(hit.cosine))
                for hit in found.hits
            ),
            documents=tuple(
                replace(hit, title_cosine=self.value(hit.title_cosine))
                if hit.title_cosine is not None
                else hit
                for hit in found.documents
            ),
        )
