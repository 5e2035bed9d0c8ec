"""A question of 4,000 characters costs at most four times an ordinary one: by counts of what is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest

from assistant.domain.answers import MAX_QUESTION_CHARACTERS
from assistant.domain.documents import StoredDocument
from assistant.domain.errors import PassageTooLongError
from tests.fakes.answering import FakeTenant, document
from tests.unit.answer.asking_and_reading import ask

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


@pytest.mark.parametrize("first", LONG.values(), ids=LONG)
async def test_a_question_after_one_of_4_000_characters_costs_at_most_four_ordinary_ones(first: str) -> None:
    async def follow_up(before: str) -> Cost:
        tenant = made(writes=True)
        asked = await ask(tenant, before)
        return await cost_of("And by mail?", tenant, conversation_id=asked.conversation_id)

    assert over(await follow_up(first), await follow_up(ORDINARY)) == {}


async def test_a_text_that_no_cut_makes_short_enough_is_refused_after_a_few_calls() -> None:
    tenant = made(writes=False)
    tenant.embedder.too_long_words = 0
    with pytest.raises(PassageTooLongError):
        await ask(tenant, LONG["sentences"])
    assert len(tenant.embedder.texts) == 4
