"""Reads questions for comparison: may one stand for the other?

A sentence's vector is nearly the same for "a child" and "an adult", for "may" and "may not", for reject 75
and reject 76. So words decide. They are compared by concept (``en_alike.txt``, then ``en_synonyms.txt``);
numbers, codes and negations on their own; and what excludes each other, or is a condition, by
``en_contrasts.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz.distance import LCSseq

from assistant.text.language import Language, fold, quantities, word_file
from assistant.text.statements import Synonyms, synonyms_of

_LEAST_WEIGHT = 0.25
"""Of the most common content word; the rarest weighs 1.25."""
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|without|none|nothing|cannot|\w+n't|neither|nor|unable|refuses?|refused|"
    r"instead of|rather than)\b"
)
_DENIED_TEXT = re.compile(r"[^.,;:?!]{0,40}")
"""After a negation: the word that it denies stands in it."""
_UNCOUNTED = frozenset({"0", "1", "2"})
"""Small numbers without a unit: "one" is a pronoun, "two plans" may be said by naming both."""
_PLURALS_FROM = 4
"""Letters from which a word is looked up without its "s" too."""

_ASKS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "time": r"\bhow (?:long|soon|fast|quick|quickly|late|early|far)\b|\bdeadline\b|\bturnaround\b|"
        r"\bwhen (?:is|are|do|does|can|will|must|should)\b|\b(?:by|until|till) when\b|\bearliest\b|"
        r"\btime (?:limit|frame)\b|\bhow many (?:days|weeks|months|hours|minutes)\b|"
        r"\b(?:what|which) (?:day|date|time)\b",
        "money": r"\b(?:fee|costs?|charged?|price|owe|pays?|free)\b|\bhow much (?:is|does|will|do|would)\b",
        "count": r"\bhow (?:many|often|big)\b|\bhow much (?:can|may|of|are|should)\b|"
        r"\b(?:limit|maximum|max|quantity|number of|at most|the most)\b",
        "who": r"\bwho(?:m|se)?\b|\b(?:which|what) (?:desk|office|team|department)\b|\bcontact\b",
        "where": r"\bwhere\b",
        "form": r"\b(?:which|what) (?:form|papers?|paperwork|documents?|documentation|report)\b|\bproof\b|"
        r"\bwhat (?:does|do|must|should) \w+ (?:\w+ )?(?:send|bring|provide|write|sign|need)\b|\bforms?\b",
        "how": r"\bhow (?:do|can|should|to|would|is|are|does)\b|"
        r"\bwhat (?:do|should|must|can) (?:i|we|she|he|they)\b|"
        r"\bwhat (?:now|next|happens)\b|\bwhat's next\b|\bsteps?\b|\bprocedure\b|\bprocess\b",
    }.items()
}
"""What a question asks for; a question that only asks whether has none."""
Opposed = Literal["code", "number", "opposite", "negation"]
Sides = Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """One question, read for comparison."""

    tokens: tuple[str, ...]
    """All its words, folded, in order."""
    weights: Mapping[str, float]
    """How specific each content word is, by concept."""
    meant: frozenset[str]
    """Concepts that the glossary adds."""
    numbers: frozenset[str]
    units: Mapping[str, frozenset[str]]
    """Numbers by unit."""
    codes: frozenset[str]
    sides: Sides
    """Sides that it takes, by group of ``en_contrasts.txt``."""
    negated: frozenset[str]
    """Concepts right after a negation."""
    negations: int
    asks: frozenset[str]
    """What it asks for: ``time``, ``money``, ``who``, …"""


@dataclass(frozen=True, slots=True)
class Difference:
    """In what two questions differ. Shares are of the words' weight, 0 to 1."""

    opposed: Opposed | None
    """Why they cannot mean the same, whatever else agrees."""
    missing: float
    """Share of the first question's words that the second does not have."""
    added: float
    """Share of the second question's words that neither the first nor the answer has."""
    conditions: int
    """Conditions that only one of them states."""
    negations: int
    """Difference in the number of negations."""
    asks: int
    """Kinds of what it asks for that only the second question has."""
    unsaid: bool
    """Whether the second question leaves out a number or code of the first."""
    frame: float
    """Share of words in common order; 0.0 where no word differs. The same sentence with another word asks
    something else: people who mean the same rarely say it in the same frame."""


