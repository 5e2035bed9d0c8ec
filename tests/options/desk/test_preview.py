"""Vectors of recent questions: each is made once."""

from __future__ import annotations

import pytest

from assistant.domain.errors import EmbeddingUnavailableError
from assistant.options.desk.preview import QuestionVectors
from tests.fakes.answering import FakeEmbedder, vector_of
from tests.fakes.clock import SteppedClock


async def test_a_question_is_embedded_once_and_equal_ones_share_a_vector() -> None:
    embedder = FakeEmbedder()
    vectors = QuestionVectors(embedder, clock=SteppedClock())
    first = await vectors.of(["How long?", "Where?", "How long?"])
    again = await vectors.of(["Where?", "When?"])
    assert embedder.texts == [["How long?", "Where?"], ["When?"]]
    assert first[0] == first[2]
    assert list(again[0]) == pytest.approx(vector_of("Where?"), abs=1e-6)


async def test_a_call_has_a_bound_of_texts() -> None:
    embedder = FakeEmbedder()
    await QuestionVectors(embedder, clock=SteppedClock()).of([f"Question {number}?" for number in range(70)])
    assert [len(texts) for texts in embedder.texts] == [32, 32, 6]


async def test_what_was_made_before_a_failure_is_kept() -> None:
    embedder = FakeEmbedder(error=EmbeddingUnavailableError("down"), after=1)
    vectors = QuestionVectors(embedder, clock=SteppedClock())
    questions = [f"Question {number}?" for number in range(40)]
    with pytest.raises(EmbeddingUnavailableError):
        await vectors.of(questions)
    embedder.error = None
    await vectors.of(questions)
    assert [len(texts) for texts in embedder.texts] == [32, 8, 8]
