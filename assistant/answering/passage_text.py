"""A retrieved passage taken apart once, for all that reads it: the gate, its snippet and attribution."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from assistant.answering.language import Language, fold
from assistant.answering.quantities import Quantities, quantities
from assistant.answering.sentences import SentenceSpan, split_sentences
from assistant.domain.documents import Passage

_NEGATION = re.compile(
    r"(?:\b(?:not|never|no|none|cannot|without|neither|nor)\b|n't\b)((?:[^\w.,;:!?]+[\w']+){1,4})"
)
"""With the up to four words that it reaches."""
_MAY_NEGATE = ("no", "n't", "never", "neither", "without")


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence by its words."""

    stems: frozenset[str]
    """Of its content words; figures are looked at on their own."""
    terms: frozenset[str]
    """Of all its content terms, figures too."""
    negated: frozenset[str]
    """Stems of the words that a negation stands before."""

    @classmethod
    def of(cls, text: str, language: Language) -> Statement:
        folded = fold(text)
        words = list(language.content_words(folded))
        spoken = [word for word in words if word.replace("'", "").isalpha()]
        stems = frozenset(map(language.stem, spoken))
        return cls(
            stems=stems,
            terms=stems if len(spoken) == len(words) else frozenset(map(language.stem, words)),
            negated=_negated(folded, language),
        )

    def contradicts(self, other: Statement) -> bool:
        """Say whether just one of the two negates anything, and that is a word that the other affirms."""
        if self.negated and other.negated:
            return False
        return bool(self.negated & other.stems or other.negated & self.stems)

    def share_in(self, stems: frozenset[str]) -> float:
        return len(self.stems & stems) / len(self.stems) if self.stems else 0.0


def _negated(folded: str, language: Language) -> frozenset[str]:
    if not any(piece in folded for piece in _MAY_NEGATE):
        return frozenset()
    return frozenset(
        language.stem(word)
        for reach in _NEGATION.findall(folded)
        for word in islice(language.content_words(reach), 1)
    )


class PassageText:
    """A passage and what its text is made of, each part found out on first use."""

    def __init__(self, passage: Passage, *, language: Language) -> None:
        self.passage = passage
        self._language = language

    @cached_property
    def sentences(self) -> tuple[SentenceSpan, ...]:
        return tuple(split_sentences(self.passage.text))

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """Of each sentence."""
        return tuple(Statement.of(span.text, self._language) for span in self.sentences)

    @cached_property
    def head(self) -> Statement:
        """Title and heading."""
        return Statement.of(f"{self.passage.title}\n{self.passage.heading}", self._language)

    @cached_property
    def stems(self) -> frozenset[str]:
        """Stems of all words, title and heading included."""
        return self.head.stems.union(*(statement.stems for statement in self.statements))

    @cached_property
    def terms(self) -> frozenset[str]:
        """Stems of all content terms, figures too. Not from the statements: the gate needs these before the
        model is called, and those are made while it is waited for."""
        return self._language.content_stems(self.passage.embedding_input)

    @cached_property
    def quantities(self) -> Quantities:
        return quantities(self.passage.embedding_input)
