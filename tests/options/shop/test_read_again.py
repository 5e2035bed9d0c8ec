"""Live systems are asked for an item that a question names, and again for the element of its answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.elements import element_of, use_of
from assistant.domain.live import ElementDisplay, ElementKind
from assistant.options.live.reads import ReadElementAgain
from tests.fakes.answering import agent
from tests.fakes.live import STOCK, FakeLive
from tests.options.live.live_scene import KeptReads
from tests.options.shop.humidifiers import HEAVY, LIGHT, shop
from tests.unit.answer.asking_and_reading import ask, prepare

STOCKED = replace(STOCK, kind=ElementKind.CARD, title="Availability", about=("Is it in stock?",))
FIRST = "What is the price of the Aria Mist 300?"


@pytest.mark.parametrize(
    ("follow_up", "number"), [("And the Aria Mist 200?", ["A-200"]), ("And is it in stock?", [])]
)
async def test_a_follow_up_is_asked_by_the_number_of_the_item_that_it_names_itself(
    follow_up: str, number: list[str]
) -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = FakeLive()
    await ask(tenant, "What is the stock?")  # the first question reads the words of the index
    first = await ask(tenant, FIRST)
    _, prepared = await prepare(tenant, follow_up, conversation_id=first.conversation_id)
    assert prepared.basis.hydration.caller.question.splitlines() == [follow_up, *number]


async def test_an_element_is_read_again_for_the_item_that_the_question_named() -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = live = FakeLive()
    await ask(tenant, "What is the stock?")
    first = await ask(tenant, FIRST)
    element = ElementDisplay(place="block", start=0, end=0)
    use = use_of(element_of(STOCK, element_id="e1", display=element, outcome=None), operation=STOCK.operation)
    update = {"answer_id": "again", "elements": (use,)}
    await tenant.records.put_answer(first.record.model_copy(update=update))
    answers = AnswerQuestion(tenant.services)
    again = ReadElementAgain(tenant.services, reads=KeptReads(), as_asked=answers.read.as_asked)
    await again.read("again", "e1", identity=agent(), context=None)
    _, caller = live.calls[-1]
    assert caller.question.splitlines() == [FIRST, "A-300"]
