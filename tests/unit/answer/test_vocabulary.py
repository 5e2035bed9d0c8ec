"""The words of a question, what the tenant's documents call them, and how these are kept fresh."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from assistant.answer.vocabulary import FRESH_FOR_S, KnownWordsReader, Vocabulary
from assistant.domain.documents import KnownWords, SourceIds
from assistant.domain.errors import SearchUnavailableError
from assistant.text.language import language
from tests.stage.answering import FakeSearch, FakeTenant, Gate, document
from tests.stage.tenant_stores import SteppedClock
from tests.unit.answer.asking_and_reading import ask

GLOSSARY = {
    "throwing": "casting",
    "throwing up": "vomiting",
    "up": "upward",
    "E-Script": "electronic prescription",
}


def vocabulary(**glossary: str) -> Vocabulary:
    return Vocabulary(language("en"), glossary=glossary or GLOSSARY)


def test_the_longest_entry_wins_and_each_is_joined_once() -> None:
    assert vocabulary().expand("throwing up, throwing up") == "throwing up, throwing up\nvomiting"


def test_case_does_not_matter_and_whole_words_do() -> None:
    assert vocabulary().expand("My e-script") == "My e-script\nelectronic prescription"
    assert vocabulary().expand("my e-scripts") == "my e-scripts"
    assert vocabulary().expand("supper") == "supper"


def test_a_glossary_that_loops_is_read_once() -> None:
    looping = vocabulary(script="prescription", prescription="script")
    assert looping.expand("Is the script there?") == "Is the script there?\nprescription"
    assert looping.expand("script, prescription") == "script, prescription\nprescription script"
    assert [term.forms for term in looping.terms("script")] == [{"script", "prescript"}]


KNOWN = KnownWords(abbreviations={"dur": "drug utilization review", "it": "intrathecal therapy"})


def test_the_long_form_of_an_abbreviation_is_joined_on_and_is_a_form_of_the_term() -> None:
    question = "Is the DUR done?"
    assert vocabulary().expand(question, known=KNOWN) == f"{question}\ndrug utilization review"
    assert vocabulary().expand(question) == question
    [term] = vocabulary().terms(question, known=KNOWN)
    assert term.forms == {"dur", "drug", "util", "review"}


def test_an_abbreviation_that_is_a_common_word_is_none() -> None:
    assert vocabulary().expand("Is it IT?", known=KNOWN) == "Is it IT?"


@pytest.mark.parametrize(
    ("light", "heavy"), [("68", "soap"), ("90mg", "soap"), ("semaglutide", "340B"), ("house", "semaglutide")]
)
def test_rare_words_and_codes_weigh_more_than_common_words_and_the_caller_s_numbers(
    light: str, heavy: str
) -> None:
    one, other = vocabulary().terms(f"{light} {heavy}")
    assert one.weight < other.weight


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
    monkeypatch.setattr("assistant.answer.vocabulary.FIRST_WAIT_S", 0.01)
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
