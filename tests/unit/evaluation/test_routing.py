"""Labelled questions, and the figures that are made of them."""

from __future__ import annotations

import pytest

from assistant.evaluation.routing import (
    RoutedQuestion,
    RoutingTrial,
    ndcg,
)
from tests.fakes.answering import FakeTenant, document


def test_ndcg_is_one_for_the_wanted_order_and_zero_where_none_is_found() -> None:
    assert ndcg(["a", "b", "x"], ["a", "b"]) == pytest.approx(1.0)
    assert 0.0 < ndcg(["x", "b", "a"], ["a", "b"]) < 1.0
    assert ndcg([f"x{at}" for at in range(10)] + ["a"], ["a"]) == 0.0


async def test_a_question_is_asked_of_the_sources_and_of_one_merged_index() -> None:
    tenant = FakeTenant().with_documents(
        document("kettle", "The kettle holds two litres.", title="Kettle"),
        document("reviews:r1", "Customers like the kettle.", title="Kettle: nice"),
    )
    sources = [
        {"name": "catalogue", "access": "everyone", "namespace": "", "kind": "catalogue"},
        {"name": "reviews", "access": "everyone", "kind": "reviews"},
    ]
    tenant.config = type(tenant.config).model_validate(tenant.config.model_dump() | {"sources": sources})
    services = tenant.services
    asked = RoutedQuestion(
        id="q",
        question="How much does the kettle hold? What capacity?",
        kind="fact",
        sources=("catalogue",),
        must=("two litres",),
        documents=("kettle",),
    )
    result = await RoutingTrial(services).ask(asked)
    assert {search.ids is None for search in tenant.search.queries} == {True, False}
    assert result.values == {
        "right source first": 1.0,
        "right source first, by keywords": 1.0,
        "gain over keywords": 0.0,
        "nDCG@10": 1.0,
        "nDCG@10 by routing alone": 1.0,
        "nDCG@10 of one merged index": 1.0,
        "gain of routing alone over it": 0.0,
        "quote holds what it must": 1.0,
        "quote_differs": 0.0,
        "quote_begins_late": 0.0,
    }
    assert result.miss == ""
    wrong = await RoutingTrial(services).ask(
        asked.model_copy(update={"sources": ("reviews",), "must": ("three litres",)})
    )
    assert (wrong.values["right source first"], wrong.values["quote holds what it must"]) == (0.0, 0.0)
    assert wrong.miss.endswith("| How much does the kettle hold? What capacity?")
    nothing = RoutedQuestion(id="n", question="What about the moon?", kind="none", sources=())
    values = (await RoutingTrial(services).ask(nothing)).values
    assert values["nothing answers it, and the section is only near"] == 1.0
