"""The concepts of a text: its words by group of synonyms, how specific they are, and its negations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from assistant.text.language import Language, fold, quantities, word_file, word_groups, word_set

_LEAST_WEIGHT = 0.25
"""Weight of the most common content word; the rarest weighs 1.25."""
_STOP_WEIGHT = 0.15
"""Weight of a verb that is a stop word: "ask", "give"."""
_GRAMMAR = word_set("en_grammar")
_NEGATIONS = word_groups("en_marks")["negation"]
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed text."""

    weights: Mapping[str, float]
    """How specific each word with content is, by concept."""
    negations: int


def read_statement(text: str, language: Language) -> Statement:
    """Return the concepts of a text and the number of its negations."""
    synonyms = synonyms_of(language)
    plain = synonyms.phrase.sub(lambda found: synonyms.of_phrase[found[0]], fold(text))
    words = [word.removesuffix("'s") for word in _WORD.findall(plain)]
    content = frozenset(language.content_words(plain))
    return Statement(
        weights={
            synonyms.concept(word): _LEAST_WEIGHT + language.rarity(word) if word in content else _STOP_WEIGHT
            for word in words
            if word not in _GRAMMAR and len(word) > 1 and not quantities(word).values
        },
        negations=sum(word in _NEGATIONS or word.endswith("n't") for word in words),
    )


class Synonyms:
    """The groups of ``en_synonyms.txt``. A concept is the stem of the first word of a group."""

    def __init__(self, lines: Iterable[str], language: Language) -> None:
        self.of_phrase: dict[str, str] = {}
        self.of_stem: dict[str, str] = {}
        self._language = language
        for line in lines:
            names = [name.strip() for name in line.split(",")]
            for name in names:
                if " " in name:
                    self.of_phrase.setdefault(name, names[0])
                else:
                    self.of_stem.setdefault(language.stem(name), language.stem(names[0]))
        phrases = sorted(self.of_phrase, key=len, reverse=True)
        self.phrase = re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")

    def concept(self, word: str) -> str:
        """Return the concept of a word; of an "un-" word that of the word that it denies."""
        stem = self._language.stem(denied_by(word, self._language) or word)
        return self.of_stem.get(stem, stem)


@lru_cache
def synonyms_of(language: Language) -> Synonyms:
    return Synonyms(word_file("en_synonyms"), language)


@lru_cache(maxsize=20_000)
def denied_by(word: str, language: Language) -> str | None:
    """Return "treated" for "untreated"; None for a word that "un-" or "non-" does not deny."""
    denied = word.removeprefix("un").removeprefix("non")
    return denied if denied != word and len(denied) > 3 and language.is_common(denied) else None
