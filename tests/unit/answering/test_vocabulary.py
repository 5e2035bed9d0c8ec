"""The words of a question, and what the tenant's documents call them."""

from __future__ import annotations

import pytest

from assistant.answering.language import fold, language
from assistant.answering.vocabulary import Vocabulary
from assistant.domain.errors import ConfigurationError

GLOSSARY = {
    "throwing": "casting",
    "throwing up": "vomiting",
    "up": "upward",
    "E-Script": "electronic prescription",
}


def vocabulary(**glossary: str) -> Vocabulary:
    return Vocabulary(language("en"), glossary=glossary or GLOSSARY)


def test_what_the_documents_say_is_joined_on() -> None:
    assert vocabulary().expand("He is throwing up.") == "He is throwing up.\nvomiting"


def test_the_longest_entry_wins_and_each_is_joined_once() -> None:
    assert vocabulary().expand("throwing up, throwing up") == "throwing up, throwing up\nvomiting"


def test_case_does_not_matter_and_whole_words_do() -> None:
    assert vocabulary().expand("My e-script") == "My e-script\nelectronic prescription"
    assert vocabulary().expand("my e-scripts") == "my e-scripts"
    assert vocabulary().expand("supper") == "supper"


def test_a_question_without_entries_stays_as_it_is() -> None:
    assert vocabulary().expand("Which form?") == "Which form?"
    assert Vocabulary(language("en"), glossary={}).expand("Which form?") == "Which form?"


def test_an_entry_is_one_term_with_both_sides_as_forms() -> None:
    [term] = vocabulary().terms("throwing up")
    assert term.word == "throwing up"
    assert term.forms == {"throw", "vomit"}


def test_a_term_stands_once() -> None:
    assert [term.word for term in vocabulary().terms("Forms, forms and FORMS")] == ["forms"]


@pytest.mark.parametrize(
    ("question", "codes"),
    [
        ("reject 79", ("79",)),
        ("What is code A5?", ("a5",)),
        ("rejection code 075", ("75",)),
        ("error 12 and code 7", ("12", "7")),
        ("it was rejected 3 times", ()),
        ("day 23", ()),
    ],
)
def test_codes_are_those_that_the_question_calls_so(question: str, codes: tuple[str, ...]) -> None:
    assert vocabulary().named_codes(question) == codes


def test_typographic_apostrophes_and_wide_forms_are_folded() -> None:
    assert fold("Can\u2019t \uff21\uff11") == "can't a1"


def test_a_possessive_is_its_noun() -> None:
    assert list(language("en").content_words("the insurer's form")) == ["insurer", "form"]


def test_a_commonplace_says_less_than_a_rare_word() -> None:
    words = language("en")
    assert words.rarity("house") < words.rarity("soap") < words.rarity("semaglutide") == 1.0


def test_an_unknown_language_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match='language = "tlh"'):
        language("tlh")
