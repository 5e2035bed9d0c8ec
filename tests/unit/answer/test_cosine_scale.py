"""Cosines of another embedding model, on the scale that the weights were fitted on."""

from __future__ import annotations

import pytest

from assistant.answer.scores import CosineScale
from assistant.domain.documents import DocumentHit, PassageHit, Retrieved
from assistant.tenant.tenant import EmbeddingSection

PACKAGED = EmbeddingSection()
OTHER = CosineScale(unrelated=0.49, related=0.74)


def test_the_packaged_model_s_own_cosines_are_not_touched() -> None:
    scale = CosineScale.of(PACKAGED)
    found = Retrieved((), 0.3, "v", hits=(PassageHit("p", "d", 1.0, 0.1 + 0.2),))
    assert scale.value(0.1 + 0.2) == 0.1 + 0.2
    assert scale.retrieved(found) is found


def test_every_cosine_of_a_search_is_brought_to_the_scale_and_nothing_else() -> None:
    found = Retrieved(
        (),
        0.74,
        "v",
        hits=(PassageHit("a", "d", 3.0, 0.74), PassageHit("b", "d", 2.0, None)),
        documents=(DocumentHit("d", 0.49, 5.0, 7.0), DocumentHit("e", None, None, 1.0)),
    )
    scaled = OTHER.retrieved(found)
    assert [hit.cosine for hit in scaled.hits] == [pytest.approx(PACKAGED.cosine_related), None]
    assert [hit.title_cosine for hit in scaled.documents] == [pytest.approx(PACKAGED.cosine_unrelated), None]
    assert [hit.lexical_score for hit in scaled.hits] == [3.0, 2.0]
    assert scaled.best_cosine == 0.74
