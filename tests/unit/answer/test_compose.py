"""What is made of the evidence before the first event: sources, quote, second documents, whom to ask."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from assistant.answer.excerpts import Excerpts
from assistant.answer.section import NEAREST, snippet
from assistant.domain.answers import Certainty, CitedUnit, FinishReason, Mode, Sentence, TableRow
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from tests.fakes.answering import REFILL, FakeTenant, document
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask

TRANSFER = document("transfer", "Transfers to another pharmacy take one business day.", title="Transfer out")
DOUBLE = f"{QUESTION} How long do transfers to another pharmacy take?"


# Sources


def test_a_snippet_begins_with_the_unit_that_holds_most_of_the_question() -> None:
    [one] = document(content="Alpha waits for nobody. Bravo refills are payable. Charlie goes.").passages
    stems = language("en").content_stems("payable refills")
    assert (
        snippet(one, stems=stems, excerpts=Excerpts())
        == "\N{HORIZONTAL ELLIPSIS}Bravo refills are payable. Charlie goes."
    )
    assert snippet(one, stems=frozenset(), excerpts=Excerpts()).startswith("Alpha waits")


# The quote


@pytest.mark.parametrize(("stated", "is_counted"), [("within 30 days", True), ("at the desk", False)])
async def test_days_since_a_date_of_the_message_stand_above_a_deadline(stated: str, is_counted: bool) -> None:
    tenant = FakeTenant().with_documents(
        document(content=f"Retail refills are payable {stated} of the charge.")
    )
    then = tenant.clock.now().date() - timedelta(days=9)
    asked = await ask(tenant, f"{QUESTION} I was charged on {then.isoformat()}.")
    assert (": 9 days.\n\n" in asked.text) is is_counted


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


async def test_paragraphs_of_a_section_stay_apart() -> None:
    content = "# Router\n\nThe router R2 costs $33. It is grey.\n\nThe hub H6 costs $60."
    asked = await ask(
        FakeTenant().with_documents(document("list", content, title="List")), "price of the hub H6"
    )
    assert "The router R2 costs $33. It is grey.\n\nThe hub H6 costs $60." in asked.text


async def test_a_line_that_is_only_an_address_is_quoted() -> None:
    content = "## Steps\n\n- https://pay.example/retail-refills-payable-day\n- Retail refills are payable."
    asked = await ask(FakeTenant().with_documents(document(content=content)))
    assert "- https://pay.example/retail-refills-payable-day" in asked.text


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


async def test_the_cell_of_a_column_that_the_question_names_is_marked_in_rows_that_matter() -> None:
    content = f"{TABLE}\nCall the desk on a holiday."
    asked = await ask(FakeTenant().with_documents(document(content=content)), "Refill day of Mail?")
    [row] = [sentence for sentence in asked.sentences if sentence.cells]
    assert row.is_key
    assert [name for name, _, is_key in cells_of(asked.text, row) if is_key] == ["Refill day"]


# Two questions in one


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


async def test_a_document_that_answers_one_question_is_not_also_possible_for_the_other() -> None:
    also = (await ask(FakeTenant().with_documents(TRANSFER, document()), DOUBLE)).done.also
    assert {one.document_id for one in also}.isdisjoint({"refill", "transfer"})


# Also possible

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


# Whom to ask

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


async def test_a_written_answer_that_is_certain_names_nobody() -> None:
    tenant = FakeTenant.writing("Retail refills are payable on day 23 of 30 [1.1].")
    tenant.configure(answers={"escalation": CONTACTS})
    done = (await ask(tenant)).done
    assert (done.certainty, done.escalation) == (Certainty.ANSWERED, None)


async def test_where_the_model_refuses_nobody_is_named_and_no_reply_is_drafted() -> None:
    content = f"{REFILL}\n\n## What to tell the patient\n\nYour refill is payable."
    tenant = FakeTenant.writing("The documents do not answer this question.")
    tenant = tenant.with_documents(document(content=content))
    tenant.configure(answers={"escalation": CONTACTS})
    asked = await ask(tenant)
    done = asked.done
    assert (done.finish_reason, done.certainty) == (FinishReason.NO_EVIDENCE, None)
    assert asked.record.escalation is done.escalation is None
