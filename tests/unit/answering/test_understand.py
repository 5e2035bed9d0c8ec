"""Reading a message: what is asked, two questions in one, what leans on the turn before, spelling."""

from __future__ import annotations

import time

import pytest

from assistant.answering.understand import (
    LONG_MESSAGE_WORDS,
    MOST_CORRECTIONS,
    MOST_SENTENCES_KEPT,
    Vocabulary,
    corrections,
    cut_to_question,
    leans_on_history,
    split_double,
    understand,
)
from assistant.domain.answers import Correction
from assistant.domain.documents import KnownWords
from assistant.text.language import language, split_sentences

VOCABULARY = Vocabulary(language("en"), glossary={"scrip": "prescription"})
KNOWN = KnownWords(
    words={
        "formulary": 9,
        "prescriber": 30,
        "adjudication": 4,
        "metformin": 6,
        "lisinopril": 5,
        "refill": 40,
        "copayment": 7,
        "deductible": 8,
    },
    abbreviations={"pa": "prior authorization"},
)
CHAT = (
    "Hello, hope you are well today. My name is Jo and I have been a member for many years with my husband. "
    "We were on holiday in June and it rained all of the time, which was a pity. "
    "My copayment for the inhaler doubled last week. "
    "Can you tell me how long the formulary exception takes? "
    "I always liked the people there. My son says so as well, and he is right. "
    "Thank you so much for all of your help, kind regards, have a lovely evening."
)


def read_as(question: str, known: KnownWords = KNOWN) -> dict[str, str]:
    return {one.said: one.read_as for one in corrections(question, vocabulary=VOCABULARY, known=known)}


# A long message


def test_a_short_message_is_searched_whole() -> None:
    short = "Hello. " + "word " * (LONG_MESSAGE_WORDS - 3) + "why?"
    assert cut_to_question(short, vocabulary=VOCABULARY) == short


def test_of_a_long_message_the_question_and_what_tells_most_are_kept_in_order() -> None:
    kept = cut_to_question(CHAT, vocabulary=VOCABULARY)
    assert "Can you tell me how long the formulary exception takes?" in kept
    assert "My copayment for the inhaler doubled last week." in kept
    assert kept.index("copayment") < kept.index("formulary")
    assert len(split_sentences(kept)) <= MOST_SENTENCES_KEPT + 1
    assert "My name is Jo" not in kept


def test_a_long_message_without_a_question_keeps_the_sentence_that_says_most() -> None:
    message = (
        "We came. " * 20 + "Adjudication of semaglutide formulary exceptions stalled. " + "We left. " * 8
    )
    kept = cut_to_question(message, vocabulary=VOCABULARY)
    assert "Adjudication of semaglutide formulary exceptions stalled." in kept
    assert len(kept.split()) < LONG_MESSAGE_WORDS


def test_a_long_message_of_one_sentence_stays_whole() -> None:
    message = "refill " * 200
    assert cut_to_question(message, vocabulary=VOCABULARY) == message.strip()


@pytest.mark.parametrize(
    "message",
    [
        "refill claim " * 307,
        "x" * 4000,
        "?" * 4000,
        "and " * 1000,
        "Is it? " * 571,
        "\n" * 3999 + "x",
        ". " * 2000,
    ],
)
def test_a_message_of_4_000_characters_is_read_in_no_time(message: str) -> None:
    begun_s = time.process_time()
    understood = understand(message[:4000], vocabulary=VOCABULARY, known=KNOWN)
    assert time.process_time() - begun_s < 0.5
    assert understood.parts
    assert all(part.strip() for part in understood.parts)


# Two questions in one


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (
            "How long does a refill take? Who signs the transfer form?",
            ("How long does a refill take?", "Who signs the transfer form?"),
        ),
        (
            "How long does a refill take, and who signs the transfer form?",
            ("How long does a refill take", "who signs the transfer form?"),
        ),
        (
            "What is the copay for insulin? Also can the spouse collect the parcel?",
            ("What is the copay for insulin?", "Also can the spouse collect the parcel?"),
        ),
        (
            "What share of refills is early, and how often a year may the parcel wait?",
            ("What share of refills is early", "how often a year may the parcel wait?"),
        ),
        (
            "Two things: the longest supply of insulin; could the spouse collect the parcel",
            ("Two things: the longest supply of insulin", "could the spouse collect the parcel"),
        ),
    ],
)
def test_a_double_question_is_split(message: str, parts: tuple[str, str]) -> None:
    assert split_double(message, vocabulary=VOCABULARY) == parts


@pytest.mark.parametrize(
    "message",
    [
        "How long does a refill take?",
        "Can the patient collect the refill and the parcel today?",
        "How long does a refill take, and why?",
        "Is it there? How long does a refill take?",
        "The refill was early and the claim was rejected.",
        "Thanks! Who signs?",
        "The refill was early; is the parcel late too?",
    ],
)
def test_one_question_stays_one(message: str) -> None:
    assert split_double(message, vocabulary=VOCABULARY) == (message,)


def test_a_message_has_two_parts_at_most() -> None:
    message = "Who signs refill forms? Who signs transfer forms? Who signs parcel forms?"
    assert split_double(message, vocabulary=VOCABULARY) == (
        "Who signs refill forms?",
        "Who signs transfer forms? Who signs parcel forms?",
    )


# Leaning on the question before


