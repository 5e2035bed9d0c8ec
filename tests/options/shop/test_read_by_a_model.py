"""Items are those that the agent typed, also where a model reads the message."""

from __future__ import annotations

from tests.fakes.answering import (
    WRITING_MODEL,
    ReadsAndWrites,
)
from tests.fakes.live import FakeLive
from tests.options.shop.test_tables import HEAVY, LIGHT, shop
from tests.unit.answer.asking_and_reading import ask
from tests.unit.answer.test_model_reading import reply


async def test_a_live_system_is_asked_by_the_items_that_the_agent_typed() -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements, tenant.model = FakeLive(), WRITING_MODEL
    searched = "Is the Aria Mist 200 in stock?"
    tenant.generator = ReadsAndWrites(reply(questions=[searched], search_text=searched), "It is [1.1].")
    tenant.configure(answers={"reading": "model"})
    first = await ask(tenant, "What is the price of the Aria Mist 300?")
    second = await ask(tenant, "And at gate 200?", conversation_id=first.record.conversation_id)
    assert tenant.search.queries[-1].text == searched
    assert second.prepared.run.hydration.caller.question == "And at gate 200?\nA-300"
