"""What happens to a question before the first event."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.find import DOCUMENTS_READ
from assistant.domain.answers import FinishReason, Mode
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeadlineExceededError,
    DependencyError,
    EmbeddingUnavailableError,
    NotFoundError,
    OverloadedError,
    RecordsUnavailableError,
    SearchUnavailableError,
    TooLargeError,
)
from tests.contracts import samples
from tests.fakes.answering import WRITING_MODEL, FakeEmbedder, FakeTenant, agent, document, vector_of
from tests.unit.answer.asking_and_reading import QUESTION, ask, prepare


async def test_the_question_is_embedded_and_searched_for() -> None:
    tenant = FakeTenant()
    await prepare(tenant)
    assert tenant.embedder.texts[0] == [QUESTION]
    [query] = tenant.search.queries
    assert (query.text, query.size, query.leg_size) == (QUESTION, 5, 100)
    assert query.vector == vector_of(QUESTION)


async def test_the_best_documents_are_read_and_the_units_of_the_first_are_embedded() -> None:
    others = [document(f"other-{n}", f"Parcel {n} is not payable.", title=f"Parcel {n}") for n in range(9)]
    tenant = FakeTenant().with_documents(*others, document())
    await prepare(tenant)
    [read] = tenant.search.read
    assert (read[0], len(read)) == ("refill", DOCUMENTS_READ)
    units = ["Retail refills are payable on day 23 of 30.", "Send other requests to the Claims Desk."]
    question, embedded = tenant.embedder.texts
    assert question == [QUESTION]
    assert embedded[:2] == [f"Refill too soon\n{unit}" for unit in units]
    assert len(embedded) == 6


async def test_labels_come_from_the_token_and_filters_from_the_request() -> None:
    tenant = FakeTenant()
    identity = agent(labels=frozenset({"controlled"}))
    await prepare(tenant, identity=identity, filters={"source": ["procedures"]})
    [query] = tenant.search.queries
    assert query.labels == {"controlled"}
    assert query.filters == SearchFilters(source=("procedures",))


async def test_a_document_with_labels_is_hidden_from_others() -> None:
    tenant = FakeTenant().with_documents(document(labels=("controlled",)))
    assert (await ask(tenant)).done.finish_reason is FinishReason.NO_EVIDENCE
    seen = await ask(tenant, identity=agent(labels=frozenset({"controlled"})))
    assert len(seen.sources.sources) == 1
    assert seen.text.startswith("Retail refills are payable on day 23 of 30.")


async def test_the_glossary_is_joined_to_what_is_searched_and_told_to_the_model() -> None:
    tenant = FakeTenant.writing()
    tenant.configure(glossary={"payable": "covered"})
    asked = await ask(tenant)
    assert tenant.embedder.texts[0] == [QUESTION]
    assert tenant.search.queries[0].text == f"{QUESTION}\ncovered"
    assert asked.record.retrieval_question == f"{QUESTION}\ncovered"
    assert asked.record.question == QUESTION
    assert asked.prompt is not None
    assert 'Words of the company: "payable" is covered.' in asked.prompt.messages[-1].content


async def test_the_turns_before_go_into_the_prompt() -> None:
    tenant = FakeTenant.writing()
    first = await ask(tenant)
    second = await ask(tenant, "And by mail?", conversation_id=first.conversation_id)
    assert second.prompt is not None
    told = second.prompt.messages[-1].content
    assert f"The agent asked before: {QUESTION}\nYour last answer to the agent: {first.text}" in told
    assert second.record.parameters["history_turns"] == 1


async def test_another_agent_s_conversation_looks_like_none() -> None:
    tenant = FakeTenant()
    await tenant.records.put_answer(samples.answer(conversation_id="c1"))
    outcomes: list[tuple[str, int]] = []
    for conversation_id in ("c1", "never-was"):
        before = tenant.records.reads
        with pytest.raises(NotFoundError) as raised:
            await prepare(tenant, identity=agent("ben"), conversation_id=conversation_id)
        outcomes.append((raised.value.message, tenant.records.reads - before))
    assert outcomes[0] == outcomes[1]
    assert tenant.embedder.texts == []


@pytest.mark.parametrize(
    "error", [EmbeddingUnavailableError("down"), OverloadedError("full"), DeadlineExceededError("late")]
)
async def test_errors_of_the_embedder_go_through(error: AssistantError) -> None:
    tenant = FakeTenant(embedder=FakeEmbedder(error=error))
    expected = EmbeddingUnavailableError if isinstance(error, DeadlineExceededError) else type(error)
    with pytest.raises(expected):
        await prepare(tenant)
    assert tenant.records.answers == {}


@pytest.mark.parametrize(
    ("step", "expected"), [("embedding", EmbeddingUnavailableError), ("search", SearchUnavailableError)]
)
async def test_a_step_that_hangs_ends_at_its_own_limit(step: str, expected: type[DependencyError]) -> None:
    tenant = FakeTenant()
    tenant.configure(limits={f"{step}_timeout_s": 0.01})
    (tenant.embedder if step == "embedding" else tenant.search).hangs = True
    with pytest.raises(expected, match=r"0\.01 s"):
        await prepare(tenant)


@pytest.mark.parametrize("step", ["embedding", "search"])
async def test_a_step_that_hangs_ends_at_the_answer_s_deadline(step: str) -> None:
    tenant = FakeTenant()
    (tenant.embedder if step == "embedding" else tenant.search).hangs = True
    with pytest.raises(DeadlineExceededError):
        await prepare(tenant, seconds=0.01)


async def test_a_deadline_that_has_passed_calls_nothing() -> None:
    tenant = FakeTenant()
    with pytest.raises(DeadlineExceededError):
        await prepare(tenant, seconds=0.0)
    assert tenant.embedder.texts == []


@pytest.mark.parametrize("step", ["search", "read"])
async def test_the_index_s_error_goes_through(step: str) -> None:
    tenant = FakeTenant()
    setattr(tenant.search, "error" if step == "search" else "read_error", SearchUnavailableError("down"))
    with pytest.raises(SearchUnavailableError):
        await prepare(tenant)


@pytest.mark.parametrize("failing", [{"error": EmbeddingUnavailableError("down")}, {"hangs": True}])
async def test_where_units_get_no_vectors_words_choose_the_section_and_the_answer_is_degraded(
    failing: dict[str, Any],
) -> None:
    tenant = FakeTenant(embedder=FakeEmbedder(after=1, **failing))
    asked = await ask(tenant)
    assert len(tenant.embedder.texts) == 2
    [evidence] = asked.quote.parts
    assert evidence.section is not None
    assert evidence.section.units[0].unit.text == "Retail refills are payable on day 23 of 30."
    assert asked.done.degraded == asked.kept.degraded == ("vectors of units",)


async def test_a_store_that_is_down_stops_a_follow_up_only() -> None:
    tenant = FakeTenant()
    tenant.records.error = RecordsUnavailableError("down")
    with pytest.raises(RecordsUnavailableError):
        await prepare(tenant, conversation_id="c1")
    await prepare(tenant)


async def test_a_question_over_the_context_of_a_model_that_writes_is_too_large() -> None:
    tenant = FakeTenant.writing()
    tenant.configure(generation={"context_tokens": 300, "max_tokens": 100})
    with pytest.raises(TooLargeError):
        await prepare(tenant, "refill payable day " * 100)


async def test_no_room_for_a_section_leaves_the_quote() -> None:
    long = document(content="Retail refills are payable on day 23 of 30" + " or on day 23 of 30" * 40 + ".")
    tenant = FakeTenant(model=WRITING_MODEL).with_documents(long)
    tenant.use_model(reads_tokens=720)
    asked = await ask(tenant)
    assert asked.done.mode is Mode.QUOTED
    assert asked.text.startswith("Retail refills are payable on day 23 of 30")
    assert tenant.generator.requests == []


@pytest.mark.parametrize(("asked_for", "given"), [(None, 409), (20, 20), (5000, 409)])
async def test_max_tokens_is_bounded_by_the_tenant_s(asked_for: int | None, given: int) -> None:
    tenant = FakeTenant.writing()
    asked = await ask(tenant, max_tokens=asked_for)
    assert tenant.generator.requests[0].max_tokens == given
    assert asked.record.parameters["max_tokens"] == given


async def test_a_tenant_whose_language_is_unknown_is_found_when_it_is_made() -> None:
    tenant = FakeTenant()
    tenant.configure(language="tlh")
    with pytest.raises(ConfigurationError):
        AnswerQuestion(tenant.services)
