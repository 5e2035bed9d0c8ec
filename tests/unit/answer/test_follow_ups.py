"""Which questions are searched together with the one before them."""

from __future__ import annotations

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.request import ChatQuestion
from tests.fakes.answering import FakeTenant, agent, document
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask, deadline, quote_of

TRANSFER = document(
    "transfer",
    "Transfers to another pharmacy take one business day. Transfers need the old label.",
    title="Transfer out",
)
BY_TRANSFER = "How long do transfers to another pharmacy take?"


def tenant_of_two() -> FakeTenant:
    return FakeTenant().with_documents(document(), TRANSFER)


async def asked_after(question: str, *, before: str = QUESTION) -> tuple[FakeTenant, Asked]:
    tenant = tenant_of_two()
    first = await ask(tenant, before)
    return tenant, await ask(tenant, question, conversation_id=first.conversation_id)


@pytest.mark.parametrize(
    "question", ["And by mail?", "Does it need a form?", "What about insulin?", "With Medicare, please?"]
)
async def test_a_question_that_leans_on_the_one_before_is_searched_once_and_with_it(question: str) -> None:
    tenant, second = await asked_after(question)
    assert [query.text for query in tenant.search.queries] == [QUESTION, f"{QUESTION}\n{question}"]
    assert second.record.retrieval_question == f"{QUESTION}\n{question}"
    assert second.record.question == question
    assert second.sources.sources[0].document_id == "refill"


async def test_a_question_on_another_subject_is_searched_alone() -> None:
    tenant, second = await asked_after(BY_TRANSFER)
    assert [query.text for query in tenant.search.queries] == [QUESTION, BY_TRANSFER]
    assert second.sources.sources[0].document_id == "transfer"
    assert second.record.retrieval_question == BY_TRANSFER


async def test_only_the_question_before_is_joined_on() -> None:
    tenant = tenant_of_two()
    conversation_id = (await ask(tenant, "Are refills payable?")).conversation_id
    await ask(tenant, "Are retail refills payable?", conversation_id=conversation_id)
    third = await ask(tenant, "And by mail?", conversation_id=conversation_id)
    assert third.record.retrieval_question == "Are retail refills payable?\nAnd by mail?"


async def test_a_question_before_that_only_its_client_knows_is_joined_too() -> None:
    tenant = tenant_of_two()
    asking = ChatQuestion(question="And by mail?", earlier_questions=(QUESTION,))
    prepared = await AnswerQuestion(tenant.services).prepare(
        asking, identity=agent(), deadline=deadline(tenant)
    )
    assert [part.finding.searched for part in quote_of(prepared).parts] == [f"{QUESTION}\nAnd by mail?"]
    assert tenant.records.reads == 0


async def test_the_second_of_two_questions_leans_on_the_first() -> None:
    tenant = tenant_of_two()
    await ask(tenant, "On which day are retail refills payable? And does it need a label form?")
    texts = [query.text for query in tenant.search.queries]
    assert texts[1].startswith("On which day are retail refills payable?\n")
