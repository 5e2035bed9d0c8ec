"""What is made of the evidence before the first event: sources, units and their Markdown, whom to ask."""

from __future__ import annotations

from datetime import date

import pytest

from assistant.answer.rows import Row
from assistant.answer.scores import ScoredUnit
from assistant.answer.section import NEAREST, Section, blocks, choose
from assistant.domain.answers import Certainty, CitedUnit, FinishReason, Mode, Sentence, TableRow
from assistant.domain.documents import StoredDocument
from assistant.tenant.tenant import TenantConfig
from tests.stage.answering import REFILL, FakeTenant, document
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask

TRANSFER = document("transfer", "Transfers to another pharmacy take one business day.", title="Transfer out")
DOUBLE = f"{QUESTION} How long do transfers to another pharmacy take?"


async def test_a_quote_is_the_stored_text_character_for_character() -> None:
    stored = (
        "Retail refills are payable on day 23: sign in at refills.example/pay with *their* card_number, "
        "never &amp; <by phone> [1](https://a.example) if x < 5 & y > 3."
    )
    asked = await ask(FakeTenant().with_documents(document(content=f"`{stored}`")))
    [sentence] = asked.sentences
    assert asked.text[sentence.start : sentence.end] == stored
    assert sentence.quote == "shown"
    assert sentence.cited == (CitedUnit(n=1, start=0, end=len(stored)),)


TABLE = """## Which day

| Plan | Refill day | Approver |
| --- | --- | --- |
| Retail | payable on day 23 | |
| Mail | payable on day 20 | the Mail Desk |
"""


def cells_of(text: str, row: Sentence | TableRow) -> list[tuple[str, str, bool]]:
    return [(text[slice(*one.name)], text[slice(*one.value)], one.is_key) for one in row.cells]


async def test_rows_of_a_table_come_with_the_places_of_their_cells() -> None:
    asked = await ask(FakeTenant().with_documents(document(content=TABLE)), "On which day is it payable? 😀")
    rows = [sentence for sentence in asked.sentences if sentence.cells]
    named = [[(name, value) for name, value, _ in cells_of(asked.text, row)] for row in rows]
    assert named == [
        [("Plan", "Retail"), ("Refill day", "payable on day 23")],
        [("Plan", "Mail"), ("Refill day", "payable on day 20"), ("Approver", "the Mail Desk")],
    ]


async def test_two_questions_are_answered_from_two_documents_under_their_own_words() -> None:
    asked = await ask(FakeTenant().with_documents(TRANSFER, document()), DOUBLE)
    assert asked.text == (
        f"**On which day are retail refills payable?**\n\n{REFILL.strip()}\n\n"
        "**How long do transfers to another pharmacy take?**\n\n"
        "Transfers to another pharmacy take one business day."
    )
    assert [sentence.citations for sentence in asked.sentences] == [(1,), (1,), (2,)]
    assert [source.document_id for source in asked.sources.sources] == ["refill", "transfer"]
    assert asked.record.retrieval_question == DOUBLE.replace("? ", "?\n")


BOTH = document(
    content="Retail refills are payable on day 23 of 30. Call ext. 4100. "
    "Transfers to another pharmacy take one business day."
)


async def test_units_that_were_shown_for_one_question_are_not_shown_again_for_the_next() -> None:
    again = f"{QUESTION} When are retail refills payable, on which day of 30?"
    asked = await ask(FakeTenant().with_documents(BOTH), again)
    assert len(asked.quote.parts) == 2
    assert asked.text.count("Retail refills are payable on day 23 of 30.") == 1
    later = "When are retail refills payable, on which day of 30?"
    assert asked.text.startswith(f"**{QUESTION}**\n\n**{later}**\n\nRetail refills are payable on day 23")


async def test_of_two_questions_the_one_that_has_no_certain_answer_is_named() -> None:
    asked = await ask(FakeTenant(), f"{QUESTION} Which vaccine protects travellers against shingles?")
    assert [one.is_near for one in asked.quote.parts] == [False, True]
    assert asked.text == f"**{QUESTION}**\n\n{REFILL.strip()}"
    assert asked.done.unanswered == ("Which vaccine protects travellers against shingles?",)
    assert (asked.done.certainty, asked.record.is_unanswered) == (None, False)


async def test_a_section_that_is_only_near_says_so_and_is_folded() -> None:
    asked = await ask(FakeTenant(), "Which vaccine protects travellers against shingles?")
    assert asked.text == f"{NEAREST} Refill too soon\n\n{REFILL.strip()}"
    assert {sentence.quote for sentence in asked.sentences} == {"folded"}
    assert (asked.done.mode, asked.done.certainty) == (Mode.QUOTED, Certainty.POSSIBLY)
    assert asked.record.is_unanswered


async def test_the_question_above_an_answer_holds_nothing_active() -> None:
    question = (
        "On which day are retail refills payable <img src=https://evil.example/x> [x](https://evil.example)? "
        "How long do transfers\nto another pharmacy take?"
    )
    asked = await ask(FakeTenant().with_documents(TRANSFER, document()), question)
    assert "evil" not in asked.text
    assert "**How long do transfers to another pharmacy take?**" in asked.text


