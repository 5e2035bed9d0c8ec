"""Labelled questions, and the figures that are made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assistant.answering.adaptations import Adaptations
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.routing import (
    RoutedQuestion,
    RoutedResult,
    RoutingTrial,
    figures,
    load_routed,
    ndcg,
)
from tests.fakes.answering import FakeTenant, document

QUESTION = RoutedQuestion(id="q", question="Is it?", kind="fact", sources=("catalogue",), items=("k2",))
RESULT = RoutedResult(
    question=QUESTION,
    routed_first=True,
    keywords_first=False,
    document_first=True,
    ndcg=1.0,
    ndcg_alone=0.8,
    ndcg_merged=0.5,
    holds=True,
    holds_merged=False,
    answered=True,
)


def test_ndcg_is_one_for_the_wanted_order_and_zero_where_none_is_found() -> None:
    assert ndcg(["a", "b", "x"], ["a", "b"]) == pytest.approx(1.0)
    assert 0.0 < ndcg(["x", "b", "a"], ["a", "b"]) < 1.0
    assert ndcg([f"x{at}" for at in range(10)] + ["a"], ["a"]) == 0.0


def test_figures_are_means_with_intervals_by_group() -> None:
    wrong = replace(
        RESULT, question=QUESTION.model_copy(update={"items": ("k3",)}), routed_first=False, ndcg=0.5
    )
    found = {one.name: one for one in figures([RESULT, RESULT, wrong])}
    assert found["right source first"].value == pytest.approx(2 / 3)
    assert (found["right source first"].low, found["right source first"].high) == (0.0, 1.0)
    assert found["gain over one merged index"].value == pytest.approx(1 / 3)
    assert "nothing answers it, and it is refused" not in found


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "a", "question": "?", "kind": "fact", "sources": []}\n{"id": "b"}\n')
    with pytest.raises(ConfigurationError, match=r"q.jsonl:2: question"):
        load_routed(path)
    path.write_text('{"id": "a", "question": "?", "kind": "fact", "sources": []}\n' * 2)
    with pytest.raises(ConfigurationError, match="occurs twice"):
        load_routed(path)


async def test_a_question_is_asked_of_the_sources_and_of_one_merged_index() -> None:
    tenant = FakeTenant().with_documents(
        document("kettle", "The kettle holds two litres.", title="Kettle"),
        document("reviews:r1", "Customers like the kettle.", title="Kettle: nice"),
    )
    sources = [
        {"name": "catalogue", "namespace": "", "kind": "catalogue"},
        {"name": "reviews", "kind": "reviews"},
    ]
    tenant.config = type(tenant.config).model_validate(tenant.config.model_dump() | {"sources": sources})
    services = tenant.services
    adaptations = Adaptations(tenant.config, desk=None, embedder=services.embedder, clock=services.clock)
    asked = RoutedQuestion(
        id="q",
        question="How much does the kettle hold? What capacity?",
        kind="fact",
        sources=("catalogue",),
        must=("two litres",),
        documents=("kettle",),
    )
    result = await RoutingTrial(services, adaptations).ask(asked)
    assert {search.ids is None for search in tenant.search.queries} == {True, False}
    assert (result.routed_first, result.keywords_first, result.document_first) == (True, True, True)
    assert (result.ndcg, result.holds) == (1.0, True)
    nothing = RoutedQuestion(id="n", question="What about the moon?", kind="none", sources=())
    refused = await RoutingTrial(services, adaptations).ask(nothing)
    assert (refused.routed_first, refused.ndcg, refused.holds) == (None, None, None)
