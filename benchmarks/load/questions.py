"""Questions, all distinct, and the answer that the stand-in's model gives to each: known to both sides.

An answer is made of sentences of the documents that every search ranks first, word for word: the service
releases a sentence only where a source supports it.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from itertools import pairwise
from zlib import crc32

from benchmarks.load.knowledge import sentences

VARIANTS = 61
"""Different answers; a prime, so that neighbouring questions differ."""
ANSWER_TOKENS = 200
_TOKEN_CHARACTERS = 5
_SYLLABLES = tuple(f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_TAG = re.compile(rb"reference q([a-z]{10})")
_TOPICS = (
    "a prior authorization that was denied",
    "a refill that the plan calls too soon",
    "a package that was damaged in delivery",
    "a prescription that was transferred to another pharmacy",
    "a controlled medicine that was lost",
)
_OPENINGS = (
    "The desk sends the money to the plan administrator, because tax rules treat a check as a withdrawal.",
    "Medicare members have 60 days from the event to file a grievance with their plan.",
    "Once Medicaid pays, the desk refunds all that was paid, less the Medicaid copay.",
)
"""First sentences of answers. "For qbabebibobu," before them is the writer's own, which the check of support
lets pass in a sentence as long as these."""


def question(number: int) -> str:
    """Return the ``number``-th question; no two numbers below 65**5 have the same."""
    return (
        f"What do we tell the caller with reference {tag_of(number)} about {_TOPICS[number % len(_TOPICS)]}?"
    )


def tag_of(number: int) -> str:
    """Return the word that only this question holds."""
    syllables: list[str] = []
    for _ in range(5):
        number, place = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[place])
    return f"q{''.join(syllables)}"


def tag_in(prompt: bytes) -> str:
    """Return the tag of the question that a request's body holds. Raises ValueError when it holds none."""
    found = _TAG.search(prompt)
    if found is None:
        raise ValueError("the prompt holds no question of this benchmark")
    return f"q{found[1].decode()}"


def variant_of(tag: str) -> int:
    return crc32(tag.encode()) % VARIANTS


def expected_text(number: int, *, tokens: int = ANSWER_TOKENS) -> str:
    """Return the whole answer to the ``number``-th question."""
    return "".join(answer_pieces(tag_of(number), tokens=tokens))


def answer_pieces(tag: str, *, tokens: int) -> tuple[str, ...]:
    """Return an answer as its ``tokens`` pieces, ``first_piece`` and ``later_pieces``."""
    return (first_piece(tag), *later_pieces(variant_of(tag), tokens - 1))


def first_piece(tag: str) -> str:
    """Return a whole sentence, which only this question's answer has, and the beginning of the next.

    The service holds text back until a sentence has ended: the wait for a model that is in the middle of one
    is no work of the service's own.
    """
    opening = _opening(variant_of(tag))
    return f"For {tag}, {opening[0].lower()}{opening[1:]} {later_text(variant_of(tag), 1)[0]}"


@lru_cache(maxsize=8 * VARIANTS)
def later_pieces(variant: int, count: int) -> tuple[str, ...]:
    """Return the pieces after the first: whole sentences but for the first character, cut evenly."""
    text = later_text(variant, count * _TOKEN_CHARACTERS)[1:]
    cuts = [len(text) * place // count for place in range(count + 1)]
    return tuple(text[start:end] for start, end in pairwise(cuts))


def later_text(variant: int, characters: int) -> str:
    """Return so many characters or more of whole sentences, none of them twice in an answer."""
    left = [sentence for sentence in sentences() if sentence != _opening(variant)]
    random.Random(variant).shuffle(left)
    text = left.pop()
    while len(text) < characters:
        text = f"{text} {left.pop()}"
    return text


def _opening(variant: int) -> str:
    return _OPENINGS[variant % len(_OPENINGS)]
