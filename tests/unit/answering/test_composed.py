"""What is made of the evidence before the first event: sources, quote, second documents, whom to ask."""

from __future__ import annotations

from datetime import date

import pytest

from assistant.answering.composing import snippet
from assistant.answering.evidence import clarifying_question
from assistant.answering.excerpts import SNIPPET_CHARACTERS, Excerpts
from assistant.answering.quote import Headings, Quote
from assistant.answering.understand import Vocabulary
from assistant.domain.answers import Certainty, FinishReason
from assistant.domain.documents import StoredDocument
from assistant.text.language import language
from tests.fakes.answering import REFILL, FakeTenant, document, passage
from tests.unit.answering.asking_and_reading import QUESTION, Asked, ask

TRANSFER = document("transfer", "Transfers to another pharmacy take one business day.", title="Transfer out")
DOUBLE = f"{QUESTION} How long do transfers to another pharmacy take?"


def sections(count: int, *, words: str = "Retail refills are payable") -> str:
    return "\n\n".join(f"## Part {n}\n\n{words} on day {n}." for n in range(count))


def surely(tenant: FakeTenant) -> FakeTenant:
    """Let the gate pass everything."""
    tenant.configure(gate={"answered": 0.0, "possibly": 0.0})
    return tenant


# Sources


async def test_sources_are_numbered_in_the_order_of_the_quote() -> None:
    content = (
        "## Notes\n\nBalances wait for the courier.\n\n## Late\n\nRetail refills wait for day 23.\n\n"
        "## Early\n\nRetail refills are payable on which day the plan says."
    )
    asked = await ask(FakeTenant().with_documents(document(content=content)))
    quoted = asked.prepared.quoted.blocks
    assert [block.n for block in quoted] == list(range(1, len(quoted) + 1))
    assert [source.heading for source in asked.sources.sources][:2] == ["Late", "Early"]
    assert [sentence.citations for sentence in asked.sentences] == [(1,), (2,)]
    assert asked.done.citations == (1, 2)


async def test_units_of_one_passage_cite_one_source() -> None:
    content = "Retail refills are payable on day 23. Retail refills are payable on day 24, too."
    asked = await ask(FakeTenant().with_documents(document(content=content)))
    assert len(asked.sentences) == 2
    assert {sentence.citations for sentence in asked.sentences} == {(1,)}


async def test_after_the_quoted_ones_come_the_best_of_each_document() -> None:
    many = document(content=sections(6))
    tenant = FakeTenant().with_documents(many, TRANSFER)
    tenant.configure(retrieval={"passages": 9}, answers={"max_words": 20})
    asked = await ask(tenant)
    found = [source.document_id for source in asked.sources.sources]
    quoted = len({block.n for block in asked.prepared.quoted.blocks})
    assert "transfer" in found[quoted : quoted + 2]
    assert sorted(found) == ["refill"] * 6 + ["transfer"]
    assert [source.n for source in asked.sources.sources] == list(range(1, 8))


async def test_an_answer_shows_as_many_sources_as_the_tenant_wants() -> None:
    tenant = FakeTenant().with_documents(document(content=sections(9)))
    tenant.configure(retrieval={"passages": 3}, answers={"max_words": 20})
    assert len((await ask(tenant)).sources.sources) == 3


async def test_every_quoted_passage_is_a_source_also_beyond_that() -> None:
    tenant = FakeTenant().with_documents(document(content=sections(9)))
    tenant.configure(retrieval={"passages": 1})
    asked = await ask(tenant)
    assert len(asked.sources.sources) > 1
    assert set(asked.done.citations) == {source.n for source in asked.sources.sources}


async def test_a_source_says_since_when_its_document_holds() -> None:
    tenant = FakeTenant().with_documents(document(effective_date=date(2026, 2, 1)), TRANSFER)
    first, second = (await ask(tenant)).sources.sources
    assert (first.effective_date, second.effective_date) == (date(2026, 2, 1), None)


def test_a_snippet_begins_with_the_unit_that_holds_most_of_the_question() -> None:
    [one] = document(content="Alpha waits for nobody. Bravo refills are payable. Charlie goes.").passages
    stems = language("en").content_stems("payable refills")
    assert (
        snippet(one, stems=stems, excerpts=Excerpts())
        == "\N{HORIZONTAL ELLIPSIS}Bravo refills are payable. Charlie goes."
    )
    assert snippet(one, stems=frozenset(), excerpts=Excerpts()).startswith("Alpha waits")


