"""Agents' questions on the rows of two formularies, each read from another kind of file."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from assistant.documents.formats import convert
from assistant.domain.documents import StoredDocument
from tests.fakes.answering import document
from tests.options.office.formularies import (
    NORTH,
    NORTH_NAMES,
    QUESTIONS,
    SOUTH,
    SOUTH_NAMES,
    WRITTEN,
    RowQuestion,
)
from tests.unit.answer.asking_and_reading import Asked, ask
from tests.unit.answer.test_rows import tenant


def stored(name: str, kind: str) -> StoredDocument:
    tables, names = (NORTH, NORTH_NAMES) if name == "North" else (SOUTH, SOUTH_NAMES)
    raw = WRITTEN[kind](tables, names)
    title = f"{name} clinic formulary"
    if kind == "html":
        return document(name, raw.decode(), title=title, media_type="text/html")
    page = convert(f"{name}.{kind}", raw).to_bytes().decode()
    return document(name, page, title=title, media_type="application/vnd.page+json")


def is_right(asked: Asked, question: RowQuestion) -> bool:
    prices = re.findall(r"Price each: (\$[\d.]+)", asked.text)
    wanted: Sequence[str] = (*question.north, *question.south)
    holds = all(each in asked.text for each in question.holds)
    return sorted(prices) == sorted(wanted) and holds and bool(asked.record.differing) == question.differs


NOT_TOLD_APART = {"apixiban price", "ibuprofin 400 price pls", "price of metformin and glipizide"}
"""More rows are shown. A vector of stems is as near to any row as to a misspelt name's; a real one is not."""


@pytest.mark.parametrize(
    ("north", "south"), [("csv", "xlsx"), ("docx", "html"), ("xlsx", "docx"), ("html", "csv")]
)
async def test_agents_questions_show_their_rows_alone(north: str, south: str) -> None:
    made = tenant(stored("North", north), stored("South", south))
    wrong = {each.text for each in QUESTIONS if not is_right(await ask(made, each.text), each)}
    assert wrong <= NOT_TOLD_APART
