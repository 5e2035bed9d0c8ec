"""What happens to a question before the first event, and what one of 4,000 characters costs: by counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from assistant.answer.find import DOCUMENTS_READ
from assistant.domain.answers import MAX_QUESTION_CHARACTERS, FinishReason, Mode
from assistant.domain.documents import SearchFilters, StoredDocument
from assistant.domain.errors import (
    DeadlineExceededError,
    DependencyError,
    EmbeddingUnavailableError,
    NotFoundError,
    PassageTooLongError,
    RecordsUnavailableError,
    SearchUnavailableError,
)
from tests.contracts import samples
from tests.stage.answering import WRITING_MODEL, FakeEmbedder, FakeTenant, agent, document
from tests.unit.answer.asking_and_reading import QUESTION, ask, prepare


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
    ("step", "expected"), [("embedding", EmbeddingUnavailableError), ("search", SearchUnavailableError)]
)
async def test_a_step_that_hangs_ends_at_its_own_limit_and_at_the_answer_s_deadline(
    step: str, expected: type[DependencyError]
) -> None:
    tenant = FakeTenant()
    (tenant.embedder if step == "embedding" else tenant.search).hangs = True
    with pytest.raises(DeadlineExceededError):
        await prepare(tenant, seconds=0.01)
    tenant.configure(limits={f"{step}_timeout_s": 0.01})
    with pytest.raises(expected, match=r"0\.01 s"):
        await prepare(tenant)


async def test_a_deadline_that_has_passed_calls_nothing() -> None:
    tenant = FakeTenant()
    with pytest.raises(DeadlineExceededError):
        await prepare(tenant, seconds=0.0)
    assert tenant.embedder.texts == []


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


ORDINARY = (
    "Hello, this is Jo. My parcel 7 came late by mail last week, and the claims desk could not tell me more. "
    "On which day are retail refills of parcel 7 payable, and where do I send the other requests?"
)
"""As long as a message can be that is searched whole: 39 words."""
MODEL_WORDS = 128
"""What the embedding model takes at once: less than a long question has."""


def filled(text: Callable[[int], str], *, characters: int = MAX_QUESTION_CHARACTERS) -> str:
    """Return as many of the texts as fit, one after another."""
    parts = [text(number) for number in range(characters)]
    return " ".join(parts)[:characters].strip()


LONG = {
    "sentences": filled(lambda n: f"The refill of parcel {n} was late and the claims desk spoke of day {n}."),
    "questions": filled(lambda n: f"On which day {n} are retail refills of parcel {n} payable?"),
    "one sentence": filled(lambda n: f"refill{n} parcel{n}"),
    "two words": filled(lambda _: "refill claim"),
    "three questions": filled(lambda n: f"refill parcel{n}{'?' if n % 90 == 89 else ''}"),
    "one word": "x" * MAX_QUESTION_CHARACTERS,
    "numbers": filled(lambda _: "12"),
    "lines": filled(lambda n: f"parcel {n}\n-"),
    "without spaces": "\u6c34\u706b" * (MAX_QUESTION_CHARACTERS // 2),
}


@dataclass(frozen=True, slots=True)
class Cost:
    embedding_calls: int
    embedded_texts: int
    embedded_characters: int
    searches: int
    searched_words: int
    searched_characters: int
    documents_read: int
    generations: int
    prompt_tokens: int


def parcel(number: int) -> StoredDocument:
    text = " ".join(f"Parcel {number} of kind {kind} is refilled on day {kind}." for kind in range(12))
    return document(f"parcel-{number}", text, title=f"Parcel {number}")


def made(*, writes: bool) -> FakeTenant:
    tenant = FakeTenant.writing() if writes else FakeTenant()
    tenant = tenant.with_documents(*map(parcel, range(20)), document())
    tenant.configure(generation={"context_tokens": 4096, "reads": False})
    tenant.embedder.too_long_words = MODEL_WORDS
    return tenant


async def cost_of(question: str, tenant: FakeTenant, *, conversation_id: str | None = None) -> Cost:
    """Ask, and count what the answer called."""
    embedder, search, generator = tenant.embedder, tenant.search, tenant.generator
    done = len(embedder.texts), len(search.queries), len(search.read), len(generator.requests)
    await ask(tenant, question, conversation_id=conversation_id)
    calls, queries = embedder.texts[done[0] :], search.queries[done[1] :]
    taken = [texts for texts in calls if all(len(text.split()) <= MODEL_WORDS for text in texts)]
    requests = generator.requests[done[3] :]
    return Cost(
        embedding_calls=len(calls),
        embedded_texts=sum(map(len, taken)),
        embedded_characters=sum(len(text) for texts in taken for text in texts),
        searches=len(queries),
        searched_words=sum(len(query.text.split()) for query in queries),
        searched_characters=sum(len(query.text) for query in queries),
        documents_read=sum(map(len, search.read[done[2] :])),
        generations=len(requests),
        prompt_tokens=sum(len(message.content.split()) for one in requests for message in one.messages),
    )


def over(cost: Cost, ordinary: Cost) -> dict[str, tuple[int, int]]:
    """Return what is more than four times as much."""
    pairs = ((name, value, getattr(ordinary, name)) for name, value in asdict(cost).items())
    return {name: (value, usual) for name, value, usual in pairs if value > 4 * usual}


@pytest.mark.parametrize("question", LONG.values(), ids=LONG)
@pytest.mark.parametrize("writes", [False, True], ids=["quoted", "written"])
async def test_a_question_of_4_000_characters_costs_at_most_four_ordinary_ones(
    question: str, writes: bool
) -> None:
    assert len(question) > MAX_QUESTION_CHARACTERS - 10
    ordinary = await cost_of(ORDINARY, made(writes=writes))
    assert over(await cost_of(question, made(writes=writes)), ordinary) == {}


async def test_a_text_that_no_cut_makes_short_enough_is_refused_after_a_few_calls() -> None:
    tenant = made(writes=False)
    tenant.embedder.too_long_words = 0
    with pytest.raises(PassageTooLongError):
        await ask(tenant, LONG["sentences"])
    assert len(tenant.embedder.texts) == 4
