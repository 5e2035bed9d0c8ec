from __future__ import annotations

import json

import numpy as np
import pytest

from assistant.answering.retrieve import read_weights, shipped_weights
from assistant.evaluation.fitting import (
    Choice,
    GateRow,
    choose_thresholds,
    fit_gate,
    fit_listwise,
    gate_rows,
    prior_of,
    quoter_choices,
    ranker_choices,
    reranker_choices,
    weights_file,
)
from assistant.evaluation.judging import Observer
from tests.fakes.answering import FakeTenant, document
from tests.unit.evaluation.results import question, unanswerable

PLANTED = (3.0, -2.0, 0.0)


def choices(count: int = 300) -> list[Choice]:
    """Return lists whose right row was drawn with the planted weights."""
    drawn = np.random.default_rng(7)
    made: list[Choice] = []
    for _ in range(count):
        rows = drawn.normal(size=(6, len(PLANTED)))
        chance = np.exp(rows @ np.array(PLANTED))
        made.append(Choice(rows, (int(drawn.choice(6, p=chance / chance.sum())),)))
    return made


def test_a_listwise_fit_recovers_planted_weights() -> None:
    found = fit_listwise(choices(), [0.0, 0.0, 0.0], pull=0.1)
    assert found == pytest.approx(PLANTED, abs=0.6)


def test_a_strong_pull_keeps_the_prior() -> None:
    prior = [1.0, 1.0, 1.0]
    assert fit_listwise(choices(20), prior, pull=1e6) == pytest.approx(prior, abs=0.02)
    assert fit_listwise([], prior, pull=1.0) == prior


def test_a_fit_gives_the_same_weights_each_time() -> None:
    assert fit_listwise(choices(40), [0.0] * 3, pull=5) == fit_listwise(choices(40), [0.0] * 3, pull=5)


def test_the_gate_recovers_a_planted_threshold_in_the_units_of_its_features() -> None:
    drawn = np.random.default_rng(3)
    rows = [
        GateRow({"cosine": float(value), "noise": float(noise)}, bool(value > 0.6))
        for value, noise in zip(drawn.uniform(0, 1, 400), drawn.normal(0, 50, 400), strict=True)
    ]
    (cosine, noise), bias = fit_gate(rows, ["cosine", "noise"], pull=1.0)
    assert -bias / cosine == pytest.approx(0.6, abs=0.05)
    assert abs(noise * 50) < 0.2 * cosine


def test_the_gate_needs_both_kinds_of_question() -> None:
    with pytest.raises(ValueError, match="one kind is missing"):
        fit_gate([GateRow({"cosine": 1.0}, True)], ["cosine"], pull=1.0)


def test_thresholds_keep_both_errors_under_their_shares() -> None:
    drawn = np.random.default_rng(5)
    rows = [(float(value), True) for value in drawn.beta(4, 2, 100)]
    rows += [(float(value), False) for value in drawn.beta(2, 4, 100)]
    found = choose_thresholds(rows)
    assert sum(value >= found.answered for value, known in rows if not known) == 8
    assert sum(value < found.possibly for value, known in rows if known) <= 4
    assert found.possibly <= found.answered


def test_thresholds_of_two_apart_groups_do_not_cross() -> None:
    found = choose_thresholds([(0.9, True)] * 10 + [(0.1, False)] * 10)
    assert found.answered > 0.1
    assert found.possibly <= found.answered <= 0.9


def test_a_weights_file_is_read_as_it_was_written_with_four_decimals() -> None:
    raw = weights_file("gate", ["coverage", "title"], [1.23456789, -0.00001], fitted_on="x", bias=-0.5)
    assert json.loads(raw)["features"] == {"coverage": 1.2346, "title": 0.0}
    assert b"-0.0," not in raw
    weights = read_weights(raw, name="gate.json", kind="gate")
    assert weights.score({"coverage": 1.0}) == pytest.approx(0.7346)


async def test_lists_are_made_of_what_the_answer_path_saw() -> None:
    tenant = FakeTenant().with_documents(
        document(
            "parcel", "# Steps\n\nReport a parcel within 7 days.\n\nAsk the Returns Desk.", title="Parcel"
        ),
        document("refill", "# Steps\n\nA refill is payable on day 23.", title="Refill"),
    )
    asked = question(
        "a",
        question="When do I report a parcel?",
        documents=("parcel",),
        gold=("Report a parcel within 7 days.",),
    )
    observer = Observer(tenant.services)
    observed = [await observer.ask(asked), await observer.ask(unanswerable("u", question="Report a parcel?"))]
    [searched] = ranker_choices(observed)
    assert searched.rows.shape[0] == 2
    [units] = quoter_choices(observed, ["overlap", "unit_cosine"])
    assert units.rows.shape == (2, 2)
    assert units.right == (0,)
    evidence = observed[0].prepared.evidence[0]
    shipped = shipped_weights("ranker")
    [read] = reranker_choices(
        observed,
        ["index", "best_unit"],
        ranker_before=shipped,
        ranker=shipped.features,
        quoter=shipped_weights("quoter").features,
    )
    expected = {one.document_id: one.features for one in evidence.ranked}
    order = list(evidence.scored)
    assert read.right == (order.index("parcel"),)
    for at, name in enumerate(order):
        assert read.rows[at] == pytest.approx([expected[name]["index"], expected[name]["best_unit"]])
    assert [row.answerable for row in gate_rows(observed)] == [True, False]


def test_a_feature_without_a_prior_is_pulled_towards_zero() -> None:
    assert prior_of("ranker", ["passage_cosine", "new"]) == [0.9, 0.0]
