"""What a chat makes of a question: what is asked, and what is read and not kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import sqrt

import pytest

from assistant.answer.heads import Heads, shipped_chat_weights
from assistant.answer.message import numbers_of
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import FinishReason, Reading
from assistant.domain.clock import Deadline
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from tests.contracts.samples import answer
from tests.fakes.answering import WRITING_MODEL, FakeEmbedder, FakeTenant, document
from tests.unit.answer.asking_and_reading import QUESTION, ask
from tests.unit.answer.test_reading_and_checking import ReadsWritesChecks, reading

THANKS = "great, thank you!"
TURNS = [
    {"who": "customer", "text": "my claim is 10045"},
    {"who": "agent", "text": "Thank you. Which medicine is it?"},
    {"who": "customer", "text": QUESTION},
]
FIRES = [f"smoke and fire in the {place}" for place in ("kitchen", "hall", "attic", "shed", "barn")]
PASTED = f"Mo: {QUESTION}\nDesk: {FIRES[0]}\n\nwhat do I tell him?"


class KnowsHeads(FakeEmbedder):
    """Gives thanks the vector that its head was fitted for, and other texts as its parent does."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        thanks = _unit_length([-value for value in shipped_chat_weights().asks.vector])
        vectors = await super().embed(texts, deadline=deadline)
        return [thanks if text == THANKS else vector for text, vector in zip(texts, vectors, strict=True)]


def _unit_length(vector: Sequence[float]) -> list[float]:
    length = sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


@pytest.fixture
def tenant() -> FakeTenant:
    tenant = FakeTenant(embedder=KnowsHeads())
    tenant.configure(embedding={"model": shipped_chat_weights().embedding_model})
    return tenant


def test_numbers_that_stand_alone_are_read_for_live_systems() -> None:
    assert numbers_of("order 10045, born 3/4/71 (A5), #10045 for 2") == ("10045", "A5", "2")


async def test_a_number_of_another_message_is_read_and_not_kept(tenant: FakeTenant) -> None:
    words = " ".join(["and so on"] * 15)
    said = [{"who": "customer", "text": f"{words} 10045 {words}"}, *TURNS[1:2]]
    asked = await ask(tenant, "Where is it?", turns=[*said, {"who": "customer", "text": "?"}])
    assert asked.plan.basis.question.said.count("10045") == 1
    assert "10045" in asked.plan.basis.reading.caller.question


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


def with_fires(tenant: FakeTenant) -> None:
    flags = [{"name": "fire", "text": "Leave.", "call": "911", "examples": FIRES}]
    tenant.config = TenantConfig.model_validate(tenant.config.model_dump() | {"red_flags": flags})


async def test_a_pasted_chat_is_one_message_whose_reading_by_the_model_is_waited_for() -> None:
    tenant, found = FakeTenant(model=WRITING_MODEL).with_documents(document()), "Refills by transfer"
    with_fires(tenant)
    tenant.generator = ReadsWritesChecks(read=reading(queries=[found]))
    asked = await ask(tenant, PASTED)
    assert asked.kept.question == PASTED
    assert [flag.name for flag in asked.started.red_flags] == ["fire"]  # whoever said it
    assert tenant.search.queries[-1].text == found
    for request in tenant.generator.requests[:2]:  # the reading, then the answer
        assert " ".join(PASTED.split()) in request.messages[-1].content


async def test_red_flags_are_read_in_the_customers_turns_alone(tenant: FakeTenant) -> None:
    with_fires(tenant)
    fire = {"who": "agent", "text": FIRES[0]}
    assert (await ask(tenant, turns=[*TURNS, fire], question="")).started.red_flags == ()
    said = {"who": "customer", "text": f"{FIRES[0]}. {FIRES[1]}"}
    assert (await ask(tenant, turns=[said, *TURNS], question="")).started.red_flags != ()


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
    length = sqrt(sum(value * value for value in weights.asks.vector))
    asking = {"thx": [value / length for value in weights.asks.vector]}
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
        reading = Reading(questions=("thx",), asks=asks)
        record = answer("a1").model_copy(update={**unanswered, "reading": reading})
        assert record.is_for_desk is asks
        assert ("asks" in reading.model_dump()) is not asks