def test_a_snippet_is_short_and_a_passage_without_units_has_one() -> None:
    shown = snippet(passage(text="refill " * 200), stems=frozenset(), excerpts=Excerpts())
    assert shown.endswith("refill\N{HORIZONTAL ELLIPSIS}")
    assert len(shown) <= SNIPPET_CHARACTERS + 1


# The quote


async def test_what_an_agent_says_to_the_patient_stands_apart() -> None:
    content = (
        "## Steps\n\nRetail refills are payable on day 23 of 30.\n\n"
        '## What to tell the patient\n\n"Your refill is payable on day 23."'
    )
    asked = await ask(FakeTenant().with_documents(document(content=content)))
    assert asked.done.reply_draft == "Your refill is payable on day 23."
    assert "Your refill" not in asked.text


async def test_a_quote_that_is_only_possible_is_no_draft_of_a_reply() -> None:
    content = "Retail refills are payable.\n\n## What to tell the patient\n\nYour refill is payable."
    tenant = FakeTenant().with_documents(document(content=content))
    tenant.configure(gate={"answered": 1.0, "possibly": 0.0})
    assert (await ask(tenant)).done.reply_draft is None


async def test_the_tenant_bounds_the_words_of_a_quote() -> None:
    tenant = FakeTenant().with_documents(document(content=sections(30)))
    tenant.configure(answers={"max_words": 40})
    assert 20 < len((await ask(tenant)).text.split()) <= 40 + 10  # the marks of headings are no words


async def test_addresses_that_are_not_the_document_s_own_are_taken_out_of_a_quote() -> None:
    own, other = "https://procedures.example/refill", "https://evil.example/refill"
    content = f"Retail refills are payable on day 23, see <{own}> and <{other}>."
    asked = await ask(FakeTenant().with_documents(document(content=content)))
    assert own in asked.text
    assert other not in asked.text


async def test_a_unit_of_which_nothing_is_left_is_not_quoted() -> None:
    content = "## Steps\n\n- https://evil.example/retail-refills-payable-day\n- Retail refills are payable."
    asked = await ask(surely(FakeTenant().with_documents(document(content=content))))
    assert asked.text == "**Steps**\n\n- Retail refills are payable."
    [sentence] = asked.sentences
    assert asked.text[sentence.start : sentence.end] == "- Retail refills are payable."


# Two questions in one


async def test_two_questions_are_answered_from_two_documents_under_their_own_words() -> None:
    asked = await ask(FakeTenant().with_documents(TRANSFER, document()), DOUBLE)
    assert asked.text == (
        "**On which day are retail refills payable?**\n\nRetail refills are payable on day 23 of 30.\n\n"
        "**How long do transfers to another pharmacy take?**\n\n"
        "Transfers to another pharmacy take one business day."
    )
    assert [sentence.citations for sentence in asked.sentences] == [(1,), (2,)]
    assert [source.document_id for source in asked.sources.sources] == ["refill", "transfer"]
    assert asked.record.retrieval_question == DOUBLE.replace("? ", "?\n")


async def test_two_questions_to_one_document_get_one_quote() -> None:
    both = document(
        content="Retail refills are payable on day 23 of 30. Call ext. 4100. "
        "Transfers to another pharmacy take one business day."
    )
    asked = await ask(FakeTenant().with_documents(both), DOUBLE)
    assert "**" not in asked.text
    assert asked.text.startswith("Retail refills are payable on day 23 of 30.")
    assert asked.text.endswith("Transfers to another pharmacy take one business day.")
    assert len(asked.prepared.evidence) == 2


async def test_of_two_questions_one_answer_is_only_possible() -> None:
    tenant = FakeTenant()
    question = f"{QUESTION} Which vaccine protects travellers against shingles?"
    asked = await ask(tenant, question)
    assert [one.certainty is None for one in asked.prepared.evidence] == [False, True]
    assert asked.text == "Retail refills are payable on day 23 of 30."
    assert asked.done.certainty is Certainty.POSSIBLY


