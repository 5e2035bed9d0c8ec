"""Questions, all distinct, and the answer that the stand-in's model gives to each: known to both sides.

Passages and answers are cut from the committed knowledge of the pharmacy, so that gate, prompt and
attribution have real text to work on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from zlib import crc32

KNOWLEDGE = Path(__file__).parents[2] / "knowledge" / "pharmacy"
PASSAGE_WORDS = 150
VARIANTS = 61
"""Different answers; a prime, so that neighbouring questions differ."""
ANSWER_TOKENS = 200
_SYLLABLES = tuple(f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_TAG = re.compile(rb"reference q([a-z]{10})")
_TOPICS = (
    "a prior authorization that was denied",
    "a refill that the plan calls too soon",
    "a package that was damaged in delivery",
    "a prescription that was transferred to another pharmacy",
    "a controlled medicine that was lost",
)
_PLAIN = re.compile(r"[^A-Za-z0-9 .,'-]+")
_SPACES = re.compile(r"\s+")


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


def first_token(tag: str) -> str:
    """Return the first token, which only this question's answer has."""
    return f"For {tag}:"


def expected_text(number: int, *, tokens: int = ANSWER_TOKENS) -> str:
    """Return the whole answer to the ``number``-th question."""
    tag = tag_of(number)
    return first_token(tag) + "".join(answer_tokens(variant_of(tag))[1:tokens])


@lru_cache(maxsize=VARIANTS)
def answer_tokens(variant: int) -> tuple[str, ...]:
    """Return the tokens of a variant; the first is replaced by the question's own."""
    chosen = random.Random(variant)
    text = " ".join(chosen.choice(sentences()) for _ in range(ANSWER_TOKENS // 8))
    tokens = re.findall(r"\s?[^\s]{1,6}", text)
    assert len(tokens) >= ANSWER_TOKENS
    return ("", *(f" {token}" if n == 0 else token for n, token in enumerate(tokens[: ANSWER_TOKENS - 1])))


@lru_cache(maxsize=1)
def sentences() -> Sequence[str]:
    """Return sentences of six words and more, without markup."""
    found = [
        sentence
        for passage in passages()
        for sentence in re.split(r"(?<=\.) ", passage)
        if 6 <= len(sentence.split()) <= 30 and sentence.endswith(".")
    ]
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1)
def passages() -> Sequence[str]:
    """Return the pharmacy's Markdown documents in pieces of 150 words."""
    pieces: list[str] = []
    for path in sorted(KNOWLEDGE.glob("*.md")):
        words = _SPACES.sub(" ", _PLAIN.sub(" ", path.read_text(encoding="utf-8"))).split()
        pieces += [
            " ".join(words[start : start + PASSAGE_WORDS])
            for start in range(0, len(words) - PASSAGE_WORDS, PASSAGE_WORDS)
        ]
    return tuple(pieces)
