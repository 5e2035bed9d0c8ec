"""What a message asks, and whether its first question leans on the one before it; without a model."""

from __future__ import annotations

import time

import pytest

from assistant.answer.heads import Heads, shipped_reading_weights
from assistant.answer.message import questions_of
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


def test_only_vectors_of_the_head_s_own_model_are_weighed() -> None:
    weights = shipped_reading_weights()
    enough = "How long does a transfer to another pharmacy take?"
    far = {enough: [100.0 * weight for weight in weights.leans.vector]}
    known = heads(embedding_model=weights.embedding_model)
    assert known.leans(enough, far)
    assert not known.leans(enough, {})
    assert not heads().leans(enough, far)


def test_the_reading_of_a_record_from_before_opens_whoever_made_it() -> None:
    kept = Reading(questions=(REFILL,)).model_dump(mode="json")
    before = {"made_by": "model", "search_text": REFILL, "kind": "rule", "ids": ["79"]}
    assert Reading.model_validate(kept | before).made_by == "model"
