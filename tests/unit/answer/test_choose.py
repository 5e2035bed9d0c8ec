"""Which units of a document are shown, and the Markdown that is made of them."""

from __future__ import annotations

import pytest

from assistant.answer.rows import Row
from assistant.answer.scores import ScoredUnit
from assistant.answer.section import Section, blocks, choose
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


def chosen(
    content: str, *, max_words: int = WORDS, also_words: int = 0, best: str = "", **scores: float
) -> Section:
    """``best``: what the likeliest unit holds."""
    stored = document(content=content)
    given = {best: 12.0, **scores} if best else scores
    section = choose(stored, scored(stored, **given), max_words=max_words, also_words=also_words)
    assert section is not None
    return section


def texts(section: Section) -> list[str]:
    return [one.unit.text for one in section.units]


def keys(section: Section) -> list[str]:
    return [one.unit.text for one in section.units if one.unit.ordinal in section.keys]


def shown(section: Section) -> str:
    return "".join(before + one.unit.text for before, one in blocks(section))


# Choosing


def folded(section: Section) -> list[str]:
    return [one.unit.text for one in section.units if one.unit.ordinal in section.folded]


def test_the_run_with_most_of_the_probability_is_marked() -> None:
    section = chosen(FOUR, max_words=6, Charlie=9.0, Delta=8.9, Alpha=8.5)
    assert keys(section) == ["Charlie goes third.", "Delta goes last."]
    assert 0.6 < section.mass < 1.0
    assert texts(section) == FOUR.replace(". ", ".|").split("|")


PROCEDURE = """## When this applies

The parcel is wrong.

## Steps

1. Alpha: transfer the call.
2. Bravo: ask to stop.
3. Charlie: read the label.

### Limits

| Finding | Days |
| --- | --- |
| Delta | 10 |

## Exceptions

- Echo is sent back.
- Foxtrot is kept.
"""


@pytest.mark.parametrize("word", ["Alpha", "Charlie", "Delta"])
def test_a_section_is_shown_from_its_first_step_to_its_end(word: str) -> None:
    assert texts(chosen(PROCEDURE, best=word)) == [
        "1. Alpha: transfer the call.",
        "2. Bravo: ask to stop.",
        "3. Charlie: read the label.",
        "Finding: Delta; Days: 10",
    ]


def test_what_follows_a_procedure_is_a_section_of_its_own() -> None:
    assert texts(chosen(PROCEDURE, Foxtrot=12.0)) == ["- Echo is sent back.", "- Foxtrot is kept."]


def test_a_run_over_two_sections_shows_both_whole() -> None:
    whole = [*texts(chosen(PROCEDURE, Alpha=12.0)), *texts(chosen(PROCEDURE, Foxtrot=12.0))]
    assert sorted(texts(chosen(PROCEDURE, Delta=9.0, Echo=9.0))) == sorted(whole)


APART = (
    f"## Fees\n\nAlpha costs.\n\n## Hours\n\n{'Open every day. ' * 60}\n\n## Discounts\n\nBravo is less.\n"
)


def test_another_section_that_holds_much_of_the_probability_is_shown_too() -> None:
    section = chosen(APART, also_words=40, Alpha=12.0, Bravo=11.0)  # exp(-1) = 0.37 of the likeliest run
    assert texts(section) == ["Alpha costs.", "Bravo is less."]
    assert shown(section) == "**Fees**\n\nAlpha costs.\n\n**Discounts**\n\nBravo is less."
    assert section.mass > 0.99
    assert texts(chosen(APART, also_words=40, Alpha=11.0, Bravo=12.0)) == ["Alpha costs.", "Bravo is less."]


def test_another_section_that_holds_little_is_not_shown() -> None:
    assert texts(chosen(APART, also_words=40, Alpha=12.0, Bravo=10.0)) == ["Alpha costs."]  # exp(-2) = 0.14
    assert texts(chosen(APART, Alpha=12.0, Bravo=11.9)) == ["Alpha costs."]


def test_where_the_question_names_rows_no_other_section_is_shown() -> None:
    stored = document(content=PROCEDURE)
    units = scored(stored, Alpha=12.0, Echo=11.5)
    row = next(one.unit for one in units if "Delta" in one.unit.text)
    named = [Row(row, values={}, key=frozenset(), coverage=1.0)]
    for rows, last in (((), "- Foxtrot is kept."), (named, "Finding: Delta; Days: 10")):
        section = choose(stored, units, max_words=8, also_words=40, rows=rows)
        assert section is not None
        assert texts(section)[-1] == last


