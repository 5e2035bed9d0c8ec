"""An approved answer is looked up by what the agent typed, not by the words of a model."""

from __future__ import annotations

from assistant.answer.answer import AnswerQuestion
from assistant.answer.take import AnswerRequest
from tests.fakes.answering import (
    agent,
)
from tests.options.desk.desk import FakeDesk, approved
from tests.unit.answer.asking_and_reading import QUESTION, deadline
from tests.unit.answer.test_model_reading import reply, tenant_that_reads


async def test_no_approved_answer_is_looked_up_by_the_model_s_words() -> None:
    tenant = tenant_that_reads(reply(questions=[QUESTION, "By mail?"], search_text="Refills.", leans=False))
    desk = FakeDesk()
    desk.add(approved(QUESTION, "On day 23.", sources=[]))
    tenant.revisions = desk

    async def served(text: str) -> list[bool]:
        use_case = AnswerQuestion(tenant.services)
        await use_case.adaptations.refresh()
        asking = AnswerRequest(question=text)
        prepared = await use_case.prepare(asking, identity=agent(), deadline=deadline(tenant))
        return [bool(one.offered) for one in prepared.quote.evidence]

    assert await served(QUESTION) == [True]
    assert await served(f"{QUESTION} Does the Claims Desk take them?") == [True, False]  # as it was typed
    assert await served("Is a refill payable, on which day? Does the Claims Desk take it?") == [False, False]
