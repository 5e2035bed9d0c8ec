"""Weights fitted on what the answer path saw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from assistant.answer.heads import asking_counts
from assistant.answer.scores import Weights
from assistant.evaluation.judging import Observer
from assistant.evaluation.trials import Said
from tests.stage.answering import FakeTenant, document, vector_of
from tests.unit.evaluation.results import question, unanswerable
from tools.fit_weights import (
    Choice,
    document_choices,
    fit_chat,
    fit_listwise,
    fit_logistic,
    ranker_choices,
    said_sentences,
    unit_choices,
    weights_file,
)

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
    assert fit_listwise(choices(), penalty=1e-4) == pytest.approx(PLANTED, abs=0.6)


def test_a_logistic_fit_recovers_a_planted_threshold_in_the_units_of_its_features() -> None:
    drawn = np.random.default_rng(3)
    rows = np.stack([drawn.uniform(0, 1, 400), drawn.normal(0, 50, 400)], axis=1)
    (cosine, noise), bias = fit_logistic(rows, [bool(value > 0.6) for value in rows[:, 0]], penalty=1e-3)
    assert -bias / cosine == pytest.approx(0.6, abs=0.05)
    assert abs(noise * 50) < 0.2 * cosine


def test_a_weights_file_is_read_as_it_was_written_with_four_decimals() -> None:
    raw = weights_file("live", ["coverage", "title"], [1.23456789, -0.00001], fitted_on="x", bias=-0.5)
    assert json.loads(raw)["features"] == {"coverage": 1.2346, "title": 0.0}
    assert b"-0.0," not in raw
    assert Weights.of(raw).score({"coverage": 1.0}) == pytest.approx(0.7346)


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
        answer_contains=("within 7 days",),
    )
    observer = Observer(tenant.services)
    observed = [await observer.ask(asked), await observer.ask(unanswerable("u", question="Report a parcel?"))]
    [searched] = ranker_choices(observed)
    assert searched.rows.shape[0] == 2
    [units] = unit_choices(observed, ["overlap", "unit_cosine"])
    assert units.rows.shape == (2, 2)
    assert units.right == (0,)
    names = ["index", "best_unit"]
    [read] = document_choices(observed, names)
    ranked = observed[0].plan.quote.parts[0].finding.order
    assert [ranked[at].document_id for at in read.right] == ["parcel"]
    assert read.rows.tolist() == [[one.features[name] for name in names] for one in ranked]


async def test_what_asks_is_fitted_on_the_open_sentences_of_chats(tmp_path: Path) -> None:
    turns = [
        {"who": "customer", "text": "where is my parcel"},
        {"who": "customer", "text": "thank you"},
    ]
    chat = {"id": "1", "knowledge": "pharmacy", "text": "", "turns": turns, "open": [["where is my parcel"]]}
    (tmp_path / "chats").mkdir()
    path = tmp_path / "chats" / "tuning_x.jsonl"
    path.write_text(json.dumps(chat | {"asks_reply": True, "question": "Where is it?"}) + "\n")
    weights = await fit_chat(FakeTenant().services, tmp_path)
    asked, thanks = (
        weights.asks.score(vector_of(turn["text"]), asking_counts(turn["text"])) for turn in turns[:2]
    )
    assert asked > thanks
    assert len(weights.asks.counts) == len(asking_counts(""))
    assert "tuning_x.jsonl" in weights.fitted_on


def test_where_a_sentence_stands_is_counted() -> None:
    said = [Said("customer", "Hi. Where is it?"), Said("agent", "Hello."), Said("customer", "10045")]
    (hello, _), (question, asked), (number, told) = said_sentences(said)
    assert (hello, question, number) == ("Hi.", "Where is it?", "10045")
    assert (asked[0], asked[3], told[0], told[3]) == (1.0, 0.0, 0.0, 1.0)  # a question mark, a number
    assert asked[-2:] == (1.0, 0.0)  # an agent answers next
    assert (told[5:7], told[-1]) == ((1.0, 1.0), 1.0)  # nothing after it, the last of all; an agent before
