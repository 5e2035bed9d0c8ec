"""Answers of small hand-made tenants, judged by the code of ``assistant evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.answer.offers import QuotedBlock
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.judging import (
    Observer,
    holds_all,
    is_gold,
    normal,
    quote_faults,
    until_whole,
)
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import EvaluationQuestion
from tests.fakes.answering import FakeTenant, document
from tests.fakes.live import FakeLive
from tests.unit.evaluation.results import question

ROOT = Path(__file__).parents[3]
PARCEL = """
# When this applies

The parcel came broken.

# Steps

A broken parcel must be reported within 7 days.

A warm parcel must be reported within 2 days.

Send the form to the Returns Desk.
"""
REFILL = """
# Steps

A refill is payable on day 23 of 30.
"""


def tenant(**documents: str) -> FakeTenant:
    given = documents or {"parcel": PARCEL, "refill": REFILL}
    return FakeTenant().with_documents(
        *(document(name, text, title=name.capitalize()) for name, text in given.items())
    )


async def judged(
    asked: EvaluationQuestion, *, of: FakeTenant | None = None, before: str | None = None
) -> Judged:
    observer = Observer((of or tenant()).services)
    return await observer.judge(await observer.ask(asked, before=before))


def parcel(**fields: Any) -> EvaluationQuestion:
    fields = {
        "question": "How many days to report a broken parcel?",
        "documents": ("parcel",),
        "gold": ("A broken parcel must be reported within 7 days.",),
        "answer_contains": ("within 7 days",),
        **fields,
    }
    return question("parcel-1", **fields)


def test_white_space_case_and_apostrophes_do_not_count() -> None:
    assert holds_all(normal("You\N{RIGHT SINGLE QUOTATION MARK}ll  be\nAwake."), ["you'll be awake"])
    assert not holds_all(normal("You will be awake"), ["you'll be awake"])


def test_a_unit_is_gold_when_it_holds_an_excerpt_or_is_part_of_one() -> None:
    assert is_gold("Report it within 7 days.", ["within 7 days"])
    assert is_gold("Report it within 7 days.", ["Report it within 7 days. Then wait."])
    assert not is_gold("Then.", ["Report it within 7 days. Then."])


async def test_a_quote_with_every_string_of_the_answer_is_right() -> None:
    found = await judged(parcel())
    assert (found.values["right"], found.values["first"], found.miss) == (1.0, 1.0, "")


async def test_a_quote_without_one_of_the_strings_is_wrong() -> None:
    wrong = await judged(parcel(answer_contains=("within 7 days", "form RX-9")))
    assert not wrong.is_right
    assert wrong.miss.startswith("parcel-1: How many days to report a broken parcel? | parcel first, with")


async def test_whether_the_section_is_only_near_is_counted() -> None:
    found = await judged(parcel(question="What about the moon?"))
    assert found.values["near"] == 1.0
    assert (await judged(parcel())).values["near"] == 0.0


async def test_the_other_branch_counts_in_quoted_units() -> None:
    assert (await judged(parcel(telltale=("within 2 days",)))).values["telltale"] == 1.0
    assert (await judged(parcel(telltale=("within 99 days",)))).values["telltale"] == 0.0
    assert "telltale" not in (await judged(parcel())).values


async def test_a_document_that_holds_all_gold_is_right_too() -> None:
    copies = tenant(original="# Steps\n\nSend it to ext. 4.", copied=PARCEL)
    assert (await judged(parcel(documents=("original",)), of=copies)).values["first"] == 1.0
    other_gold = parcel(documents=("original",), gold=("Send it to ext. 4.",))
    assert (await judged(other_gold, of=copies)).values["first"] == 0.0


async def test_of_a_double_question_each_half_counts() -> None:
    asked = parcel(
        kind="double",
        question="How many days to report a broken parcel? And on which day is a refill payable?",
        documents=("parcel", "refill"),
        answer_contains=("within 7 days", "day 23 of 30"),
        gold=("A broken parcel must be reported within 7 days.", "A refill is payable on day 23 of 30."),
    )
    found = await judged(asked)
    assert (found.values["first"], found.is_right) == (1.0, True)
    half = tenant(parcel=PARCEL)
    assert (await judged(asked, of=half)).values["first"] == 0.5


async def test_a_question_of_an_unknown_document_is_named() -> None:
    with pytest.raises(ConfigurationError, match="parcel-1 names the document nowhere, which pharmacy does"):
        await Observer(tenant().services).check([parcel(documents=("nowhere",))])


async def test_the_right_document_behind_another_is_not_first_and_no_gain() -> None:
    behind = await judged(parcel(documents=("refill",), gold=("A refill is payable on day 23 of 30.",)))
    assert (behind.values["first"], behind.values["gain"]) == (0.0, 0.0)
    unanswerable = (await judged(question("u", kind="unanswerable", documents=()))).values
    assert unanswerable["true_near"] == 1.0


async def test_a_question_of_a_live_fact_reads_no_system_and_counts_as_documents_answer_it() -> None:
    live = FakeLive()
    asked = tenant()
    asked.live_elements = live
    observer = Observer(asked.services)
    observed = await observer.ask(parcel(question="Where is my order?"))
    assert (live.calls, observed.plan.basis.live.answering) == ([], ())


async def test_a_question_is_asked_again_while_a_step_is_left_out() -> None:
    attempts = [["vectors of units"], [], ["never"]]

    async def ask() -> tuple[int, list[str]]:
        degraded = attempts.pop(0)
        return len(attempts), degraded

    assert await until_whole(ask) == (1, ())


async def test_a_step_that_is_always_left_out_is_returned() -> None:
    asked: list[None] = []

    async def ask() -> tuple[int, list[str]]:
        asked.append(None)
        return len(asked), ["vectors of units"]

    assert await until_whole(ask) == (4, ("vectors of units",))


# Quotes as they are stored

TABLE = "| Plan | Days |\n| --- | --- |\n| A | 5 |"
STEPS = f"## Steps\n\n1. Ask.\n2. Look.\n\n### Limits\n\n{TABLE}\n\n## Other\n\n- Wait."


def quoted(*texts: str, **changed: str) -> dict[str, float]:
    """Return the faults of a quote of these units; ``changed``: other words for one that begins so."""
    stored = document(content=STEPS)
    units = [(unit, passage) for passage in stored.passages for unit in passage.units if unit.text in texts]
    blocks = [
        QuotedBlock("- ", changed.get(unit.text[:1], unit.text), passage, span, 1, "shown")
        for unit, passage in units
        for span in [(unit.span.start, unit.span.end)]
    ]
    assert len(blocks) == len(texts)
    return quote_faults(blocks, [stored])


def test_a_quote_from_its_first_step_has_no_fault() -> None:
    assert quoted("1. Ask.", "2. Look.") == {"quote_differs": 0.0, "quote_begins_late": 0.0}
    assert quoted("- Wait.") == {"quote_differs": 0.0, "quote_begins_late": 0.0}
    assert quote_faults([], []) == {}


@pytest.mark.parametrize("only", ["2. Look.", "Plan: A; Days: 5"])
def test_a_quote_without_the_first_step_begins_late(only: str) -> None:
    assert quoted(only) == {"quote_differs": 0.0, "quote_begins_late": 1.0}


def test_a_sentence_that_goes_on_in_the_next_passage_does_not_differ() -> None:
    cups = " ".join(f"1/{n} cup of peas {n}.5 grams" for n in range(2, 300))
    stored = document(content=f"Fiber: {cups}")
    first, second = stored.passages[:2]
    assert first.span.end == second.span.start, "cut inside a word"
    [unit] = [unit for unit in first.units if unit.span.end > first.span.end]
    block = QuotedBlock("", unit.text, first, (unit.span.start, unit.span.end), 1, "shown")
    assert quote_faults([block], [stored])["quote_differs"] == 0.0


def test_a_quote_with_another_symbol_differs() -> None:
    assert quoted("- Wait.", **{"-": "- Wait!"}) == {"quote_differs": 1.0, "quote_begins_late": 0.0}
