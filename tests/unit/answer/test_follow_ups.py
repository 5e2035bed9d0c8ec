"""What a question gets that makes no sense without the one before it, with and without a model."""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.heads import shipped_reading_weights
from assistant.answer.plan import Nothing, Quoted, Written
from assistant.answer.request import ChatQuestion
from assistant.domain.answers import FinishReason
from assistant.domain.clock import Deadline
from assistant.domain.errors import GenerationUnavailableError
from tests.fakes.answering import QUOTING_MODEL, WRITING_MODEL, FakeEmbedder, FakeTenant, agent, document
from tests.unit.answer.asking_and_reading import QUESTION, Asked, ask, deadline
from tests.unit.answer.test_reading_and_checking import ReadsWritesChecks, reading

TRANSFER = document(
    "transfer",
    "Transfers to another pharmacy take one business day. Transfers need the old label.",
    title="Transfer out",
)
BY_TRANSFER = "How long do transfers to another pharmacy take?"
BY_MAIL, FORM = "And by mail?", "And does it need a label form?"
LEANING = (BY_MAIL, FORM, "What do I tell him?")


class KnowsTheHead(FakeEmbedder):
    """Gives the questions that lean the vector that the head was fitted for."""

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        weights = shipped_reading_weights().leans.vector
        length = hypot(*weights)
        leaning = [value / length for value in weights]
        vectors = await super().embed(texts, deadline=deadline)
        return [leaning if text in LEANING else vector for text, vector in zip(texts, vectors, strict=True)]


def made(*, writes: bool = False) -> FakeTenant:
    tenant = FakeTenant(embedder=KnowsTheHead(), model=WRITING_MODEL if writes else QUOTING_MODEL)
    tenant.configure(embedding={"model": shipped_reading_weights().embedding_model})
    return tenant.with_documents(document(), TRANSFER)


async def asked_after(tenant: FakeTenant, question: str) -> Asked:
    first = await ask(tenant)
    return await ask(tenant, question, conversation_id=first.conversation_id)


@pytest.mark.parametrize("question", LEANING)
async def test_without_a_model_it_is_to_be_asked_in_full_and_nothing_is_searched(question: str) -> None:
    tenant = made()
    second = await asked_after(tenant, question)
    assert [query.text for query in tenant.search.queries] == [QUESTION]
    assert (second.text, second.sources.sources) == ("", ())
    assert second.done.finish_reason is FinishReason.NO_EVIDENCE
    assert second.done.reason == (
        "This question makes no sense without the one before it. No model has read the two together. "
        "Ask it in full."
    )
    assert second.kept.reading is not None
    assert (second.kept.question, second.kept.reading.leans) == (question, True)
    assert (second.kept.is_unanswered, second.kept.is_for_desk) == (True, False)


@pytest.mark.parametrize("before", [QUESTION, None])
async def test_a_question_that_makes_sense_or_is_the_first_is_searched(before: str | None) -> None:
    tenant = made()
    asked = await asked_after(tenant, BY_TRANSFER) if before else await ask(tenant, BY_MAIL)
    assert tenant.search.queries[-1].text == asked.kept.question
    assert asked.kept.reading is not None
    assert not asked.kept.reading.leans


async def test_after_a_question_that_only_its_client_knows_it_is_the_same() -> None:
    tenant = made()
    asking = ChatQuestion(question=BY_MAIL, earlier_questions=(QUESTION,))
    plan = await AnswerQuestion(tenant.services).prepare(asking, identity=agent(), deadline=deadline(tenant))
    assert isinstance(plan, Nothing)
    assert (tenant.search.queries, tenant.records.reads) == ([], 0)


async def test_a_model_reads_it_with_the_conversation_and_writes_its_search() -> None:
    tenant = made(writes=True)
    tenant.generator = ReadsWritesChecks(read=reading(queries=[BY_TRANSFER]))
    second = await asked_after(tenant, BY_MAIL)
    assert isinstance(second.plan, Written)
    assert second.plan.widens
    assert [query.text for query in tenant.search.queries] == [QUESTION, BY_MAIL, BY_TRANSFER]
    assert second.names[:2] == ["started", "sources"]  # no preview of its own words
    told = tenant.generator.requests[-1].messages[-1].content
    assert told.index("Transfers need the old label.") < told.index(f"The agent asked before: {QUESTION}")


async def test_where_the_model_fails_no_section_takes_its_place() -> None:
    tenant = made(writes=True)
    down = GenerationUnavailableError("down")
    tenant.generator = ReadsWritesChecks(read=down, text=down)
    second = await asked_after(tenant, BY_MAIL)
    assert (second.text, second.done.finish_reason) == ("", FinishReason.SOURCES_ONLY)


async def test_a_second_question_that_leans_on_the_first_stays_open() -> None:
    tenant = made()
    asked = await ask(tenant, f"{QUESTION} {FORM}")
    assert isinstance(asked.plan, Quoted)
    assert [query.text for query in tenant.search.queries] == [QUESTION]
    assert asked.done.unanswered == (FORM,)
