"""What happens to a question before the first event."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from assistant.answering.asking import AnswerRequest
from assistant.domain.answers import FinishReason
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
from assistant.domain.retrieval import SearchFilters
from tests.contracts import samples
from tests.fakes.answering import FakeEmbedder, FakeTenant, agent, passage
from tests.unit.answering.asking_and_reading import QUESTION, ask, prepare


@pytest.mark.parametrize("question", ["", "   \n", "x" * 4001])
def test_a_question_has_1_to_4000_characters(question: str) -> None:
    with pytest.raises(ValidationError):
        AnswerRequest(question=question)


def test_white_space_around_a_question_does_not_count() -> None:
    assert AnswerRequest(question=" " + "x" * 4000 + "\n").question == "x" * 4000


@pytest.mark.parametrize("field", ["tenant", "labels"])
def test_unknown_fields_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="extra_forbidden"):
        AnswerRequest.model_validate({"question": "Why?", field: 1})


@pytest.mark.parametrize("seconds", [-1, 31])
def test_a_window_to_come_back_has_30_seconds_at_most(seconds: int) -> None:
    with pytest.raises(ValidationError):
        AnswerRequest(question="Why?", resume_window_s=seconds)


async def test_the_question_is_embedded_and_searched_for() -> None:
    tenant = FakeTenant()
    await prepare(tenant)
    assert tenant.embedder.texts == [[QUESTION]]
    [query] = tenant.search.queries
    assert (query.text, query.vector, query.size, query.leg_size) == (QUESTION, [1.0, 0.0], 5, 100)


async def test_labels_come_from_the_token_and_filters_from_the_request() -> None:
    tenant = FakeTenant()
    identity = agent(labels=frozenset({"controlled"}))
    await prepare(tenant, identity=identity, filters={"source": ["procedures"]})
    [query] = tenant.search.queries
    assert query.labels == {"controlled"}
    assert query.filters == SearchFilters(source=("procedures",))


async def test_a_passage_with_labels_is_hidden_from_others() -> None:
    tenant = FakeTenant().with_passages(passage(labels=("controlled",)))
    assert (await ask(tenant)).done.finish_reason is FinishReason.NO_EVIDENCE
    seen = await ask(tenant, identity=agent(labels=frozenset({"controlled"})))
    assert len(seen.sources.sources) == 1


async def test_the_glossary_is_joined_to_what_is_retrieved_and_to_nothing_else() -> None:
    tenant = FakeTenant()
    tenant.configure(glossary={"payable": "covered"})
    _, prepared = await prepare(tenant)
    assert tenant.embedder.texts == [[f"{QUESTION}\ncovered"]]
    assert tenant.search.queries[0].text == f"{QUESTION}\ncovered"
    assert prepared.retrieval_question == QUESTION
    assert prepared.prompt is not None
    assert "covered" not in prepared.prompt.messages[-1].content


async def test_a_question_over_the_embedding_limit_is_embedded_in_pieces() -> None:
    tenant = FakeTenant()
    tenant.embedder.too_long_words = 4
    words = "one two three four five six seven eight nine ten"
    await prepare(tenant, words)
    pieces = tenant.embedder.texts[-1]
    assert " ".join(pieces) == words
    assert all(len(piece.split()) <= 4 for piece in pieces)
    assert math.isclose(math.hypot(*tenant.search.queries[0].vector), 1.0)


async def test_a_question_of_one_endless_word_is_embedded_in_pieces_or_refused() -> None:
    tenant = FakeTenant()
    tenant.embedder.too_long_words = 0
    with pytest.raises(AssistantError) as raised:
        await prepare(tenant, "x" * 4000)
    assert raised.value.code == "passage_too_long"


async def test_a_new_conversation_is_begun_without_an_id() -> None:
    tenant = FakeTenant()
    _, prepared = await prepare(tenant)
    assert (prepared.answer_id, prepared.conversation_id) == ("id-1", "id-2")
    assert tenant.records.reads == 0


async def test_a_follow_up_is_retrieved_with_the_previous_question_joined_on() -> None:
    tenant = FakeTenant()
    first = await ask(tenant)
    second = await ask(tenant, "And by mail?", conversation_id=first.prepared.conversation_id)
    assert tenant.search.queries[-1].text == f"{QUESTION}\nAnd by mail?"
    assert second.record.retrieval_question == f"{QUESTION}\nAnd by mail?"
    assert second.record.question == "And by mail?"
    assert second.started.conversation_id == first.started.conversation_id


async def test_only_the_question_before_is_joined_on() -> None:
    tenant = FakeTenant()
    conversation_id = (await ask(tenant, "First about refills?")).prepared.conversation_id
    await ask(tenant, "Second about refills?", conversation_id=conversation_id)
    third = await ask(tenant, "Third about refills?", conversation_id=conversation_id)
    assert third.record.retrieval_question == "Second about refills?\nThird about refills?"


async def test_the_turns_before_go_into_the_prompt() -> None:
    tenant = FakeTenant()
    first = await ask(tenant)
    second = await ask(tenant, "And by mail?", conversation_id=first.prepared.conversation_id)
    assert second.prepared.prompt is not None
    contents = [message.content for message in second.prepared.prompt.messages]
    assert contents[1:3] == [QUESTION, first.text]
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


async def test_the_agent_s_own_conversation_is_found() -> None:
    tenant = FakeTenant()
    await tenant.records.put_answer(samples.answer(conversation_id="c1"))
    _, prepared = await prepare(tenant, identity=agent("ana"), conversation_id="c1")
    assert prepared.conversation_id == "c1"


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


async def test_the_index_s_error_goes_through() -> None:
    tenant = FakeTenant()
    tenant.search.error = SearchUnavailableError("down")
    with pytest.raises(SearchUnavailableError):
        await prepare(tenant)


async def test_a_store_that_is_down_stops_a_follow_up_only() -> None:
    tenant = FakeTenant()
    tenant.records.error = RecordsUnavailableError("down")
    with pytest.raises(RecordsUnavailableError):
        await prepare(tenant, conversation_id="c1")
    await prepare(tenant)


async def test_a_question_over_the_context_is_too_large() -> None:
    tenant = FakeTenant()
    tenant.configure(generation={"context_tokens": 300, "max_tokens": 100})
    with pytest.raises(TooLargeError):
        await prepare(tenant, "refill payable day " * 100)


async def test_no_room_for_a_passage_leaves_the_sources() -> None:
    tenant = FakeTenant().with_passages(passage(text="refills payable " * 200))
    tenant.configure(generation={"context_tokens": 300, "max_tokens": 100})
    asked = await ask(tenant)
    assert (asked.done.finish_reason, asked.done.reason) == (
        FinishReason.SOURCES_ONLY,
        "no_room_for_passages",
    )
    assert tenant.generator.requests == []


@pytest.mark.parametrize(("asked_for", "given"), [(None, 256), (20, 20), (5000, 256)])
async def test_max_tokens_is_bounded_by_the_tenant_s(asked_for: int | None, given: int) -> None:
    tenant = FakeTenant()
    asked = await ask(tenant, max_tokens=asked_for)
    assert tenant.generator.requests[0].max_tokens == given
    assert asked.record.parameters["max_tokens"] == given


@pytest.mark.parametrize("section", [{"language": "tlh"}, {"prompt": {"answer": "answer/999"}}])
async def test_a_tenant_that_cannot_be_served_is_found_when_it_is_made(section: dict[str, object]) -> None:
    tenant = FakeTenant()
    tenant.configure(**section)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigurationError):
        await prepare(tenant)
