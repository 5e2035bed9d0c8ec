"""Mean cosines of an embedding model, over the packaged pairs of question and answer."""

from __future__ import annotations

import numpy as np
import pytest

from assistant.domain.errors import ConfigurationError
from assistant.model_server.embedding import CosineMeans, Floats, measure_cosines, packaged_pairs

PAIRS = packaged_pairs()


def _own_axis(text: str) -> Floats:
    """Every text of a pair lies on the pair's axis, answers half off it; no vector has length 1."""
    place = next(at for at, pair in enumerate(PAIRS) if text in (pair.question, pair.answer))
    vector = np.zeros(len(PAIRS) + 1, np.float32)
    vector[place] = 5.0
    if text == PAIRS[place].answer:
        vector[-1] = 5.0
    return vector


def test_there_are_32_pairs_of_texts_that_all_differ() -> None:
    assert len(PAIRS) == 32
    assert len({text for pair in PAIRS for text in (pair.question, pair.answer)}) == 64


def test_an_answer_is_embedded_under_its_title() -> None:
    assert PAIRS[5].answer.startswith("Storing insulin\nAn opened insulin pen")


def test_each_question_is_compared_with_its_own_answer_and_with_all_others() -> None:
    assert measure_cosines(_own_axis) == CosineMeans(unrelated=0.0, related=0.707)


@pytest.mark.parametrize("related", [0.4, 0.45, float("nan")])
def test_a_model_that_hardly_prefers_the_answer_is_refused(related: float) -> None:
    with pytest.raises(ConfigurationError, match=f"mean cosine is {related} with its answer and 0.4 with"):
        CosineMeans(unrelated=0.4, related=related).refuse_alike("other")


def test_a_model_that_prefers_the_answer_is_taken() -> None:
    CosineMeans(unrelated=0.4, related=0.5).refuse_alike("other")
