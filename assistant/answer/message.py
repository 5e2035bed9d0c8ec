"""Reads the words of a message, before anything is known of them: its questions, its numbers, what it names.

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
_LEAST_SPECIFIC = 0.5
"""Weight of the terms of a sentence that may name a thing."""
_CODE = re.compile(r"[^\W_]+(?:-[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was typed, with the words before it that it may lean on.

    Example: after "How is Restin taken?" and "What of Zarlex?", of "And which one is cheaper?"::

        Message(text="And which one is cheaper?", questions=("And which one is cheaper?",),
                before="What of Zarlex?", named_above="How is Restin taken\\nWhat of Zarlex")
    """

    text: str
    questions: tuple[str, ...]
    """``questions_of`` the text."""
    before: str | None = None
    """The question before it in its conversation; of a long one its questions, joined by spaces."""
    named_above: str = ""
    """What the two questions before it name, a line for each; empty where only one or none is before it."""

    @classmethod
    def after(cls, earlier: Sequence[str], text: str, *, vocabulary: Vocabulary) -> Message:
        """Return a message with the questions before it. ``earlier``: the last ones of its conversation, at
        most two, oldest first (``Question.two_before``)."""
        questions = questions_of(text, vocabulary=vocabulary)
        before = earlier[-1] if earlier else None
        if before is not None and is_long(before):
            before = " ".join(questions_of(before, vocabulary=vocabulary))
        above = named_above(earlier, questions, vocabulary=vocabulary) if len(earlier) > 1 else []
        return cls(text, questions, before, "\n".join(above))


@dataclass(frozen=True, slots=True)
class PartQuery:
    """What is searched for one question of a message: one part of it."""

    question: str
    """In the asker's words."""
    vector: Sequence[float]
    """Unit length, of ``text``."""
    before: str | None = None
    """The question before it, where this one makes no sense without."""
    routed_text: str = ""
    """``text`` as the router of sources reads it, without names of items; empty: it reads ``text``."""
    routed_vector: Sequence[float] = ()
    """Unit length, of ``routed_text``; empty: ``vector``."""
    known: KnownWords | None = None
    """Words and items of the tenant's documents; None while they are not read."""
    asks: bool = True
    """False for a greeting or thanks: nothing is searched."""
    at: datetime | None = None
    """When the question was written: days are counted from then."""
    max_words: int = 160
    """Words of the section that is quoted, at most: the tenant's, divided by the message's questions."""
    also_words: int = 80
    """The same for what is quoted below it: another part of its document, or a second document's section."""

    @property
    def text(self) -> str:
        """What is searched and embedded: the question, below the one before it where it needs that."""
        return with_earlier(self.question, self.before)


def with_earlier(question: str, earlier: str | None) -> str:
    """Return a question below the words before it that it makes no sense without, as it is embedded and
    searched."""
    return question if earlier is None else f"{earlier}\n{question}"


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


def ids_in(text: str) -> tuple[str, ...]:
    """Return the words with a digit, each once: numbers and codes."""
    return tuple(dict.fromkeys(word for word in _CODE.findall(text) if any(map(str.isdigit, word))))


def numbers_of(text: str) -> tuple[str, ...]:
    """Return the numbers and codes that stand alone, each once: "10045", not the parts of "3/4/71"."""
    words = (word.strip(".,;:!?()#") for word in text.split())
    return tuple(
        dict.fromkeys(word for word in words if _CODE.fullmatch(word) and any(map(str.isdigit, word)))
    )


def named_above(
    earlier: Sequence[str], asked: Sequence[str], *, vocabulary: Vocabulary, names: str = ""
) -> list[str]:
    """Return what the last messages name and the questions do not, in order: the heaviest sentence of each,
    without its question mark, for it is not asked again. The latest messages come first where the words of
    all are more than LONG_MESSAGE_WORDS.

    ``names``: of speakers, which name nothing else. Example: after "How is Restin taken?" and "What of
    Zarlex?", "And which one is cheaper?" gives ["How is Restin taken", "What of Zarlex"].
    """
    said = frozenset[str]().union(*(term.forms for term in vocabulary.terms(" ".join((*asked, names)))))

    def new_weight(sentence: str) -> float:
        """Return the weight of what the sentence adds to the questions; 0 for one that is among them."""
        terms = () if sentence in asked else vocabulary.terms(sentence)
        return sum(term.weight for term in terms if said.isdisjoint(term.forms))

    kept: list[str] = []
    words = 0
    for text in reversed(earlier):
        best = max((span.text.strip() for span in split_sentences(text)), key=new_weight, default="")
        length = len(best.split())
        if new_weight(best) >= _LEAST_SPECIFIC and words + length <= LONG_MESSAGE_WORDS:
            kept.append(best.rstrip("?"))
            words += length
    return kept[::-1]
