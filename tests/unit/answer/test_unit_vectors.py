"""Vectors of single units: made when needed and kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from assistant.answer import scores
from assistant.answer.scores import UNITS_EMBEDDED, ScoredUnit, UnitVectors
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import DocumentCard, Span, Unit, UnitKind, embedding_input
from assistant.domain.errors import (
    EmbeddingUnavailableError,
)
from tests.fakes.answering import FakeEmbedder, Gate, cosine, passage, vector_of

QUESTION = "When are refills payable?"


def units(*texts: str) -> list[Unit]:
    return [
        Unit(ordinal=n, kind=UnitKind.SENTENCE, text=text, span=Span(0, len(text)), heading="")
        for n, text in enumerate(texts)
    ]


REFILLS = units("Refills are payable on day 23.", "Parcels wait.")


def card(content_hash: str = "1", *, document_id: str = "refills") -> DocumentCard:
    return DocumentCard(
        document_id=document_id,
        content_hash=content_hash,
        title="Refills",
        questions=(),
        source="care",
        type="procedure",
        url=None,
        owner=None,
        effective_date=None,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC),
        labels=(),
    )


def scored(asked: Sequence[Unit]) -> list[ScoredUnit]:
    """Return the units, each less likely than the one before it."""
    return [ScoredUnit(unit, passage(), -float(at), {}) for at, unit in enumerate(asked)]


def placed(*texts: str) -> list[str]:
    """Return the texts as they are embedded: under the document's title."""
    return [embedding_input(title="Refills", heading="", text=text) for text in texts]


async def cosines(
    vectors: UnitVectors,
    asked: Sequence[Unit] = REFILLS,
    *,
    content_hash: str = "1",
    seconds: float = 5.0,
) -> Mapping[int, float]:
    deadline = Deadline.after(seconds, clock=SystemClock())
    wanted = [(card(content_hash), scored(asked))]
    found = await vectors.cosines(vector_of(QUESTION), wanted, deadline=deadline)
    return found.get("refills", {})


def made(embedder: FakeEmbedder, *, limit_s: float = 5.0) -> UnitVectors:
    return UnitVectors(embedder, limit_s=limit_s)


async def test_each_unit_has_its_cosine_with_the_question() -> None:
    found = await cosines(made(FakeEmbedder()))
    texts = placed(*(unit.text for unit in REFILLS))
    expected = {
        unit.ordinal: cosine(vector_of(QUESTION), text) for unit, text in zip(REFILLS, texts, strict=True)
    }
    assert found == pytest.approx(expected, abs=1e-6)


async def test_a_unit_is_embedded_under_its_title_and_heading() -> None:
    embedder = FakeEmbedder()
    unit = replace(REFILLS[0], heading="Steps > Timing")
    await cosines(made(embedder), [unit])
    (texts,) = embedder.texts
    assert texts == [embedding_input(title="Refills", heading=unit.heading, text=unit.text)]


async def test_vectors_that_are_kept_are_not_asked_for_again() -> None:
    embedder = FakeEmbedder()
    vectors = made(embedder)
    first = await cosines(vectors)
    assert await cosines(vectors) == first
    await cosines(vectors, units("Refills are payable on day 23.", "Parcels wait.", "Call."))
    assert embedder.texts == [placed("Refills are payable on day 23.", "Parcels wait."), placed("Call.")]


async def test_an_endpoint_that_is_late_is_unavailable() -> None:
    with pytest.raises(EmbeddingUnavailableError, match="late"):
        await cosines(made(FakeEmbedder(hangs=True), limit_s=0.01))


async def test_only_the_likeliest_units_get_a_vector() -> None:
    embedder = FakeEmbedder()
    many = units(*(f"Unit {number}." for number in range(UNITS_EMBEDDED + 3)))
    assert set(await cosines(made(embedder), many)) == set(range(UNITS_EMBEDDED))


async def test_a_unit_that_its_passage_cuts_gets_none() -> None:
    embedder = FakeEmbedder()
    cut, whole = units("Refills are payable on day 23.", "Parcels wait.")
    cut = replace(cut, span=Span(0, passage().span.end + 1))
    assert set(await cosines(made(embedder), [cut, whole])) == {1}
    assert embedder.texts == [placed("Parcels wait.")]


async def test_the_least_recently_used_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "MOST_UNIT_VECTORS", 3)
    embedder = FakeEmbedder()
    vectors = made(embedder)
    one, two, three, four = units("One.", "Two.", "Three.", "Four.")
    await cosines(vectors, [one, two, three])
    await cosines(vectors, [one])
    await cosines(vectors, [four])
    await cosines(vectors, [one, three, four])
    assert embedder.texts == [placed("One.", "Two.", "Three."), placed("Four.")]
    await cosines(vectors, [two])
    assert embedder.texts[2:] == [placed("Two.")]


async def test_vectors_that_another_question_pushed_out_meanwhile_are_still_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scores, "MOST_UNIT_VECTORS", 2)
    gate = Gate()

    class Waiting(FakeEmbedder):
        async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
            if placed("New.")[0] in texts:
                gate.reached.set()
                await gate.opened.wait()
            return await super().embed(texts, deadline=deadline)

    vectors = made(Waiting())
    kept, new = units("Kept.", "New.")
    await cosines(vectors, [kept])
    waiting = asyncio.create_task(cosines(vectors, [kept, new]))
    await asyncio.wait_for(gate.reached.wait(), 60)
    await cosines(vectors, units("One.", "Two."), content_hash="other")
    gate.opened.set()
    assert set(await asyncio.wait_for(waiting, 60)) == {0, 1}