async def test_the_question_above_an_answer_holds_nothing_active() -> None:
    question = (
        "On which day are retail refills payable <img src=https://evil.example/x> [x](https://evil.example)? "
        "How long do transfers\nto another pharmacy take?"
    )
    asked = await ask(FakeTenant().with_documents(TRANSFER, document()), question)
    assert "evil" not in asked.text
    assert "**How long do transfers to another pharmacy take?**" in asked.text


async def test_a_document_that_answers_one_question_is_not_also_possible_for_the_other() -> None:
    also = (await ask(surely(FakeTenant().with_documents(TRANSFER, document())), DOUBLE)).done.also
    assert {one.document_id for one in also}.isdisjoint({"refill", "transfer"})


async def test_the_document_of_one_half_answers_the_other_where_it_contends() -> None:
    others = [document(f"d{n}", f"Parcel {n} waits.", title=f"Parcel {n}") for n in range(4)]
    second = "Where do agents send other retail refill requests?"
    alone = await ask(FakeTenant().with_documents(document(), NEAR, *others), second)
    both = await ask(
        FakeTenant().with_documents(document(), NEAR, *others),
        f"On which day are retail refills by mail payable? {second}",
    )
    assert alone.sources.sources[0].document_id == "refill"
    assert {one.best.card.document_id for one in both.prepared.evidence if one.best} == {"mail-refill"}
    assert "Mail Desk" in both.text


# Also possible

NEAR = document(
    "mail-refill",
    "Retail refills by mail are payable on day 20 of 30. Send other requests to the Mail Desk.",
    title="Refill too soon by mail",
    effective_date=date(2026, 1, 15),
)


async def test_a_document_that_contends_is_also_quoted_with_its_date() -> None:
    others = [document(f"d{n}", f"Parcel {n} waits.", title=f"Parcel {n}") for n in range(4)]
    asked = await ask(FakeTenant().with_documents(document(), NEAR, *others))
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


async def test_a_document_that_is_far_behind_is_a_source_only() -> None:
    others = [document(f"d{n}", f"Parcel {n} waits.", title=f"Parcel {n}") for n in range(3)]
    asked = await ask(FakeTenant().with_documents(document(), *others))
    assert asked.done.also == ()
    assert len(asked.sources.sources) == 4


async def test_what_is_also_possible_has_fewer_words() -> None:
    near = document("near", sections(30), title="Refill too soon")
    tenant = FakeTenant().with_documents(document(content=sections(30)), near)
    tenant.configure(answers={"also_words": 20})
    [also] = (await ask(tenant)).done.also
    assert len(also.text.split()) <= 20 + 6
    assert also.document_id == "refill" or also.document_id == "near"


async def test_without_an_answer_nothing_is_also_possible() -> None:
    tenant = FakeTenant().with_documents(document(), NEAR)
    tenant.configure(gate={"answered": 1.0, "possibly": 1.0})
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.done.also) == (FinishReason.NO_EVIDENCE, ())


# Clarify


def conditioned(name: str, title: str, *, condition: bool = True) -> StoredDocument:
    heading = "When this applies" if condition else "Notes"
    return document(name, f"## {heading}\n\nOn day 23.\n\n## Steps\n\nRefills wait.", title=title)


def clarify(question: str, best: StoredDocument, also: StoredDocument | None) -> str | None:
    return clarifying_question(
        question,
        best,
        Quote(also, (), 0.0, ()) if also is not None else None,
        vocabulary=Vocabulary(language("en"), glossary={}),
        headings=Headings.of(reply=(), condition=["When this applies"]),
    )


CONTROLLED = conditioned("controlled", "Refill too soon, controlled")
OTHER = conditioned("other", "Refill too soon, not controlled")


def test_two_titles_that_the_question_does_not_tell_apart_are_asked_about() -> None:
    assert clarify("May it be refilled early?", CONTROLLED, OTHER) == (
        "Which of these applies: \u201cRefill too soon, controlled\u201d or "
        "\u201cRefill too soon, not controlled\u201d?"
    )


@pytest.mark.parametrize("question", ["May a controlled one be refilled?", "refill, not controlled"])
def test_a_question_that_tells_them_apart_is_not_asked_back(question: str) -> None:
    assert clarify(question, CONTROLLED, OTHER) is None


