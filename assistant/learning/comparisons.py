"""Compares an agent's words with those of an answer, and a question with the one before it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from assistant.domain.feedback import Edit
from assistant.text.language import (
    WORD,
    Language,
    Quantities,
    denied_by,
    fold,
    quantities,
    split_sentences,
    word_groups,
    word_set,
)

_WORD = re.compile(r"[^\W_]+(?:[.,:/'-][^\W_]+)*")
_MARKUP = re.compile(r"\[\d{1,3}\]|[*_#>`|]+|^\s*(?:-|\d{1,3}[.)])\s", re.MULTILINE)
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    "oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
_DATE = re.compile(
    rf"\b(?:\d{{4}}-\d\d?-\d\d?|\d\d?/\d\d?(?:/\d{{2,4}})?"
    rf"|(?:{_MONTH})\.? \d\d?(?:st|nd|rd|th)?\b(?:,? \d{{4}})?"
    rf"|\d\d?(?:st|nd|rd|th)? (?:{_MONTH})\b(?: \d{{4}})?"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)days?)\b"
)
_STRENGTHS = frozenset({"mg", "mcg", "g", "kg", "ml", "l", "dl", "mg/dl", "mg/kg", "mmol", "iu", "ounce"})
_PORTIONS = frozenset({"unit", "tablet", "capsule", "drop", "puff", "dose", "pound", "time"})
_DOSE_UNITS = _STRENGTHS | _PORTIONS
_SAME_SENTENCE = 0.5
"""Share of common words from which two sentences are one sentence before and after an edit."""
_KEPT_SENTENCE = 0.8
"""Share of common words from which a sentence of the answer is still in the sent text."""
_LEAST_WEIGHT = 0.25
"""Weight of the most common content word; the rarest weighs 1.25."""
_STOP_WEIGHT = 0.15
"""Weight of a verb that is a stop word: "ask", "give"."""
_GRAMMAR = word_set("en_grammar")
_NEGATIONS = word_groups("en_marks")["negation"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A parsed text."""

    weights: Mapping[str, float]
    """How specific each word with content is, by its stem; of an "un-" word by that of the word that it
    denies."""
    negations: int


def read_statement(text: str, language: Language) -> Statement:
    """Return the concepts of a text and the number of its negations."""
    words = [word.removesuffix("'s") for word in WORD.findall(fold(text))]
    content = frozenset(language.content_words(text))
    return Statement(
        weights={
            language.stem(denied_by(word, language) or word): (
                _LEAST_WEIGHT + language.rarity(word) if word in content else _STOP_WEIGHT
            )
            for word in words
            if word not in _GRAMMAR and len(word) > 1 and not quantities(word).values
        },
        negations=sum(word in _NEGATIONS or word.endswith("n't") for word in words),
    )


def words_of(text: str) -> list[str]:
    """Return the folded words of a text without Markdown and citations."""
    return _WORD.findall(fold(_MARKUP.sub(" ", text)))


def compare(shown: Sequence[str], sent: str, *, language: Language) -> Edit:
    """Return how a sent text differs from the nearest of the texts that the agent may have begun with."""
    after = words_of(sent)
    begun = [(text, words_of(text)) for text in shown] or [("", [])]
    before, words = min(begun, key=lambda each: Levenshtein.distance(each[1], after))
    return Edit(
        distance=Levenshtein.distance(words, after),
        words=max(len(words), len(after)),
        changed_facts=_changed_facts(before, sent, language),
    )


def keeps_any(sentences: Iterable[str], text: str) -> bool:
    """Return whether one of the sentences is still in the text, whatever its Markdown."""
    after = [words_of(sentence) for sentence in _sentences(text)]
    return any(
        _alike(words_of(sentence), other) >= _KEPT_SENTENCE for sentence in sentences for other in after
    )


def _changed_facts(shown: str, sent: str, language: Language) -> tuple[str, ...]:
    """Return the kinds of facts that differ between a sentence of the answer and what became of it.

    A sentence that was left out, and one that is the agent's own, change no fact of the answer.
    """
    before = [(text, words_of(text)) for text in _sentences(shown)]
    changed: set[str] = set()
    for text in _sentences(sent):
        words = words_of(text)
        nearest = max(before, key=lambda each: _alike(each[1], words), default=None)
        if nearest is None or nearest[1] == words or _alike(nearest[1], words) < _SAME_SENTENCE:
            continue
        old, new = _facts(nearest[0], language), _facts(text, language)
        changed |= {kind for kind in old if old[kind] != new[kind]}
    return tuple(sorted(changed))


def _facts(sentence: str, language: Language) -> Mapping[str, object]:
    """Return the sentence's facts by kind."""
    plain = fold(_MARKUP.sub(" ", sentence))
    found = quantities(_DATE.sub(" ", plain))
    doses = {measure for measure in found.measures if measure[1] in _DOSE_UNITS}
    return {
        "number": (found.bare - {"1"}, found.measures - doses),
        "code": found.codes,
        "dose": doses,
        "date": set(_DATE.findall(plain)),
        "negation": read_statement(plain, language).negations,
    }


def _sentences(text: str) -> Iterator[str]:
    return (span.text for span in split_sentences(_MARKUP.sub(" ", text)))


def _alike(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the share of common words, 0 to 1."""
    if not one or not other:
        return 0.0
    common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other))


# Reformulations


WITHIN_S = 600.0
"""Longest time from one question to the same in other words."""
_OVERLAP = 0.6
"""Share of the shorter question's concepts that the other one has."""
_OVERLAP_OF_ONE_DOCUMENT = 0.3
"""The same, when ranking put one document first for both: then fewer words need to agree."""
_LEAST_SHARED = 2
_NAME_WEIGHT = 1.2
"""A word at least this specific names something: a medicine, a product. Two names are two questions."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the document that ranking put first."""

    question: str
    first_document: str | None = None


def is_reformulation(earlier: Asked, later: Asked, *, language: Language) -> bool:
    """Return whether the later question asks the same as the earlier one in other words.

    They must not name different numbers, codes or things. Their concepts (stems and synonyms) must overlap:
    by three fifths of the shorter question, or by three tenths where ranking put the same document first,
    which is how this process knows that two questions mean the same without their vectors.
    """
    if have_other_values(quantities(earlier.question), quantities(later.question)):
        return False
    first = read_statement(earlier.question, language)
    second = read_statement(later.question, language)
    before, after = first.weights.keys(), second.weights.keys()
    shared = before & after
    if not shared or (_names(first) - after and _names(second) - before):
        return False
    is_same_document = earlier.first_document is not None and earlier.first_document == later.first_document
    least = _OVERLAP_OF_ONE_DOCUMENT if is_same_document else _OVERLAP
    enough = len(shared) >= min(_LEAST_SHARED, len(before)) or before == after
    return enough and len(shared) / min(len(before), len(after)) >= least


def have_other_values(one: Quantities, other: Quantities) -> bool:
    """Return whether two questions name different numbers or different codes. A 1 says nothing."""
    pairs = ((one.codes, other.codes), (one.values - {"1"}, other.values - {"1"}))
    return any(first and second and not first & second for first, second in pairs)


def _names(question: Statement) -> set[str]:
    return {word for word, weight in question.weights.items() if weight >= _NAME_WEIGHT}
