"""Splits a message into its questions, and finds its numbers and what it names, by its words alone.

Later steps use these parts and do not parse the message again. They decide what is searched, never what an
agent is allowed to see.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from assistant.answer.vocabulary import Vocabulary
from assistant.text.language import split_sentences

LONG_MESSAGE_WORDS = 45
"""A longer message is searched by its questions and its most specific sentences."""
_LONG_MESSAGE_CHARACTERS = 1_000
"""A message with more characters is long too: text with few spaces."""
_MOST_WORDS = 4 * LONG_MESSAGE_WORDS
"""Words of a long message that are searched at most: as many as of four that are just not long. Where its
most specific sentences have more, runs of their words are chosen instead."""
_MOST_RUN_CHARACTERS = 240
"""About 45 words."""
MOST_QUESTIONS = 3
"""Questions of a message; further ones are searched with the last."""
_SENTENCES_KEPT = 3
"""Sentences of a long message that are searched; one more where it has three questions or more."""
_LEAST_TERMS = 2
"""Content terms of a question; one with fewer belongs to the sentence before it."""
_LEAST_SPECIFIC = 0.5
"""Summed weight of the terms of a sentence, from which on it names a thing."""
_CODE = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
"""A word or number, with hyphens: "4471-2208"."""


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
    """The question before it in its conversation; of a long one its questions."""
    named_above: str = ""
    """What the two questions before it name; empty where there are not two."""

    @classmethod
    def after(cls, earlier: Sequence[str], text: str, *, vocabulary: Vocabulary) -> Message:
        """Return a message with what stands before it. ``earlier``: the last questions, oldest first."""
        questions = questions_of(text, vocabulary=vocabulary)
        before = earlier[-1] if earlier else None
        if before is not None and is_long(before):
            before = " ".join(questions_of(before, vocabulary=vocabulary))
        above = named_above(earlier, questions, vocabulary=vocabulary) if len(earlier) > 1 else []
        return cls(text, questions, before, "\n".join(above))


def questions_of(text: str, *, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Return the questions of a message, at most MOST_QUESTIONS, in the agent's words; the whole message
    where it asks one. A sentence belongs to the first question mark after it, those after the last one to it.

    Example: "I lost my card. Can I get a new one? What does a replacement card cost? Thanks!" gives
    ("I lost my card. Can I get a new one?", "What does a replacement card cost? Thanks!"). A question of
    fewer content terms than two, "What does it cost?", would go with the one before it.
    """
    sentences = [span.text for span in split_sentences(text)]
    if is_long(text):
        kept = _most_specific(sentences, vocabulary)
        if len(" ".join(kept).split()) > _MOST_WORDS or len(" ".join(kept)) > _LONG_MESSAGE_CHARACTERS:
            kept = _most_specific([run for sentence in sentences for run in _runs(sentence)], vocabulary)
        sentences = kept
    parts: list[str] = []
    begun: list[str] = []
    for sentence in sentences:
        begun.append(sentence)
        if sentence.rstrip().endswith("?") and len(vocabulary.terms(" ".join(begun))) >= _LEAST_TERMS:
            parts.append(" ".join(begun))
            begun = []
    if begun:
        rest = " ".join(begun)
        parts = [*parts[:-1], f"{parts[-1]} {rest}"] if parts else [rest]
    if len(parts) > MOST_QUESTIONS:
        parts = [*parts[: MOST_QUESTIONS - 1], " ".join(parts[MOST_QUESTIONS - 1 :])]
    if len(parts) < 2:
        return (" ".join(parts) or text,) if is_long(text) else (text,)
    return tuple(parts)


def is_long(text: str) -> bool:
    """Return whether a message is searched by parts of it."""
    return len(text.split()) > LONG_MESSAGE_WORDS or len(text) > _LONG_MESSAGE_CHARACTERS


def _runs(sentence: str) -> Iterator[str]:
    """Yield a sentence, or its runs of words where it is long."""
    words = sentence.split()
    for start in range(0, len(words), LONG_MESSAGE_WORDS):
        run = " ".join(words[start : start + LONG_MESSAGE_WORDS])
        yield from wrap(run, _MOST_RUN_CHARACTERS, break_on_hyphens=False)


def _most_specific(sentences: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Return the sentences that ask, and of the others those with the most specific words, in their order."""
    weights = [sum(term.weight for term in vocabulary.terms(text)) for text in sentences]
    order = sorted(range(len(sentences)), key=lambda at: (not sentences[at].endswith("?"), -weights[at], at))
    asking = sum(sentence.endswith("?") for sentence in sentences)
    kept = sorted(order[: max(_SENTENCES_KEPT, min(asking + 1, _SENTENCES_KEPT + 1))])
    return [sentences[at] for at in kept]


def ids_in(text: str) -> tuple[str, ...]:
    """Return the numbers and codes of a text, each once: "71" and "A5" of "born 3/4/71, A5" among others."""
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
    """Return what the last messages name and the questions do not: of each message its most specific
    sentence, without its question mark, for it is not asked again; LONG_MESSAGE_WORDS words at most, the last
    ones.

    ``earlier``: messages, oldest first. ``asked``: the questions. ``names``: of speakers, which do not count.
    Example: "Which is cheaper?" after "Zyrtec or Claritin?" and "Hi Doreen.", with the name "doreen", gives
    ["Zyrtec or Claritin"].
    """
    stems = frozenset[str]().union(*(term.forms for term in vocabulary.terms(" ".join((*asked, names)))))

    def weight(sentence: str) -> float:
        terms = vocabulary.terms(sentence)
        return sum(term.weight for term in terms if stems.isdisjoint(term.forms)) * (sentence not in asked)

    kept: list[str] = []
    words = 0
    for text in reversed(earlier):
        best = max((span.text.strip() for span in split_sentences(text)), key=weight, default="")
        length = len(best.split())
        if weight(best) >= _LEAST_SPECIFIC and words + length <= LONG_MESSAGE_WORDS:
            kept.append(best.rstrip("?"))
            words += length
    return kept[::-1]