def test_a_unit_that_alone_is_over_the_words_is_shown_whole() -> None:
    long = "Alpha " + "and so on " * 60 + "ends."
    assert texts(chosen(long, max_words=20, Alpha=9.0)) == [long]


def test_the_likeliest_unit_is_marked_and_others_that_matter() -> None:
    assert keys(chosen(FOUR)) == ["Alpha goes first.", "Bravo goes second.", "Charlie goes third."]
    assert keys(chosen(FOUR, Bravo=5.0, Charlie=1.0)) == ["Bravo goes second."]
    assert keys(chosen(FOUR, Bravo=5.0, Delta=4.5)) == ["Bravo goes second.", "Delta goes last."]


@pytest.mark.parametrize(("mail", "marked"), [(3.3, ["Mail", "Retail"]), (3.8, ["Mail"])])
def test_rows_that_a_question_hardly_tells_apart_are_marked_together(mail: float, marked: list[str]) -> None:
    table = "| Fill | Day |\n|---|---|\n| Retail | 23 |\n| Mail | 63 |\n| Other | 27 |"
    others = dict.fromkeys(("Alpha", "Bravo", "Charlie", "Delta"), 3.0)
    section = chosen(f"{FOUR}\n\n{table}", Mail=mail, Retail=3.2, **others)
    assert sorted(row.split(";")[0].removeprefix("Fill: ") for row in keys(section)) == marked


def test_a_section_too_long_to_read_is_shown_by_its_likeliest_run() -> None:
    lines = "\n".join(f"| Plan{n} | {n} days |" for n in range(900))
    content = f"Limits of filing.\n\n| Plan | File within |\n| --- | --- |\n{lines}\n"
    stored = document(content=content, passage_tokens=64)
    assert len(stored.passages) > 10
    section = choose(stored, scored(stored, Plan257=12.0), max_words=WORDS)
    assert section is not None
    assert texts(section) == ["Plan: Plan257; File within: 257 days"]
    assert section.units[0].passage.ordinal > 5


# Folding

FILLER = "\n\n".join(
    f"The wheel of the blue mill turns {n} times each and every morning." for n in range(1, 13)
)


def test_what_answers_stands_first_and_what_is_far_from_it_below() -> None:
    section = chosen(f"{FILLER}\n\nAlpha is the answer.", best="Alpha")
    assert texts(section)[0] == "Alpha is the answer."
    assert folded(section) == FILLER.split("\n\n")


def test_of_lines_that_may_answer_those_stand_first_that_fit_in_document_order() -> None:
    lines = FILLER.split("\n\n")
    stored = document(content=FILLER)
    likely = {" 9 ": 9.0, " 2 ": 8.0} | {f" {n} ": 5.5 for n in range(3, 9)}
    section = choose(stored, scored(stored, **likely), max_words=12)
    assert section is not None
    first = texts(section)[: -len(folded(section))]
    assert first == sorted(first, key=lines.index)
    assert {lines[1], lines[8]} < set(first)
    assert sum(len(line.split()) for line in first) <= 75


def test_steps_are_never_torn() -> None:
    steps = "\n".join(f"{n}. Turn the wheel of the blue mill {n} times." for n in range(1, 13))
    section = chosen(f"{steps}\n\n{FILLER}", best="blue mill 6")
    assert texts(section)[:12] == steps.split("\n")
    assert folded(section) == FILLER.split("\n\n")


@pytest.mark.parametrize(
    "warning",
    ["Do not turn it back.", "Stop the motor at once!", "STOP the motor.", "It mustn't run.", "Never alone."],
)
def test_a_warning_stands_below_the_line_that_it_is_about(warning: str) -> None:
    content = FILLER.replace(
        "\n\nThe wheel of the blue mill turns 5", f"\n\n{warning}\n\nThe wheel of the blue mill turns 5"
    )
    section = chosen(content, max_words=12, best="turns 4")
    assert warning in texts(section)
    assert warning not in folded(section)


def test_where_every_line_matters_nothing_is_folded() -> None:
    assert folded(chosen("Alpha goes first. Bravo goes second.")) == []


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


def test_a_line_is_as_it_is_stored_and_a_heading_begins_no_tag() -> None:
    content = "## Steps &lt;b&gt; [a](https://a.example/b)\n\nOpen https://a.example/c, then  5 &lt; 6."
    assert shown(chosen(content)) == "**Steps \u2039b> a**\n\nOpen https://a.example/c, then 5 < 6."