def test_titles_that_are_not_alike_are_not_asked_about() -> None:
    assert clarify("refill", CONTROLLED, conditioned("transfer", "Transfer out")) is None


@pytest.mark.parametrize("which", [0, 1])
def test_documents_without_a_condition_are_not_asked_about(which: int) -> None:
    plain = [CONTROLLED, OTHER]
    plain[which] = conditioned("plain", plain[which].card.title, condition=False)
    assert clarify("May it be refilled early?", *plain) is None


def test_without_a_second_document_nothing_is_asked() -> None:
    assert clarify("May it be refilled early?", CONTROLLED, None) is None


async def test_the_question_back_is_told_at_the_end() -> None:
    asked = await ask(FakeTenant().with_documents(CONTROLLED, OTHER), "Do refills wait?")
    assert asked.done.clarify is not None
    assert asked.done.clarify.startswith("Which of these applies")
    assert asked.record.clarify == asked.done.clarify


# Whom to ask

CONTACTS = {
    "default": "the lead on duty",
    "retail refills": "the Claims Desk, ext. 4100",
    "shingles": "the Vaccine Line",
    "Transfer": "the Transfer Desk",
}


async def escalated(question: str, *, contacts: dict[str, str] | None = None, possibly: bool = True) -> Asked:
    tenant = FakeTenant().with_documents(document(), TRANSFER)
    tenant.configure(answers={"escalation": CONTACTS if contacts is None else contacts})
    if possibly:
        tenant.configure(gate={"answered": 1.0, "possibly": 0.0})
    return await ask(tenant, question)


async def test_whom_to_ask_goes_by_the_words_of_the_question() -> None:
    asked = await escalated(QUESTION)
    assert asked.done.certainty is Certainty.POSSIBLY
    assert asked.done.escalation == "the Claims Desk, ext. 4100"


async def test_every_word_of_a_subject_must_be_said() -> None:
    assert (await escalated("Is a refill payable?")).done.escalation == "the lead on duty"


async def test_a_subject_is_compared_by_stems_and_without_case() -> None:
    assert (await escalated("How long is TRANSFERRING?")).done.escalation == "the Transfer Desk"


async def test_then_it_goes_by_the_nearest_document() -> None:
    assert (await escalated("How long to another pharmacy, one business day?")).done.escalation == (
        "the Transfer Desk"
    )


async def test_whom_to_ask_is_told_without_an_answer_too() -> None:
    asked = await escalated("Which vaccine protects against shingles?", possibly=False)
    assert asked.done.finish_reason is FinishReason.NO_EVIDENCE
    assert asked.done.escalation == "the Vaccine Line"
    assert asked.record.escalation == "the Vaccine Line"


async def test_an_answer_that_is_sure_names_nobody() -> None:
    assert (await escalated(QUESTION, possibly=False)).done.escalation is None


async def test_without_contacts_nobody_is_named() -> None:
    assert (await escalated(QUESTION, contacts={})).done.escalation is None
    assert (await escalated(QUESTION, contacts={"shingles": "x"})).done.escalation is None


async def test_the_default_is_no_subject_of_its_own() -> None:
    asked = await escalated("Is there a default for retail refills?")
    assert asked.done.escalation == "the Claims Desk, ext. 4100"


async def test_where_the_model_refuses_the_answer_is_only_possible() -> None:
    content = f"{REFILL}\n\n## What to tell the patient\n\nYour refill is payable."
    tenant = FakeTenant.writing("The sources do not answer this question.")
    tenant = tenant.with_documents(document(content=content))
    tenant.configure(answers={"escalation": CONTACTS})
    asked = await ask(tenant)
    done = asked.done
    assert (done.certainty, done.escalation) == (Certainty.POSSIBLY, "the Claims Desk, ext. 4100")
    assert done.reply_draft is None
    assert (asked.record.escalation, asked.record.reply_draft) == (done.escalation, None)


async def test_where_nothing_can_be_quoted_somebody_is_named() -> None:
    address = document(content="https://evil.example/retail-refills-payable-day")
    tenant = surely(FakeTenant().with_documents(address))
    tenant.configure(answers={"escalation": CONTACTS})
    done = (await ask(tenant)).done
    assert (done.finish_reason, done.escalation) == (
        FinishReason.SOURCES_ONLY,
        "the Claims Desk, ext. 4100",
    )