class QuestionReader:
    """Reads questions in one language. ``meanings`` returns what a glossary adds to a question."""

    def __init__(self, language: Language, *, meanings: Callable[[str], str]) -> None:
        self._language = language
        self._meanings = meanings
        self._alike = Synonyms(word_file("en_alike"), language)
        self._synonyms = synonyms_of(language)
        self._contrasts = _Contrasts(word_file("en_contrasts"))

    def read(self, question: str) -> ReadQuestion:
        folded = fold(question)
        found = quantities(question)
        units: dict[str, set[str]] = {}
        for value, unit in found.measures:
            units.setdefault(unit, set()).add(value)
        concepts = self._concepts(folded)
        return ReadQuestion(
            tokens=tuple(_WORD.findall(folded)),
            weights={
                concept: _LEAST_WEIGHT + self._language.rarity(word) for concept, word in concepts.items()
            },
            meant=frozenset(self._concepts(fold(self._meanings(question)))),
            numbers=found.values - _UNCOUNTED,
            units={unit: frozenset(values) for unit, values in units.items()},
            codes=found.codes,
            sides=self._contrasts.sides(folded),
            negated=self._negated(folded),
            negations=len(_NEGATION.findall(folded)),
            asks=frozenset(name for name, pattern in _ASKS.items() if pattern.search(folded)),
        )

    def concepts(self, text: str) -> frozenset[str]:
        """Return the concepts of a text, such as the answer of an approved question."""
        return frozenset(self._concepts(fold(text)))

    def compare(
        self, approved: ReadQuestion, asked: ReadQuestion, *, told: frozenset[str] = frozenset()
    ) -> Difference:
        """Return in what a question differs from an approved one; ``told``: concepts of its answer."""
        missing = approved.weights.keys() - asked.weights.keys() - asked.meant
        added = asked.weights.keys() - approved.weights.keys() - approved.meant
        opposed, conditions = self._contrasts.compare(approved.sides, asked.sides)
        return Difference(
            opposed=_opposed_values(approved, asked)
            or ("opposite" if opposed else None)
            or ("negation" if _denies(approved, asked) or _denies(asked, approved) else None),
            missing=_share(missing, approved.weights),
            added=_share(added - told, asked.weights),
            conditions=conditions,
            negations=abs(approved.negations - asked.negations),
            asks=len(asked.asks - approved.asks),
            unsaid=approved.numbers != asked.numbers or approved.codes != asked.codes,
            frame=_frame(approved, asked) if missing or added else 0.0,
        )

    def _concepts(self, folded: str) -> dict[str, str]:
        """Return a word for each concept of a text; numbers are left out."""
        plain = self._alike.phrase.sub(lambda found: f" {self._alike.of_phrase[found[0]]} ", folded)
        plain = self._synonyms.phrase.sub(lambda found: self._synonyms.of_phrase[found[0]], plain)
        words = (word for word in self._language.content_words(plain) if not word[0].isdigit())
        return {self._concept(word): word for word in words}

    def _concept(self, word: str) -> str:
        stem = self._language.stem(word)
        return self._alike.of_stem.get(stem) or self._alike_of(self._synonyms.concept(word))

    def _alike_of(self, concept: str) -> str:
        return self._alike.of_stem.get(concept, concept)

    def _negated(self, folded: str) -> frozenset[str]:
        texts = (_DENIED_TEXT.match(folded, found.end()) for found in _NEGATION.finditer(folded))
        return frozenset(concept for text in texts if text for concept in list(self._concepts(text[0]))[:1])


def _share(concepts: Iterable[str], weights: Mapping[str, float]) -> float:
    return sum(weights[one] for one in concepts) / (sum(weights.values()) or 1.0)


def _frame(approved: ReadQuestion, asked: ReadQuestion) -> float:
    return LCSseq.normalized_similarity(approved.tokens, asked.tokens)


def _denies(first: ReadQuestion, second: ReadQuestion) -> bool:
    """Return whether the first denies a word that the second affirms: "not on insulin", "on insulin"."""
    denied = (first.negated & second.weights.keys()) - second.negated
    affirms_another = bool(second.negated & first.weights.keys() - first.negated)
    return bool(denied) and (second.negations == 0 or affirms_another)


def _opposed_values(approved: ReadQuestion, asked: ReadQuestion) -> Opposed | None:
    """Return what opposes a question to an approved one: it may leave a number or code out, but say no
    other."""
    if not asked.codes <= approved.codes:
        return "code"
    if not asked.numbers <= approved.numbers:
        return "number"
    both = approved.units.keys() & asked.units.keys()
    return "number" if any(not asked.units[unit] <= approved.units[unit] for unit in both) else None


class _Contrasts:
    """The groups of ``en_contrasts.txt``: a line each, sides between bars, "!" before a condition."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._conditions = frozenset(number for number, line in enumerate(lines) if line.startswith("!"))
        self._of: dict[str, list[tuple[int, int]]] = {}
        for number, line in enumerate(lines):
            for side, phrases in enumerate(line.removeprefix("!").split("|")):
                for phrase in phrases.split(","):
                    self._of.setdefault(phrase.strip(), []).append((number, side))
        self._longest: dict[str, int] = {}
        """Words of the longest phrase, by its first word: most words of a question begin none."""
        for phrase in self._of:
            first, size = phrase.split()[0], len(phrase.split())
            self._longest[first] = max(size, self._longest.get(first, 0))

    def sides(self, folded: str) -> Sides:
        """Return the sides that a text takes, by group; the longest phrase counts at each place."""
        tokens = _WORD.findall(folded)
        found: dict[int, set[int]] = {}
        at = 0
        while at < len(tokens):
            longest = self._longest.get(tokens[at]) or self._longest.get(_single(tokens[at]), 0)
            for size in range(min(longest, len(tokens) - at), 0, -1):
                held = self._held(" ".join(tokens[at : at + size]))
                if held:
                    for group, side in held:
                        found.setdefault(group, set()).add(side)
                    at += size - 1
                    break
            at += 1
        return {group: frozenset(sides) for group, sides in found.items()}

    def compare(self, approved: Sides, asked: Sides) -> tuple[int, int]:
        """Return how many groups oppose each other, and how many conditions only one of them states."""
        opposed = conditions = 0
        for group in approved.keys() | asked.keys():
            ours, theirs = approved.get(group, frozenset()), asked.get(group, frozenset())
            if ours and theirs and not ours & theirs:
                opposed += 1
            elif group in self._conditions:
                conditions += len(ours ^ theirs)
        return opposed, conditions

    def _held(self, phrase: str) -> Sequence[tuple[int, int]]:
        return self._of.get(phrase) or self._of.get(_single(phrase), ())


def _single(word: str) -> str:
    return word.removesuffix("'s").removesuffix("s") if len(word) > _PLURALS_FROM else word
