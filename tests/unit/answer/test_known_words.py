"""The tenant's words, kept fresh beside the questions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from assistant.answer import vocabulary
from assistant.answer.vocabulary import FRESH_FOR_S, KnownWordsReader
from assistant.domain.documents import KnownWords, SourceIds
from assistant.domain.errors import SearchUnavailableError
from tests.fakes.answering import FakeSearch, FakeTenant, Gate, document
from tests.fakes.clock import SteppedClock
from tests.unit.answer.asking_and_reading import ask


class Search(FakeSearch):
    """Counts the readings; ``gate`` makes one wait."""

    def __init__(self) -> None:
        super().__init__([document(content="Prior authorization (PA) is needed.")])
        self.readings = 0
        self.gate: Gate | None = None

    async def known_words(self, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
        self.readings += 1
        if self.gate is not None:
            self.gate.reached.set()
            await self.gate.opened.wait()
        return await super().known_words(items_of=items_of)


@pytest.fixture
def search() -> Search:
    return Search()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def reader(search: Search, clock: SteppedClock) -> KnownWordsReader:
    return KnownWordsReader(search, clock=clock)


async def settle() -> None:
    """Let the tasks that are ready run to their end."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_question_after_that_does_not_wait_for_the_new_words(
    reader: KnownWordsReader, search: Search, clock: SteppedClock
) -> None:
    before = await reader.read()
    assert before is not None
    assert before.abbreviations == {"pa": "prior authorization"}
    clock.step(FRESH_FOR_S - 1)
    await reader.read()
    assert search.readings == 1
    search.documents = [document(content="Deductible.")]
    search.gate = Gate()
    clock.step(1)
    assert await reader.read() is before
    await asyncio.wait_for(search.gate.reached.wait(), 60)
    assert await reader.read() is before
    assert search.readings == 2
    search.gate.opened.set()
    await settle()
    after = await reader.read()
    assert after is not None
    assert after is not before
    assert search.readings == 2


async def test_the_first_questions_wait_a_moment_for_one_reading(
    reader: KnownWordsReader, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "FIRST_WAIT_S", 0.01)
    search.gate = Gate()
    assert await asyncio.gather(reader.read(), reader.read()) == [None, None]
    assert search.readings == 1
    search.gate.opened.set()
    await settle()
    assert await reader.read() is not None


async def test_an_index_that_fails_gives_no_words_and_is_asked_again_later(
    reader: KnownWordsReader, search: Search, clock: SteppedClock
) -> None:
    search.words_error = SearchUnavailableError("down")
    assert await reader.read() is None
    assert await reader.read() is None
    assert search.readings == 1
    search.words_error = None
    clock.step(60)
    assert await reader.read() is not None


async def test_while_the_index_fails_the_last_words_are_given(
    reader: KnownWordsReader, search: Search, clock: SteppedClock
) -> None:
    before = await reader.read()
    search.words_error = SearchUnavailableError("down")
    clock.step(FRESH_FOR_S)
    assert await reader.read() is before
    await settle()
    assert await reader.read() is before
    assert search.readings == 2


async def test_a_question_is_searched_with_the_words_that_were_read() -> None:
    tenant = FakeTenant().with_documents(
        document(
            content="The formulary lists drug utilization review (DUR) of retail refills.", title="Lists"
        )
    )
    question = "Is a DUR of retail refills on the formulary?"
    asked = await ask(tenant, question)
    assert tenant.search.queries[0].text == f"{question}\ndrug utilization review"
    assert asked.record.question == question


async def test_an_answer_without_the_words_says_that_it_is_degraded() -> None:
    tenant = FakeTenant()
    tenant.search.words_error = SearchUnavailableError("down")
    assert (await ask(tenant)).done.degraded == ("words of the documents",)
