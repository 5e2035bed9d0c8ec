"""The words of a question, and what the tenant's documents call them."""

from __future__ import annotations

import pytest

from assistant.answer.vocabulary import Vocabulary
from assistant.domain.documents import KnownWords
from assistant.text.language import language

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


def test_an_entry_is_one_term_with_both_sides_as_forms() -> None:
    [term] = vocabulary().terms("throwing up")
    assert term.forms == {"throw", "vomit"}


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