NEAR = document(
    "mail-refill",
    "Retail refills by mail are payable on day 20 of 30. Send other requests to the Mail Desk.",
    title="Refill too soon by mail",
    effective_date=date(2026, 1, 15),
)


OTHERS = [document(f"d{n}", f"Parcel {n} waits.", title=f"Parcel {n}") for n in range(4)]


async def test_a_document_that_contends_is_also_quoted_with_its_date() -> None:
    asked = await ask(FakeTenant().with_documents(document(), NEAR, *OTHERS))
    [also] = asked.done.also
    assert (also.document_id, also.title, also.effective_date) == (
        "mail-refill",
        "Refill too soon by mail",
        date(2026, 1, 15),
    )
    assert also.text.startswith("Retail refills by mail are payable on day 20 of 30.")
    [citation] = also.citations
    assert asked.sources.sources[citation - 1].document_id == "mail-refill"
    assert "mail" not in asked.text


CONTACTS = {
    "default": "the lead on duty",
    "retail refills": "the Retail Desk, ext. 4",
    "mail": "the Mail Desk",
    "claims": "the Claims Desk, ext. 4100",
}


FIRES = [f"smoke and fire in the {place}" for place in ("kitchen", "hall", "attic", "shed", "barn")]


async def escalated(question: str = QUESTION, *, section: str = REFILL) -> Asked:
    tenant = FakeTenant().with_documents(document(content=section), TRANSFER)
    flag = {"name": "fire", "text": "Leave.", "call": "911", "examples": FIRES}
    tenant.config = TenantConfig.model_validate(tenant.config.model_dump() | {"red_flags": [flag]})
    tenant.configure(answers={"escalation": CONTACTS})
    return await ask(tenant, question)


@pytest.mark.parametrize(
    ("section", "named"),
    [
        (f"{REFILL} Then ask the mail desk.", "the Claims Desk, ext. 4100"),
        ("Retail refills are payable on day 23 of 30.", "the lead on duty"),
    ],
)
async def test_whom_to_ask_is_the_first_contact_that_the_section_names(section: str, named: str) -> None:
    asked = await escalated(section=section)
    assert asked.done.mode is Mode.QUOTED
    assert asked.done.escalation == asked.record.escalation == named


async def test_nobody_is_named_without_an_answer_or_beside_an_emergency() -> None:
    refused = await escalated("Which vaccine protects against shingles?")
    assert refused.done.certainty is Certainty.POSSIBLY
    urgent = await escalated(FIRES[0], section=f"{FIRES[0].capitalize()}: call the Claims Desk.")
    assert (len(urgent.started.red_flags), urgent.done.mode) == (1, Mode.QUOTED)
    assert refused.done.escalation is urgent.done.escalation is None


async def test_where_the_model_refuses_nobody_is_named_and_no_reply_is_drafted() -> None:
    content = f"{REFILL}\n\n## What to tell the patient\n\nYour refill is payable."
    tenant = FakeTenant.writing("The documents do not answer this question.")
    tenant = tenant.with_documents(document(content=content))
    tenant.configure(answers={"escalation": CONTACTS})
    asked = await ask(tenant)
    done = asked.done
    assert (done.finish_reason, done.certainty) == (FinishReason.NO_EVIDENCE, None)
    assert asked.record.escalation is done.escalation is None


WORDS = 120
FOUR = "Alpha goes first. Bravo goes second. Charlie goes third. Delta goes last."
LIST = "Do it in this order:\n\n1. Alpha goes first.\n2. Bravo goes second.\n3. Charlie goes third."


def scored(stored: StoredDocument, **scores: float) -> list[ScoredUnit]:
    """Return the document's units; one has the score of the first of these words that it holds, else 0."""
    return [
        ScoredUnit(unit, passage, next((score for word, score in scores.items() if word in unit.text), 0.0))
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


def test_a_section_too_long_to_read_is_shown_by_its_likeliest_run() -> None:
    lines = "\n".join(f"| Plan{n} | {n} days |" for n in range(900))
    content = f"Limits of filing.\n\n| Plan | File within |\n| --- | --- |\n{lines}\n"
    stored = document(content=content, passage_tokens=64)
    assert len(stored.passages) > 10
    section = choose(stored, scored(stored, Plan257=12.0), max_words=WORDS)
    assert section is not None
    assert texts(section) == ["Plan: Plan257; File within: 257 days"]
    assert section.units[0].passage.ordinal > 5


FILLER = "\n\n".join(
    f"The wheel of the blue mill turns {n} times each and every morning." for n in range(1, 13)
)


def test_what_answers_stands_first_and_what_is_far_from_it_below() -> None:
    section = chosen(f"{FILLER}\n\nAlpha is the answer.", best="Alpha")
    assert texts(section)[0] == "Alpha is the answer."
    assert folded(section) == FILLER.split("\n\n")


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