@pytest.mark.parametrize(
    "question",
    [
        "And by mail?",
        "What about insulin?",
        "Does it need a form?",
        "How long?",
        "Is that for adults?",
        "ok but why",
    ],
)
def test_a_question_with_a_pronoun_or_an_ellipsis_leans_on_the_one_before(question: str) -> None:
    assert leans_on_history(question, vocabulary=VOCABULARY)


@pytest.mark.parametrize(
    "question",
    [
        "How long does a transfer to another pharmacy take?",
        "Which desk signs the transfer form?",
        "Refill limits",
        "Can a member who moved abroad ask the mail pharmacy to send it to their new insurer?",
    ],
)
def test_a_question_that_says_enough_does_not(question: str) -> None:
    assert not leans_on_history(question, vocabulary=VOCABULARY)


# Spelling


def test_another_form_of_a_word_of_the_documents_is_no_misspelling() -> None:
    known = KnownWords(words={"recommended": 3}, abbreviations={})
    assert read_as("What do you recommend?", known) == {}


def test_an_unknown_word_is_also_read_as_the_nearest_of_the_documents() -> None:
    assert read_as("Is it on the formularly?") == {"formularly": "formulary"}


def test_a_correction_adds_to_what_is_searched_and_replaces_nothing() -> None:
    question = "Is it on the formularly?"
    found = corrections(question, vocabulary=VOCABULARY, known=KNOWN)
    assert VOCABULARY.expand(question, corrections=found) == f"{question}\nformulary"
    [term] = VOCABULARY.terms(question, corrections=found)
    assert term.word == "formularly"
    assert term.forms == {"formular", "formulari"} | language("en").content_stems("formularly formulary")


def test_understanding_without_known_words_corrects_nothing() -> None:
    assert understand("Is it on the formularly?", vocabulary=VOCABULARY, known=None).corrections == ()


@pytest.mark.parametrize("question", ["metfornin dose", "lisinoprill dose", "lisinapril dose"])
def test_nothing_is_read_as_a_medicine(question: str) -> None:
    assert read_as(question) == {}


@pytest.mark.parametrize("question", ["A1b2c form", "1234567 refills", "12345", "90 tabletz5", "x12345y"])
def test_a_number_or_a_code_is_never_read_as_anything(question: str) -> None:
    known = KnownWords(
        words={"abc": 1, "tablets": 3, "x12345z": 2, "12346": 2, "1234568": 1}, abbreviations={}
    )
    assert read_as(question, known) == {}


@pytest.mark.parametrize(
    "question", ["Is the refund due?", "scrip for scripz", "prescribers", "refil", "cat"]
)
def test_common_known_and_short_words_are_left_alone(question: str) -> None:
    known = KnownWords(words={"refuse": 3, "prescriber": 3, "script": 2, "cats": 1}, abbreviations={})
    assert not set(read_as(question, known)) & {"refund", "scrip", "prescribers", "cat"}


def test_a_word_between_two_others_is_not_guessed() -> None:
    known = KnownWords(words={"tolinase": 3, "tolinade": 3}, abbreviations={})
    assert read_as("tolinabe", known) == {}


def test_the_first_letter_is_right() -> None:
    assert read_as("pormulary") == {}


def test_a_long_word_may_differ_in_two_letters_and_a_short_one_in_one() -> None:
    assert read_as("ajudicaton of the claim") == {"ajudicaton": "adjudication"}
    assert read_as("fefil") == {}


def test_corrections_are_few() -> None:
    words = {f"zzyzx{letter}formulary": 1 for letter in "abcdefgh"}
    question = " ".join(word.replace("formulary", "formularry") for word in words)
    found = corrections(question, vocabulary=VOCABULARY, known=KnownWords(words=words, abbreviations={}))
    assert len(found) == MOST_CORRECTIONS
    assert found[0] == Correction(said="zzyzxaformularry", read_as="zzyzxaformulary")


def test_a_message_of_unknown_words_among_many_known_ones_is_read_in_no_time() -> None:
    """Each look-up goes through all of the tenant's words."""
    known = KnownWords(
        words={f"{number:x}".translate(_DIGITS) * 2: 1 for number in range(60_000)}, abbreviations={}
    )
    message = " ".join(f"qw{number:x}".translate(_DIGITS) + "vbnm" for number in range(400))[:4000]
    begun_s = time.process_time()
    corrections(message, vocabulary=VOCABULARY, known=known)
    assert time.process_time() - begun_s < 0.5


_DIGITS = str.maketrans("0123456789", "ghijklmnop")


# Unusual messages


@pytest.mark.parametrize(
    "question",
    [
        "¿Cuándo puedo surtir mi receta otra vez?",
        "Quand puis-je renouveler mon ordonnance ?",
        "\u4ec0\u4e48\u65f6\u5019\u53ef\u4ee5\u7eed\u836f\uff1f",
        "متى يمكنني إعادة تعبئة الوصفة؟",
    ],
)
def test_another_language_is_one_question_without_corrections(question: str) -> None:
    understood = understand(question, vocabulary=VOCABULARY, known=KNOWN)
    assert (understood.parts, understood.corrections) == ((question,), ())


@pytest.mark.parametrize("question", ["What is it then?", "And?", "?", "why", "\U0001f600"])
def test_a_question_of_stop_words_alone_is_read_as_it_is(question: str) -> None:
    assert understand(question, vocabulary=VOCABULARY, known=KNOWN).parts == (question,)
    assert VOCABULARY.terms(question) == ()
