"""What a chat makes of a question: what is asked, whether a reply is, and what is read and not kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import sqrt
from typing import Any

import pytest

from assistant.answer.heads import MOST_READ, Heads, Said, said_sentences, shipped_chat_weights
from assistant.answer.message import named_above, numbers_of
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import FinishReason, Reading
from assistant.domain.clock import Deadline
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from tests.contracts.samples import answer
from tests.fakes.answering import FakeEmbedder, FakeTenant, document
from tests.unit.answer.asking_and_reading import QUESTION, ask

NOTE, CHEAPER = "what do I tell him?", "And which one is cheaper?"
THANKS = "great, thank you!"
TURNS = [
    {"who": "customer", "text": "my claim is 10045"},
    {"who": "agent", "text": "Thank you. Which medicine is it?"},
    {"who": "customer", "text": QUESTION},
]
PASTED = "\n".join(
    (
        "Mo: good morning",
        "Desk: Good morning, how can I help?",
        f"Mo: {QUESTION}",
        "Desk: One moment please.",
        "",
        NOTE,
    )
)


FIRES = [f"smoke and fire in the {place}" for place in ("kitchen", "hall", "attic", "shed", "barn")]


class KnowsHeads(FakeEmbedder):
    """Gives two lines the vectors that their heads were fitted for, and other texts as its parent does."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        weights = shipped_chat_weights()
        thanks = [-value for value in weights.open.vector]
        heads = {NOTE: weights.note.vector, CHEAPER: weights.several.vector, THANKS: thanks}
        vectors = await super().embed(texts, deadline=deadline)
        pairs = zip(texts, vectors, strict=True)
        return [_unit_length(heads[text]) if text in heads else vector for text, vector in pairs]


def _unit_length(vector: Sequence[float]) -> list[float]:
    length = sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant(embedder=KnowsHeads())
    tenant.configure(embedding={"model": shipped_chat_weights().embedding_model})
    return tenant


@pytest.mark.parametrize("body", [{"turns": TURNS, "question": NOTE}, {"question": PASTED}])
async def test_a_chat_with_the_agents_line_below_is_answered_for_a_reply(
    tenant: FakeTenant, body: dict[str, Any]
) -> None:
    asked = await ask(tenant, **body)
    assert asked.done.reply_of == asked.kept.reply_of == asked.kept.answer_id
    assert QUESTION in asked.kept.question
    assert NOTE not in asked.kept.question
    assert "day 23" in asked.text


async def test_asked_after_an_answer_its_question_is_answered_again_for_a_reply(tenant: FakeTenant) -> None:
    first = await ask(tenant)
    conversation_id = first.conversation_id
    second = await ask(tenant, NOTE, conversation_id=conversation_id)
    assert (second.kept.question, second.done.reply_of) == (QUESTION, second.kept.answer_id)
    assert second.text == first.text
    third = await ask(tenant, NOTE, conversation_id=conversation_id)
    assert third.kept.question == QUESTION


async def test_other_questions_open_no_reply(tenant: FakeTenant) -> None:
    first = await ask(tenant)
    follow_up = await ask(tenant, "And by mail?", conversation_id=first.conversation_id)
    alone = await ask(tenant, NOTE)
    for asked in (first, follow_up, alone):
        assert asked.plan.basis.question.asks_reply is False
    assert (follow_up.kept.question, alone.kept.question) == ("And by mail?", NOTE)


def test_numbers_that_stand_alone_are_read_for_live_systems() -> None:
    assert numbers_of("order 10045, born 3/4/71 (A5), #10045 for 2") == ("10045", "A5", "2")


async def test_a_number_of_another_message_is_read_and_not_kept(tenant: FakeTenant) -> None:
    words = " ".join(["and so on"] * 15)
    said = [{"who": "customer", "text": f"{words} 10045 {words}"}, *TURNS[1:2]]
    asked = await ask(tenant, "Where is it?", turns=[*said, {"who": "customer", "text": "?"}])
    assert asked.plan.basis.question.chat_text.count("10045") == 1
    assert "10045" in asked.plan.basis.reading.caller.question


NAMED = ["Do you have Zyrtec", "And Claritin? Thank you for now."]
BOTH = ["Do you have Zyrtec", "And Claritin"]


@pytest.mark.parametrize("by_agent", [False, True], ids=["the customer", "the agent"])
async def test_a_chat_goes_on_with_what_was_named_above(tenant: FakeTenant, *, by_agent: bool) -> None:
    said = [{"who": "customer", "text": NAMED[0]}, {"who": "agent", "text": NAMED[1]}]
    last = {"who": "customer", "text": CHEAPER}
    asked = await ask(tenant, CHEAPER if by_agent else "", turns=said if by_agent else [*said, last])
    assert asked.kept.question.split("\n") == [NAMED[0], CHEAPER]


@pytest.mark.parametrize(("names", "kept"), [("doreen kev", 1), ("", 2)])
def test_the_names_of_speakers_name_nothing(tenant: FakeTenant, names: str, kept: int) -> None:
    vocabulary = Vocabulary.of(tenant.config)
    named = named_above(["Zyrtec or Claritin?", "Hi Doreen."], [CHEAPER], vocabulary=vocabulary, names=names)
    assert named == ["Zyrtec or Claritin", "Hi Doreen."][:kept]


