"""Which units of a document are shown, and the Markdown that is made of them."""

from __future__ import annotations

import pytest

from assistant.answering.choose import Section, blocks, choose
from assistant.answering.rank import ScoredUnit
from assistant.domain.documents import StoredDocument
from tests.fakes.answering import document

WORDS = 120
FOUR = "Alpha goes first. Bravo goes second. Charlie goes third. Delta goes last."
LIST = "Do it in this order:\n\n1. Alpha goes first.\n2. Bravo goes second.\n3. Charlie goes third."


def scored(stored: StoredDocument, **scores: float) -> list[ScoredUnit]:
    """Return the document's units; one has the score of the first of these words that it holds, else 0."""
    return [
        ScoredUnit(
            unit, passage, next((score for word, score in scores.items() if word in unit.text), 0.0), {}
        )
        for passage in stored.passages
        for unit in passage.units
    ]


def chosen(content: str, *, max_words: int = WORDS, **scores: float) -> Section:
    stored = document(content=content)
    section = choose(stored, scored(stored, **scores), max_words=max_words)
    assert section is not None
    return section


def texts(section: Section) -> list[str]:
    return [one.unit.text for one in section.units]


def keys(section: Section) -> list[str]:
    return [one.unit.text for one in section.units if one.unit.ordinal in section.keys]


def shown(section: Section) -> str:
    return "".join(before + one.unit.text for before, one in blocks(section))


# Choosing


def test_the_run_with_most_of_the_probability_is_chosen() -> None:
    section = chosen(FOUR, max_words=6, Charlie=9.0, Delta=8.0, Alpha=8.5)
    assert texts(section) == ["Charlie goes third.", "Delta goes last."]
    assert 0.6 < section.mass < 1.0


def test_a_run_is_never_cut_in_a_unit_or_in_its_middle() -> None:
    assert texts(chosen(FOUR, Alpha=5.0, Delta=5.0)) == FOUR.replace(". ", ".|").split("|")
    assert texts(chosen(FOUR, max_words=8, Alpha=5.0, Delta=5.0)) == ["Alpha goes first."]


def test_units_at_the_edges_that_hardly_hold_the_answer_are_left_out() -> None:
    assert texts(chosen(FOUR, Bravo=9.0, Charlie=8.0)) == ["Bravo goes second.", "Charlie goes third."]


def test_a_unit_that_alone_is_over_the_words_is_shown_whole() -> None:
    long = "Alpha " + "and so on " * 60 + "ends."
    assert texts(chosen(f"{long} Bravo waits.", max_words=20, Alpha=9.0, Bravo=8.0)) == [long]


def test_the_likeliest_unit_is_marked_and_others_that_matter() -> None:
    assert keys(chosen(FOUR)) == ["Alpha goes first.", "Bravo goes second.", "Charlie goes third."]
    assert keys(chosen(FOUR, Bravo=5.0, Charlie=1.0)) == ["Bravo goes second."]
    assert keys(chosen(FOUR, Bravo=5.0, Delta=4.5)) == ["Bravo goes second.", "Delta goes last."]


def test_a_step_keeps_the_line_that_introduces_its_list() -> None:
    section = chosen(LIST, Alpha=9.0)
    assert texts(section) == ["Do it in this order:", "1. Alpha goes first."]
    assert keys(section) == ["1. Alpha goes first."]


def test_a_table_of_300_rows_gives_the_one_row() -> None:
    lines = "\n".join(f"| Plan{n} | {n} days |" for n in range(300))
    content = f"Limits of filing.\n\n| Plan | File within |\n| --- | --- |\n{lines}\n"
    stored = document(content=content, passage_tokens=64)
    assert len(stored.passages) > 10
    section = choose(stored, scored(stored, Plan257=12.0), max_words=WORDS)
    assert section is not None
    assert texts(section) == ["Plan: Plan257; File within: 257 days"]
    assert section.units[0].passage.ordinal > 5


# Markdown


def test_headings_stand_above_their_units_once() -> None:
    content = "## Steps\n\nAlpha waits. Bravo waits.\n\n### Exceptions\n\nCharlie waits."
    assert shown(chosen(content)) == (
        "**Steps**\n\nAlpha waits. Bravo waits.\n\n**Steps \u203a Exceptions**\n\nCharlie waits."
    )


def test_steps_keep_their_numbers_and_items_their_marks() -> None:
    assert shown(chosen(LIST)) == LIST
    content = "Take these:\n\n- Alpha\n- Bravo\n"
    assert shown(chosen(content)) == "Take these:\n\n- Alpha\n- Bravo"


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ({}, ""),
        ({"Bravo": 9.0}, "(not shown: steps 1, 3)\n\n"),
        ({"Bravo": 9.0, "Charlie": 9.0}, "(not shown: steps 1)\n\n"),
    ],
)
def test_steps_that_are_not_shown_are_named(scores: dict[str, float], told: str) -> None:
    content = "1. Alpha waits.\n2. Bravo waits.\n3. Charlie waits."
    stored = document(content=content)
    section = choose(stored, scored(stored, **scores), max_words=WORDS)
    assert section is not None
    assert shown(section) == told + "\n".join(texts(section))


def test_a_heading_holds_nothing_active() -> None:
    content = "## Steps &lt;img src=https://evil.example/x&gt; [a](https://evil.example/b)\n\nAlpha waits."
    assert "evil" not in shown(chosen(content))
    assert "Steps" in shown(chosen(content))
