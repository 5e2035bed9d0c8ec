"""How live systems are asked a question that leans on the one before it."""

from __future__ import annotations

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.elements import element_of, use_of
from assistant.domain.live import ElementDisplay
from assistant.options.live.reads import ReadElementAgain
from tests.attacks.live_scene import KeptReads
from tests.fakes.answering import agent
from tests.fakes.live import STOCK, FakeLive
from tests.options.shop.test_tables import HEAVY, LIGHT, shop
from tests.unit.answer.asking_and_reading import ask, prepare

FIRST = "What is the price of the Aria Mist 300?"


@pytest.mark.parametrize(
    ("questions", "number"),
    [
        ([FIRST, "And is it in stock?"], "A-300"),
        ([FIRST, "And is it in stock?", "And at Eastgate?"], "A-300"),
        ([FIRST, "And the Aria Mist 200?"], "A-200"),
        ([FIRST, "How long is the warranty of a kettle in winter?"], ""),
        (["Which is lighter, the Aria Mist 200 or the Aria Mist 300?", "And is it in stock?"], ""),
    ],
)
async def test_a_follow_up_is_asked_by_the_number_of_the_item_that_it_means(
    questions: list[str], number: str
) -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = FakeLive()
    await ask(tenant, "What is the stock?")  # the first question reads the words of the index
    conversation = None
    for question in questions[:-1]:
        answered = await ask(tenant, question, conversation_id=conversation)
        conversation = answered.record.conversation_id
    _, prepared = await prepare(tenant, questions[-1], conversation_id=conversation)
    asked = prepared.run.hydration.caller.question
    assert asked.splitlines() == [questions[-1], *([number] if number else [])]


async def test_the_element_of_a_follow_up_is_read_again_for_the_item_that_it_meant() -> None:
    tenant = shop(LIGHT, HEAVY)
    tenant.live_elements = live = FakeLive()
    await ask(tenant, "What is the stock?")
    first = await ask(tenant, FIRST)
    conversation = first.record.conversation_id
    follow_up = await ask(tenant, "And is it in stock?", conversation_id=conversation)
    element = ElementDisplay(place="block", start=0, end=0)
    use = use_of(element_of(STOCK, element_id="e1", display=element, outcome=None), operation=STOCK.operation)
    update = {"answer_id": "again", "elements": (use,)}
    await tenant.records.put_answer(follow_up.record.model_copy(update=update))
    answers = AnswerQuestion(tenant.services)
    again = ReadElementAgain(
        tenant.services, reads=KeptReads(), bounds=answers.bounds, as_asked=answers.read.as_asked
    )
    await again.read("again", "e1", identity=agent(), context=None)
    _, caller = live.calls[-1]
    assert caller.question.splitlines() == [follow_up.record.question, "A-300"]