async def test_a_question_about_two_things_is_searched_with_the_two_before_it(tenant: FakeTenant) -> None:
    first = await ask(tenant, NAMED[0])
    for text in (NAMED[1], CHEAPER):
        asked = await ask(tenant, text, conversation_id=first.conversation_id)
    assert asked.kept.retrieval_question.split("\n") == [*BOTH, CHEAPER]
    assert (asked.kept.question, asked.kept.reading and asked.kept.reading.leans) == (CHEAPER, True)


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        ({}, ": 7 days."),
        ({"at": "2026-03-16T23:30:00-05:00"}, "3/14/2026 to today, 3/16/2026: 2 days."),
    ],
    ids=["by the clock", "by the message"],
)
async def test_a_date_that_the_customer_said_earlier_is_counted(
    tenant: FakeTenant, at: dict[str, str], shown: str
) -> None:
    tenant = tenant.with_documents(
        document(content="Retail refills are payable within 30 days of the charge.")
    )
    charged = "2026-03-14" if at else (tenant.clock.now().date() - timedelta(days=7)).isoformat()
    said = [
        {"who": "customer", "text": f"I was charged {charged}"},
        {"who": "agent", "text": "I see."},
        {"who": "customer", "text": f"{QUESTION} Today?", **at},
    ]
    asked = await ask(tenant, "", turns=said)
    assert shown in asked.text
    assert asked.kept.written.isoformat() == at.get("at", asked.kept.asked_at.isoformat())


@pytest.mark.parametrize(
    ("at", "shown"),
    [("2026-03-16T02:00:00Z", "3/15/2026: 1 day"), ("2026-03-16T02:00:00+01:00", "3/16/2026: 2 days")],
)
def test_the_day_of_a_message_is_of_its_zone_or_else_of_the_tenant_s(
    tenant: FakeTenant, at: str, shown: str
) -> None:
    power = {"pause_at": "20:00", "resume_at": "07:00", "time_zone": "America/New_York"}
    tenant.config = TenantConfig.model_validate(tenant.config.model_dump() | {"power": power})
    lines = ["A charge is refunded within 180 days."]
    counted = tenant.services.counted_days("charged 3/14", lines, at=datetime.fromisoformat(at))
    assert counted == (f"3/14/2026 to today, {shown}",)


async def test_red_flags_are_read_in_a_pasted_chat_whole_and_in_the_customers_turns(
    tenant: FakeTenant,
) -> None:
    flags = [{"name": "fire", "text": "Leave.", "call": "911", "examples": FIRES}]
    tenant.config = TenantConfig.model_validate(tenant.config.model_dump() | {"red_flags": flags})
    fire = {"who": "agent", "text": FIRES[0]}
    pasted = await ask(tenant, PASTED.replace("One moment please.", FIRES[0]))
    assert [flag.name for flag in pasted.started.red_flags] == ["fire"]
    assert (await ask(tenant, turns=[*TURNS, fire], question="")).started.red_flags == ()
    said = {"who": "customer", "text": f"{FIRES[0]}. {FIRES[1]}"}
    assert (await ask(tenant, turns=[said, *TURNS], question="")).started.red_flags != ()


async def test_a_long_chat_costs_a_bounded_number_of_vectors(tenant: FakeTenant) -> None:
    lines = (f"{'Mo' if n % 2 else 'Desk'}: word {n}. And {n}." for n in range(150))
    await ask(tenant, "\n".join(lines))
    assert sum(map(len, tenant.embedder.texts)) < 4 * MOST_READ


def test_where_a_sentence_stands_is_counted() -> None:
    said = [Said("customer", "Hi. Where is it?"), Said("agent", "Hello."), Said("customer", "10045")]
    first, second, third = said_sentences(said)
    assert [each.text for each in (first, second, third)] == ["Hi.", "Where is it?", "10045"]
    assert (second.counts[0], third.counts[0]) == (1.0, 0.0)
    assert (second.counts[6], third.counts[6]) == (1.0, 0.0)  # an agent answers next
    assert (third.counts[7], third.counts[8], third.counts[11]) == (1.0, 1.0, 1.0)


async def test_thanks_are_not_searched_and_end_with_nothing_to_answer(tenant: FakeTenant) -> None:
    thanked = [*TURNS, {"who": "agent", "text": "On day 68."}, {"who": "customer", "text": THANKS}]
    for asked in (await ask(tenant, THANKS), await ask(tenant, "", turns=thanked)):
        assert asked.sources.sources == ()
        assert (asked.done.asks, asked.done.finish_reason) == (False, FinishReason.NO_EVIDENCE)
        assert (asked.text, asked.done.reason) == (
            "",
            "The message thanks or greets: there is nothing to answer.",
        )
    for before in (TURNS, [*TURNS, {"who": "agent", "text": "By mail or at a store?"}]):
        open_still = await ask(tenant, "", turns=[*before, {"who": "customer", "text": THANKS}])
        assert open_still.done.asks
        assert open_still.sources.sources


def test_thanks_ask_for_nothing_and_are_no_case_of_the_desk() -> None:
    weights = shipped_chat_weights()
    length = sqrt(sum(value * value for value in weights.open.vector))
    asking = {"thx": [value / length for value in weights.open.vector]}
    thanks = [-value for value in asking["thx"]]
    thanking = {"thx": thanks, "Thanks. And the other one?": thanks}
    vocabulary = Vocabulary(language("en"), glossary={})
    heads = Heads(vocabulary, embedding_model=weights.embedding_model)
    assert heads.asks_something("thx", asking)
    assert not heads.asks_something("thx", thanking)
    assert Heads(vocabulary, embedding_model="another").asks_something("thx", thanking)
    assert heads.asks_something("thx", {})
    assert heads.asks_something("Thanks. And the other one?", thanking)
    unanswered = {"finish_reason": FinishReason.NO_EVIDENCE, "text": "", "mode": None}
    for asks in (True, False):
        reading = Reading(questions=("thx",), search_text="thx", asks=asks)
        record = answer("a1").model_copy(update={**unanswered, "reading": reading})
        assert record.is_for_desk is asks
        assert ("asks" in reading.model_dump()) is not asks
