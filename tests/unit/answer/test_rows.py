"""A question for one thing of a table shows its row, and other values of it in another document, too."""

from __future__ import annotations

import re
from datetime import date

import pytest

from assistant.answer.rows import rows_about
from assistant.answer.scores import QuestionTerms, UnitScorer
from assistant.answer.section import DIFFERENT, NEAREST
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.documents import StoredDocument
from assistant.text.language import language
from tests.fakes.answering import FakeTenant, document
from tests.unit.answer.asking_and_reading import Asked, ask

FEES = """
# Fees

The fees of a branch. They are due at the counter.

| Plan | Copay | Deductible |
| --- | --- | --- |
| Silver | $20 | $500 |
| Gold | $10 | $250 |
| Bronze | $35 | $900 |

A child pays half.
"""


def tenant(*documents: StoredDocument) -> FakeTenant:
    return FakeTenant().with_documents(*documents)


def rows(asked: Asked) -> list[str]:
    return [line.removeprefix("- ") for line in asked.text.split("\n") if line.startswith("- ")]


def quoted(asked: Asked) -> list[str]:
    return [asked.text[each.start : each.end] for each in asked.sentences]


async def shown(question: str, content: str = FEES) -> list[str]:
    return quoted(await ask(tenant(document("fees", content, title="Fees")), question))


# One table


async def test_a_row_is_shown_with_its_columns_names_and_what_stands_around_the_table() -> None:
    assert await shown("What is the copay of the silver plan?") == [
        "The fees of a branch.",
        "They are due at the counter.",
        "Plan: Silver; Copay: $20; Deductible: $500",
        "A child pays half.",
    ]


@pytest.mark.parametrize(
    ("question", "plans"),
    [
        ("copay of gold and bronze", ["Gold", "Bronze"]),
        ("Which plan has the highest copay?", ["Silver", "Gold", "Bronze"]),
        ("deductible of the platinum plan", ["Silver", "Gold", "Bronze"]),
    ],
)
async def test_all_rows_are_shown_that_a_question_names_and_all_where_it_names_none(
    question: str, plans: list[str]
) -> None:
    units = [unit for unit in await shown(question) if unit.startswith("Plan: ")]
    assert [re.split("[:;] ?", unit)[1] for unit in units] == plans


async def test_a_title_between_rows_stays_above_its_row() -> None:
    html = "<table><tr><th>Plan</th><th>Copay</th></tr>"
    html += "<tr><td colspan=2>Children</td></tr><tr><td>Silver</td><td>$20</td></tr>"
    html += "<tr><td colspan=2>Adults</td></tr><tr><td>Gold</td><td>$10</td></tr></table>"
    assert await shown("copay of gold", html) == ["Adults", "Adults > Plan: Gold; Copay: $10"]


async def test_a_question_about_what_stands_around_a_table_shows_the_whole_section() -> None:
    units = await shown("Where are fees due?")
    assert sum(unit.startswith("Plan: ") for unit in units) == 3


def named(question: str, content: str) -> list[str]:
    """Return the rows of a document that a question names most."""
    scorer = UnitScorer(language("en"))
    asked = QuestionTerms(Vocabulary(language("en"), glossary={}).terms(question))
    units = scorer.score(asked, document("list", content, title="List"), passage_cosines={})
    return [row.unit.text for row in rows_about(units, asked, stems=scorer.stems) if row.is_most]


ROOMS = "| Place | Opens |\n| --- | --- |\n| Room 1 | 7 |\n| Room 12 | 8 |\n| Room 30 | 9 |"


@pytest.mark.parametrize(
    ("question", "row"),
    [
        ("When does room 12 open?", "Place: Room 12; Opens: 8"),
        ("When do you open for 12 visitors?", None),
        ("I have 30 visitors", None),
    ],
)
def test_a_first_cell_names_its_row_by_what_differs_where_the_question_has_all_of_it(
    question: str, row: str | None
) -> None:
    assert named(question, ROOMS) == ([row] if row else [])


DRUGS = "| Drug | Price |\n| --- | --- |\n| Ibuprofen | $5 |\n| Prednisolone | $8 |\n| Tramadol | $9 |"


