"""Reads the words of a message, before anything is known of them: its questions, its numbers.

Nothing below parses the message again. A reading may widen what is found, never what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from textwrap import wrap

from assistant.answer.vocabulary import Vocabulary
from assistant.domain.documents import KnownWords
from assistant.text.language import split_sentences

LONG_MESSAGE_WORDS = 45
"""A longer message is searched by its questions and its most specific sentences."""
_LONG_MESSAGE_CHARACTERS = 1_000
"""The same for text with few spaces."""
_MOST_WORDS = 4 * LONG_MESSAGE_WORDS
"""What is searched of a message, so that it costs no more than four that are just not long. Sentences of more
words are searched by runs of their words."""
_MOST_RUN_CHARACTERS = 240
"""About 45 words."""
MOST_QUESTIONS = 3
_SENTENCES_KEPT = 3
"""Of a long message; one more where so many ask."""
_LEAST_TERMS = 2
"""Content terms of a question; one with fewer belongs to the sentence before it."""
_CODE = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class PartQuery:
    """What is searched for one question of a message: one part of it."""

    question: str
    """In the asker's words."""
    vector: Sequence[float]
    """Unit length, of ``question``."""
    leans: bool = False
    """Whether it makes no sense without what was said before it: then it is searched for a model alone, and
    gets no section."""
    routed_text: str = ""
    """``question`` as the router of sources reads it, without names of items; empty: as it is."""
    routed_vector: Sequence[float] = ()
    """Unit length, of ``routed_text``; empty: ``vector``."""
    known: KnownWords | None = None
    """Words and items of the tenant's documents; None while they are not read."""
    is_searched: bool = True
    """False for a greeting or thanks, and where it leans and no model reads: nothing is searched."""
    at: datetime | None = None
    """When the question was written: days are counted from then."""
    max_words: int = 160
    """Words of the section that is quoted, at most: the tenant's, divided by the message's questions."""
    also_words: int = 80
    """The same for what is quoted below it: another part of its document, or a second document's section."""


def questions_of(text: str, *, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the questions of a message, at most MOST_QUESTIONS, in the agent's words; the whole message
    where it asks one.

    - A sentence belongs to the first question mark after it: "How long? She asked. Who signs it?" gives
      ("How long?", "She asked. Who signs it?").
    - A question of fewer than _LEAST_TERMS content terms goes on into the next sentences: "Is it there? How
      long does a refill take?" is one question.
    - What is after the last question mark belongs to the last question: "Who signs the form? Thank you."
    - Four questions are three: the last two are one text.
    - A long message is first reduced to some of its sentences (``_searched_of_long``).
    """
    sentences = [span.text for span in split_sentences(text)]
    if is_long(text):
        sentences = _searched_of_long(sentences, vocabulary)
    questions: list[str] = []
    begun: list[str] = []
    for sentence in sentences:
        begun.append(sentence)
        question = " ".join(begun)
        if sentence.rstrip().endswith("?") and len(vocabulary.terms(question)) >= _LEAST_TERMS:
            questions.append(question)
            begun = []
    if begun:
        questions[-1:] = [" ".join([*questions[-1:], *begun])]
    if len(questions) > MOST_QUESTIONS:
        questions = [*questions[: MOST_QUESTIONS - 1], " ".join(questions[MOST_QUESTIONS - 1 :])]
    if len(questions) > 1:
        return tuple(questions)
    return (" ".join(questions) or text,) if is_long(text) else (text,)


def is_long(text: str) -> bool:
    """Return whether a message is searched by parts of it."""
    return len(text.split()) > LONG_MESSAGE_WORDS or len(text) > _LONG_MESSAGE_CHARACTERS


def _searched_of_long(sentences: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Return the sentences of a long message by which it is searched. Where these are still too long, as in a
    text without full stops, its most specific runs of words take their place."""
    kept = _most_specific(sentences, vocabulary)
    searched = " ".join(kept)
    if len(searched.split()) > _MOST_WORDS or len(searched) > _LONG_MESSAGE_CHARACTERS:
        return _most_specific([run for sentence in sentences for run in _runs(sentence)], vocabulary)
    return kept


def _runs(sentence: str) -> Iterator[str]:
    """Yield a sentence, or its runs of words where it is long."""
    words = sentence.split()
    for start in range(0, len(words), LONG_MESSAGE_WORDS):
        run = " ".join(words[start : start + LONG_MESSAGE_WORDS])
        yield from wrap(run, _MOST_RUN_CHARACTERS, break_on_hyphens=False)


def _most_specific(sentences: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Return three or four of the sentences, in their order: those that ask before others, and of both the
    heaviest first. Four where three or more ask: three that ask leave room for one that tells."""
    weights = [sum(term.weight for term in vocabulary.terms(text)) for text in sentences]
    asks = [text.endswith("?") for text in sentences]
    best_first = sorted(range(len(sentences)), key=lambda at: (not asks[at], -weights[at], at))
    most = _SENTENCES_KEPT if sum(asks) < _SENTENCES_KEPT else _SENTENCES_KEPT + 1
    return [sentences[at] for at in sorted(best_first[:most])]


def numbers_of(text: str) -> tuple[str, ...]:
    """Return the numbers and codes that stand alone, each once: "10045", not the parts of "3/4/71"."""
    words = (word.strip(".,;:!?()#") for word in text.split())
    return tuple(
        dict.fromkeys(word for word in words if _CODE.fullmatch(word) and any(map(str.isdigit, word)))
    )
