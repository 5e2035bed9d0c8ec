"""What a message asks, and whether its first question leans on the one before it; without a model."""

from __future__ import annotations

import time

import pytest

from assistant.answer.heads import Heads, shipped_chat_weights, shipped_reading_weights
from assistant.answer.message import Message, ids_in, questions_of
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import Reading
from assistant.text.language import language

VOCABULARY = Vocabulary(language("en"), glossary={"scrip": "prescription"})
CHAT = (
    "Hello, hope you are well today. My name is Jo and I have been a member for many years with my husband. "
    "We were on holiday in June and it rained all of the time, which was a pity. "
    "My copayment for the inhaler doubled last week. "
    "Can you tell me how long the formulary exception takes? "
    "I always liked the people there. My son says so as well, and he is right. "
    "Thank you so much for all of your help, kind regards, have a lovely evening."
)


def read(message: str) -> tuple[str, ...]:
    return questions_of(message, vocabulary=VOCABULARY)


# A long message


def test_of_a_long_message_the_question_and_the_most_specific_sentences_are_kept_in_order() -> None:
    [kept] = read(CHAT)
    assert "Can you tell me how long the formulary exception takes?" in kept
    assert kept.index("copayment") < kept.index("formulary")
    assert "My name is Jo" not in kept
    assert len(kept.split()) < len(CHAT.split())


@pytest.mark.parametrize(
    "message",
    ["refill claim " * 307, "x" * 4000, "?" * 4000, "Is it? " * 571, "\n" * 3999 + "x", ". " * 2000],
)
def test_a_message_of_4_000_characters_is_read_in_no_time(message: str) -> None:
    begun_s = time.process_time()
    questions = read(message[:4000])
    assert time.process_time() - begun_s < 0.5
    assert questions
    assert all(question.strip() for question in questions)


# Several questions


REFILL, FORM = "How long does a refill take?", "Who signs the transfer form?"


@pytest.mark.parametrize(
    ("message", "questions"),
    [
        (f"{REFILL} {FORM}", (REFILL, FORM)),
        (f"{REFILL} She asked twice. {FORM}", (REFILL, f"She asked twice. {FORM}")),
        (f"{REFILL} {FORM} Thank you.", (REFILL, f"{FORM} Thank you.")),
    ],
)
def test_a_sentence_belongs_to_the_first_question_mark_after_it(
    message: str, questions: tuple[str, ...]
) -> None:
    assert read(message) == questions


@pytest.mark.parametrize(
    "message",
    [
        REFILL,
        "How long does a refill take, and who signs the transfer form?",
        f"Is it there? {REFILL}",
        "?",
        "\U0001f600",
    ],
)
def test_one_question_stays_one_in_the_agent_s_words(message: str) -> None:
    assert read(message) == (message,)


# The trained head


def heads(*, embedding_model: str = "another-model") -> Heads:
    return Heads(VOCABULARY, embedding_model=embedding_model)


@pytest.mark.parametrize(
    "question", ["And by mail?", "What about insulin?", "Does it need a form?", "How long?", "ok but why"]
)
def test_a_question_that_says_little_leans_on_the_one_before(question: str) -> None:
    assert heads().leans(question, {})


@pytest.mark.parametrize(
    "question",
    [
        "How long does a transfer to another pharmacy take?",
    ],
)
def test_a_question_that_says_enough_does_not(question: str) -> None:
    assert not heads().leans(question, {})


def test_only_vectors_of_the_head_s_own_model_are_weighed() -> None:
    weights = shipped_reading_weights()
    enough = "How long does a transfer to another pharmacy take?"
    far = {enough: [100.0 * weight for weight in weights.leans.vector]}
    assert heads(embedding_model=weights.embedding_model).leans(enough, far)
    assert not heads().leans(enough, far)


def test_the_kind_is_that_with_the_highest_score_and_rule_without_known_vectors() -> None:
    weights = shipped_reading_weights()
    known = heads(embedding_model=weights.embedding_model)
    for kind, head in weights.kinds.items():
        vectors = {REFILL: [100.0 * weight for weight in head.vector]}
        assert known.kind(REFILL, vectors) == kind
        assert heads().kind(REFILL, vectors) == "rule"
    assert known.kind(REFILL, {}) == "rule"


def test_a_message_that_goes_on_with_several_things_leans_on_what_names_them() -> None:
    weights = shipped_chat_weights()
    cheaper = "And which one is cheaper?"
    message = Message.after(["How is Restin taken?", "What of Zarlex?"], cheaper, vocabulary=VOCABULARY)
    known = heads(embedding_model=weights.embedding_model)
    several = {cheaper: [100.0 * weight for weight in weights.several.vector]}
    assert known.judge(message, several).earlier == ("How is Restin taken\nWhat of Zarlex",)
    assert heads().judge(message, several).earlier == ("What of Zarlex?",)


def test_of_a_long_question_before_its_questions_are_kept() -> None:
    [kept] = read(CHAT)
    assert Message.after([CHAT], "And by mail?", vocabulary=VOCABULARY).before == kept


def test_ids_are_words_with_a_digit_each_once() -> None:
    assert ids_in("Where is A5 of order 4711-2, not the A5 of Jo?") == ("A5", "4711-2")


def test_the_reading_of_a_record_from_before_opens_whoever_made_it() -> None:
    kept = Reading(questions=(REFILL,), search_text=REFILL, leans=False).model_dump(mode="json")
    assert Reading.model_validate(kept | {"made_by": "model"}).made_by == "model"