@pytest.mark.parametrize(
    ("word", "row"),
    [
        ("ibuprofen", "Drug: Ibuprofen; Price: $5"),
        ("ibuprofin", "Drug: Ibuprofen; Price: $5"),
        ("iboprofen", "Drug: Ibuprofen; Price: $5"),
        ("prednisone", None),
        ("ibuprotin", None),
    ],
)
def test_one_wrong_letter_of_a_long_name_still_names_its_row_and_two_do_not(
    word: str, row: str | None
) -> None:
    assert named(f"{word} price", DRUGS) == ([row] if row else [])


@pytest.mark.parametrize(
    ("question", "rows_named"),
    [
        ("Where are gold cards kept in the shop?", ["Gold"]),
        ("Is there a list of what is covered?", []),
        ("Which plan is listed for a member abroad?", []),
    ],
)
def test_a_word_inside_a_long_cell_names_no_row(question: str, rows_named: list[str]) -> None:
    content = "| Plan | Covers |\n| --- | --- |\n| Gold | Care of a member who is abroad for a month |\n"
    content += "| Silver | Listed care only |\n| Bronze | Emergencies |"
    assert [re.split("[:;] ?", text)[1] for text in named(question, content)] == rows_named


async def test_a_row_that_holds_the_question_is_in_no_doubt() -> None:
    made = FakeTenant().with_documents(document("fees", FEES, title="Branch"))
    assert rows(await ask(made, "silver deductible")) == ["Plan: Silver; Copay: $20; Deductible: $500"]
    far = await ask(made, "Which vaccine is for travellers abroad?")
    assert far.text.startswith(NEAREST)


# Two documents


NORTH_SHEET = "| Drug | Strength | Price |\n| --- | --- | --- |\n| Gabapentin | 300 mg | $0.09 |\n"
NORTH_SHEET += "| Gabapentin | 100 mg | $0.03 |\n| Naproxen | 500 mg | $0.08 |"
SOUTH_SHEET = NORTH_SHEET.replace("$0.09", "$0.04")


def sheets(north: str = NORTH_SHEET, south: str = SOUTH_SHEET) -> FakeTenant:
    return tenant(
        document("north", north, title="North prices", effective_date=date(2026, 1, 1)),
        document("south", south, title="South prices"),
    )


async def test_other_values_of_one_thing_are_shown_with_their_documents_dates_and_recorded() -> None:
    asked = await ask(sheets(), "price of gabapentin 300 mg")
    assert DIFFERENT in asked.text
    assert "**North prices**, effective 2026-01-01" in asked.text
    assert "**South prices**, updated 2026-03-01" in asked.text
    assert sorted(rows(asked)) == [
        "Drug: Gabapentin; Strength: 300 mg; Price: $0.04",
        "Drug: Gabapentin; Strength: 300 mg; Price: $0.09",
    ]
    assert sorted(asked.record.differing) == ["north", "south"]
    assert {use.document_id for use in asked.record.quoted} == {"north", "south"}


@pytest.mark.parametrize(
    "south",
    [
        NORTH_SHEET,
        SOUTH_SHEET.replace("300 mg", "400 mg"),
        SOUTH_SHEET.replace("Price", "Copay"),
        SOUTH_SHEET.replace("$0.04", ""),
        SOUTH_SHEET.replace("300 mg", "300mg").replace("$0.04", "$0.09"),
    ],
    ids=["the same", "another strength", "another column", "no value", "the same in other spacing"],
)
async def test_nothing_differs(south: str) -> None:
    asked = await ask(sheets(south=south), "price of gabapentin 300 mg")
    assert DIFFERENT not in asked.text
    assert asked.record.differing == ()


async def test_a_document_about_something_else_gives_no_other_value() -> None:
    made = tenant(
        document("north", NORTH_SHEET, title="Delivery"), document("south", SOUTH_SHEET, title="Pick-up")
    )
    asked = await ask(made, "delivery price of gabapentin 300 mg")
    assert asked.record.differing == ()
