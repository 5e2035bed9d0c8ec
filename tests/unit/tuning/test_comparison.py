"""Comparing ways of answering: the file, what is measured, who is stopped, and going on after an end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError, GenerationUnavailableError
from assistant.evaluation.questions import EvaluationQuestion
from assistant.settings.toml_file import read_strict
from assistant.tuning.comparison import (
    AT_ONCE,
    Answerer,
    Candidate,
    CandidatesFile,
    Comparison,
    Measured,
    MeasuredFile,
    hopeless,
    services_of,
    wilson,
)
from assistant.tuning.comparison_report import comparison_page, rows_of
from tests.fakes.answering import FakeTenant, document
from tests.unit.evaluation.results import question, unanswerable

DOCUMENT = document().card.document_id
REFILLS = "When are retail refills payable?"
TWO = """schema_version = 1
[[candidates]]
name = "quoted"
kind = "quoted"
[[candidates]]
name = "other"
"""


def candidate(name: str = "quoted", kind: str = "quoted", **more: Any) -> Candidate:
    return Candidate.model_validate({"name": name, "kind": kind, **more})


def asked(qid: str = "q1", **fields: Any) -> EvaluationQuestion:
    base = {"question": REFILLS, "documents": (DOCUMENT,), "answer_contains": ("day 23 of 30",)}
    return question(qid, **{**base, **fields})


def measured(name: str, *, right: bool, **fields: Any) -> Measured:
    base: dict[str, Any] = {
        "candidate": name,
        "digest": candidate(name).digest,
        "qid": "q1",
        "at_once": 1,
        "outcome": "answered",
        "written": False,
        "right": right,
        "sentences": 2,
        "supported": 2,
        "first_token_ms": 100.0,
        "total_ms": 400.0,
        "model_tokens": 0,
        "model_ms": 0.0,
    }
    return Measured.model_validate({**base, **fields})


# The file


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ('kind = "sagemaker"', "needs endpoint and region"),
        ('kind = "stand_in"\nfirst_token_ms = 5', "needs tokens_per_s"),
        ('kind = "oracle"', "quoted"),
        ('kind = "quoted"\n[[candidates]]\nname = "quoted"\nkind = "quoted"', 'the name "quoted"'),
        ('kind = "quoted"\nspeed = 3', "speed"),
    ],
)
def test_a_file_that_cannot_be_compared_says_why(tmp_path: Path, rest: str, words: str) -> None:
    path = tmp_path / "candidates.toml"
    path.write_text(TWO + rest)
    with pytest.raises(ConfigurationError, match=r"candidates\.toml") as refused:
        read_strict(path, CandidatesFile)
    assert words in refused.value.message


def test_the_example_file_is_valid() -> None:
    path = Path(__file__).parents[3] / "examples" / "candidates.toml"
    assert {one.kind for one in read_strict(path, CandidatesFile).candidates} == {
        "quoted",
        "local",
        "stand_in",
    }


# Measuring


async def test_a_quoted_answer_is_measured() -> None:
    answerer = Answerer(candidate(), services_of(candidate(), FakeTenant().services))
    found = await answerer.measure(asked(), before=None, at_once=1)
    assert (found.outcome, found.right, found.written, found.model_tokens) == ("answered", True, False, 0)
    assert found.first_token_ms is not None
    assert found.sentences == found.supported > 0


async def test_a_written_answer_is_measured_and_the_wrong_branch_is_not_right() -> None:
    tenant = FakeTenant.writing()
    writer = candidate("writer", "local", prompt="answer/2")
    answerer = Answerer(writer, services_of(writer, tenant.services))
    found = await answerer.measure(asked(), before=None, at_once=1)
    assert (found.right, found.written, found.model_tokens) == (True, True, 2)
    other = await answerer.measure(asked(telltale=("day 23",)), before=None, at_once=1)
    assert not other.right


async def test_a_draft_that_was_discarded_still_shows_the_models_speed() -> None:
    tenant = FakeTenant.writing("Give ", "900 ", "mg ", "at ", "once ", "now.")
    writer = candidate("writer", "local")
    found = await Answerer(writer, services_of(writer, tenant.services)).measure(
        asked(), before=None, at_once=1
    )
    assert (found.written, found.model_tokens > 0, found.right) == (False, True, True)


async def test_an_endpoint_that_fails_is_a_measurement_too() -> None:
    tenant = FakeTenant()
    tenant.search.error = GenerationUnavailableError("down")
    found = await Answerer(candidate(), services_of(candidate(), tenant.services)).measure(
        asked(), before=None, at_once=1
    )
    assert (found.outcome, found.right, found.error) == ("failed", False, "generation_unavailable")


async def test_an_unanswerable_question_is_right_when_it_is_refused() -> None:
    answerer = Answerer(candidate(), services_of(candidate(), FakeTenant().services))
    found = await answerer.measure(
        unanswerable(question="Who repairs the coffee machine on floor nine?"), before=None, at_once=1
    )
    assert (found.outcome, found.right) == ("refused", True)


async def test_nothing_of_a_comparison_is_recorded_as_an_agents_answer() -> None:
    tenant = FakeTenant()
    await Answerer(candidate(), services_of(candidate(), tenant.services)).measure(
        asked(), before=None, at_once=1
    )
    assert await tenant.records.get_answer("answer-1") is None
    assert not tenant.records.answers


async def test_a_stand_in_writes_the_first_passages_words() -> None:
    paced = candidate("paced", "stand_in", first_token_ms=0, tokens_per_s=100_000)
    found = await Answerer(paced, services_of(paced, FakeTenant.writing().services)).measure(
        asked(), before=None, at_once=1
    )
    assert found.model_tokens > 3


# Stopping and going on


def test_only_a_candidate_that_cannot_reach_the_best_is_stopped() -> None:
    best = [measured("best", right=True)] * 60
    close = [measured("close", right=at % 10 != 0) for at in range(60)]
    poor = [measured("poor", right=at % 5 == 0) for at in range(60)]
    (stopped,) = hopeless({"best": best, "close": close, "poor": poor}, looks=5)
    assert (stopped.candidate, stopped.leader, stopped.after) == ("poor", "best", 60)
    assert stopped.high < stopped.leader_low


def test_more_looks_stop_later() -> None:
    best = [measured("best", right=True)] * 12
    poor = [measured("poor", right=at < 3) for at in range(12)]
    assert hopeless({"best": best, "poor": poor}, looks=1)
    assert not hopeless({"best": best, "poor": poor}, looks=1000)


def test_wilson_agrees_with_the_published_example() -> None:
    low, high = wilson(81, 263)  # Newcombe (1998), table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 0) == (0.0, 1.0)


def comparison(tmp_path: Path, *names: str, questions: int = 3, fails_after: int | None = None) -> Comparison:
    tenant = FakeTenant()
    said: list[str] = []
    answerers = [Answerer(one, services_of(one, tenant.services)) for one in map(candidate, names)]
    return Comparison(
        answerers=answerers,
        questions=[asked(f"q{at}") for at in range(questions)],
        file=MeasuredFile(tmp_path / "measured.jsonl"),
        say=said.append,
    )


async def test_every_candidate_answers_the_same_questions_alone_and_together(tmp_path: Path) -> None:
    found, stopped = await comparison(tmp_path, "one", "two").run()
    assert stopped == []
    assert {(one.candidate, one.qid, one.at_once) for one in found} == {
        (name, f"q{at}", load) for name in ("one", "two") for at in range(3) for load in (1, AT_ONCE)
    }


async def test_a_comparison_goes_on_where_it_was(tmp_path: Path) -> None:
    first, _ = await comparison(tmp_path, "one", "two").run()
    lines = (tmp_path / "measured.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "measured.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:30])
    again, _ = await comparison(tmp_path, "one", "two").run()
    assert {(one.candidate, one.qid, one.at_once) for one in again} == {
        (one.candidate, one.qid, one.at_once) for one in first
    }
    assert again[:5] == [Measured.model_validate_json(line) for line in lines[:5]]
    assert len((tmp_path / "measured.jsonl").read_bytes().splitlines()) == len(lines)
    third, _ = await comparison(tmp_path, "one", "two").run()
    assert third == again


async def test_a_line_that_is_no_measurement_is_named(tmp_path: Path) -> None:
    (tmp_path / "measured.jsonl").write_bytes(b"{}\n{}\n")
    with pytest.raises(ConfigurationError, match="line 1 is no measurement"):
        MeasuredFile(tmp_path / "measured.jsonl").read()


# The table


def test_a_row_has_shares_speeds_and_cost() -> None:
    paced = candidate("paced", "stand_in", first_token_ms=1, tokens_per_s=9, usd_per_hour=3.6)
    own = {"digest": paced.digest, "model_tokens": 21, "model_ms": 1000.0, "written": True}
    found = [
        measured("paced", right=True, **own),
        measured("paced", right=False, qid="q2", outcome="refused", first_token_ms=None, **own),
        measured("paced", right=True, qid="u1", outcome="refused", first_token_ms=None, **own),
        measured("paced", right=True, at_once=AT_ONCE, total_ms=8000.0, **own),
    ]
    questions = [asked("q1"), asked("q2"), unanswerable("u1")]
    (row,) = rows_of([paced], found, questions)
    assert (row.right, row.refused_wrongly, row.refused_rightly, row.supported) == (0.5, 0.5, 1.0, 1.0)
    assert (row.tokens_per_s, row.tokens_per_s_loaded) == (20.0, 21.0)
    assert row.usd_per_1000 == pytest.approx(1.0)  # one second of an instance for an answer
    page = comparison_page([row], [], tenant="<b>", questions=3, made_at=datetime(2026, 3, 1, tzinfo=UTC))
    assert "<b>" not in page.replace("<body>", "")
    assert page.count("<svg") == 2
