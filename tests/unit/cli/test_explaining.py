"""``--explain`` and ``desk replay`` of records: the newest schema, and the one before."""

from __future__ import annotations

import io

import pytest

from assistant.cli.answer_view import Replayed, explain, show_replayed
from assistant.cli.terminal import Terminal
from assistant.domain.answers import (
    AnswerRecord,
    CandidateDocument,
    GateDecision,
    LiveMatch,
    LiveMatchState,
    QuotedUnit,
    Sentence,
    SourceAsked,
    Support,
)
from tests.contracts.samples import answer

FIRST_SCHEMA = answer().model_copy(
    update={
        "schema_version": 1,
        "prompt_hash": "0" * 64,
        "sentences": (
            Sentence(
                index=0,
                start=0,
                end=10,
                citations=(),
                support=Support.UNSUPPORTED,
                reasons=("number_not_in_passage",),
            ),
        ),
        "gate": GateDecision(
            passed=True,
            best_cosine=0.61,
            coverage=0.75,
            min_cosine=0.2,
            min_coverage=0.4,
            missing_terms=("x",),
        ),
    }
)
QUOTED = answer().model_copy(
    update={
        "gate": GateDecision(
            passed=True,
            best_cosine=0.59,
            coverage=0.9,
            probability=0.515,
            answered_from=0.66,
            possibly_from=0.28,
        ),
        "candidates": tuple(
            CandidateDocument(document_id=f"d{n}", score=9.5 - n, features={"title_cosine": 0.61})
            for n in range(7)
        ),
        "quoted": (QuotedUnit(document_id="d0", content_hash="c" * 64, span=(71, 221)),),
        "weights": {"ranker": "b" * 64},
        "asked": (
            SourceAsked(name="catalogue", kind="catalogue", weight=0.9, state="answered"),
            SourceAsked(name="orders", kind="live", weight=0.1, state="not_asked"),
        ),
        "live_matches": (
            LiveMatch(
                element="orders.delivery",
                state=LiveMatchState.READ,
                cosine=0.701,
                least=0.5,
                unknown_words=0,
                example="Where is my order?",
            ),
            LiveMatch(
                element="orders.refill",
                state=LiveMatchState.NOT_ABOUT,
                cosine=0.6,
                least=0.56,
                against=0.65,
                unknown_words=2,
                example="May she refill it?",
            ),
        ),
    }
)


def test_a_quoted_answer_is_explained_by_what_decided_it(terminal: Terminal, written: io.StringIO) -> None:
    explain(terminal, QUOTED)
    shown = written.getvalue()
    for part in (
        "candidates 9.50  d0\n           title_cosine 0.61\n",
        "2 more: --json",
        "gate       passed: probability 0.515, answered from 0.66, possibly from 0.28\n",
        "quoted     d0 71-221, content cccccccccccc\n",
        "model      not asked\n",
        f"weights    ranker, SHA-256 {'b' * 64}\n",
        "sources    90% catalogue (catalogue), answered\n           10% orders (live), not asked\n",
        "live       orders.delivery: read; 0.70 to “Where is my order?”, needs 0.50\n",
        "orders.refill: a question that no element answers is as near (0.65); 0.60 to “May she refill it?”, "
        "needs 0.56, 2 words that its connector does not use\n",
    ):
        assert part in shown


def test_a_record_of_the_first_schema_is_explained(terminal: Terminal, written: io.StringIO) -> None:
    explain(terminal, AnswerRecord.model_validate_json(FIRST_SCHEMA.model_dump_json()))
    shown = written.getvalue()
    assert "gate       passed, on a line through 0.2 and 0.4\n" in shown
    assert "best cosine 0.610, 75% of the question's terms; not found: x\n" in shown
    assert "candidates" not in shown


@pytest.mark.parametrize("record", [FIRST_SCHEMA, QUOTED], ids=["schema 1", "schema 2"])
def test_a_record_is_replayed(terminal: Terminal, written: io.StringIO, record: AnswerRecord) -> None:
    show_replayed(terminal, Replayed(record, (), ()))
    shown = written.getvalue()
    assert shown.startswith("When may it be refilled?\n")
    assert "On day 24." in shown
    assert ("a number that its source does not have" in shown) is (record.schema_version == 1)
