"""Checks one written sentence against the units that it cites, without a model.

A sentence is *withheld* when it has a value (number, dose, date, time, code, proper name) that neither a
document of the prompt nor ``given`` has. It is marked *check* when it cites nothing, when the cited units
lack one of its values, or when a small trained head finds that they do not carry it: too few of its words, or
other negations, conditions and limits. Every other sentence is *supported*. ``evaluation/trials.py`` judges
the check; docs/decisions/0028 has the figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from math import log
from typing import Literal

import orjson

from assistant.domain.answers import Support
from assistant.text.caches import remember_texts
from assistant.text.language import Language, denied_by, fold, quantities, split_sentences, word_groups
from assistant.text.values import Values

REASONS = (
    "foreign_value",
    "no_citation",
    "value_not_cited",
    "words_missing",
    "negation_differs",
    "condition_differs",
)
"""Every code in ``Checked.reasons``."""
_HEAD = orjson.loads(files("assistant.answer").joinpath("weights", "support.json").read_bytes())
WEIGHTS: Mapping[str, Mapping[str, float]] = _HEAD["weights"]
"""Weight of each feature, below the reason that it stands for, fitted on the tuning half."""
BIAS: float = _HEAD["bias"]
"""With it a sum of 0 is as likely supported as not."""
_LEAST_SUM = log(0.54 / 0.46)
"""A sentence is supported from 54 % on: a wrong one that is called so costs more than a mark too many."""
_CITATION = re.compile(r"\[\d{1,3}(?:\.\d{1,3})?(?:\s?[,;\u2013-]\s?\d{1,3}(?:\.\d{1,3})?)*\]")
LEAST_WEIGHT = 0.25
"""Weight of the most common content word; the rarest weighs 1.25."""
_TEXTS_KEPT = 1_000
"""Documents, and units that sentences cite, whose values are kept for the next answer."""
_USED = 0.5
"""Share of a piece's weight that a sentence repeats when it restates the piece."""
_SCOPE = 3
"""Content words after a negation that it negates, up to the next punctuation mark."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result for one sentence."""

    support: Support
    detail: Literal["check", "withheld"] | None = None
    """``check``: it is shown with a mark. ``withheld``: it is not shown."""
    values: tuple[str, ...] = ()
    """Its values that no document has (withheld) or that the cited units lack (check); 20 at most."""
    reasons: tuple[str, ...] = ()
    """Codes of ``REASONS``; empty for a supported sentence."""


class SupportChecker:
    """Checks the sentences of one answer against the documents of its prompt."""

    def __init__(
        self, documents: Sequence[Sequence[str]], *, given: Sequence[str], language: Language
    ) -> None:
        """``documents``: the units of each document as the prompt has them; the title and the headings of a
        unit are lines above its text. ``given``: the question, its history, and live values."""
        self._documents = documents
        self._given = "\n".join(given)
        self._language = language
        self._units: dict[str, _Text] = {}

    def check(self, sentence: str, citations: Sequence[tuple[int, int | None]]) -> Checked:
        """Return whether the cited units support the sentence.

        ``citations``: (document, unit), both from 1 and in range; unit None for the whole document.
        """
        plain = _CITATION.sub(" ", sentence).replace("*", "").strip()
        if foreign := self._known.missing(plain, spelled=False):
            return Checked(Support.UNSUPPORTED, "withheld", foreign, ("foreign_value",))
        cited = list(dict.fromkeys(text for place in citations for text in self._cited(*place)))
        if not cited:
            return Checked(Support.UNSUPPORTED, "check", (), ("no_citation",))
        held = Values.joined([self._said, *(_values_of(text, self._language) for text in cited)])
        if absent := held.missing(plain, spelled=True):
            return Checked(Support.UNSUPPORTED, "check", absent, ("value_not_cited",))
        values = self.features(plain, cited)
        parts = {
            reason: sum(weight * values[name] for name, weight in weights.items())
            for reason, weights in WEIGHTS.items()
        }
        if sum(parts.values()) + BIAS >= _LEAST_SUM:
            return Checked(Support.SUPPORTED)
        reason = min(parts, key=lambda name: (parts[name] >= 0, parts[name]))
        return Checked(Support.UNSUPPORTED, "check", (), (reason,))

    def features(self, sentence: str, cited: Sequence[str]) -> dict[str, float]:
        """Return the features of the head, by name, for a sentence without citations and the cited units."""
        claim = _Text(sentence, self._language)
        units = [self._unit(text) for text in (*cited, self._given)]
        pieces = [piece for unit in units[:-1] for piece in unit.pieces if piece.text not in self._headings]
        return _features(claim, units, pieces)

    def _cited(self, document: int, unit: int | None) -> Sequence[str]:
        units = self._documents[document - 1]
        return units if unit is None else (units[unit - 1],)

    def _unit(self, text: str) -> _Text:
        if text not in self._units:
            self._units[text] = _Text(text, self._language)
        return self._units[text]

    @cached_property
    def _known(self) -> Values:
        # Each unit repeats the title and its headings.
        lines = (
            dict.fromkeys(line for unit in units for line in unit.split("\n")) for units in self._documents
        )
        texts = ("\n".join(line) for line in lines)
        return Values.joined([self._said, *(_values_of(text, self._language) for text in texts)])

    @cached_property
    def _said(self) -> Values:
        """The values of what is given beside documents: a patient's words outlive no answer."""
        return Values.of(self._given, self._language)

    @cached_property
    def _headings(self) -> frozenset[str]:
        """Lines above the text of several units: they say what a unit is about, and negate nothing in it."""
        lines = Counter(line for units in self._documents for unit in units for line in unit.split("\n")[:-1])
        return frozenset(line.strip() for line, count in lines.items() if count > 1)


@remember_texts(_TEXTS_KEPT)
def _values_of(text: str, language: Language) -> Values:
    return Values.of(text, language)


# Features


_MARKS = {word: name for name, words in word_groups("en_marks").items() for word in words}
_WORD = r"[^\W_]+(?:'[^\W\d_]+)*"
_TOKEN = re.compile(rf"{_WORD}|[.,;:!?()]")
_ITEM = re.compile(r"^\d{1,3}[.)] ", re.MULTILINE)
"""The number of a list item: an answer numbers its own steps."""
_CONDITIONS = frozenset({"if", "unless", "until", "before", "after", "even"})
OPPOSITE = (frozenset({"before", "after"}), frozenset({"until", "after"}), frozenset({"if", "unless"}))
_LIMITS = {"more": "most", "less": "least"}
"""What a comparison limits to after a negation: "no more than"."""
_SIDES = {"least": "least", "more": "least", "most": "most", "less": "most"}


@dataclass(frozen=True)
class Piece:
    """One sentence or line of a text, or several joined."""

    text: str
    stems: Mapping[str, tuple[bool, str]]
    """Stem of each content word, in order: whether a negation, and which condition, stands before it."""
    marks: Counter[str]
    """Function words by class of ``en_marks``."""
    limits: Mapping[str, str]
    """"least" or "most" by number."""

    @staticmethod
    def joined(pieces: Sequence[Piece]) -> Piece:
        stems: dict[str, tuple[bool, str]] = {}
        limits: dict[str, str] = {}
        for piece in pieces:
            limits |= piece.limits
            for stem, (negated, condition) in piece.stems.items():
                earlier = stems.get(stem, (True, condition))
                stems[stem] = (earlier[0] and negated, earlier[1] or condition)
        return Piece("", stems, sum((piece.marks for piece in pieces), Counter[str]()), limits)

    @cached_property
    def sides(self) -> frozenset[str]:
        """The sides that its limits name, with and without a number: "within the hour"."""
        return frozenset(side for mark, side in _SIDES.items() if self.marks[mark])

    @cached_property
    def conditions(self) -> frozenset[str]:
        return _CONDITIONS & self.marks.keys()


class _Text:
    """A parsed text."""

    def __init__(self, text: str, language: Language) -> None:
        text = _ITEM.sub("", text)
        self.pieces = [piece_of(span.text, language) for span in split_sentences(text)]
        self.weights = {
            language.stem(word): LEAST_WEIGHT + language.rarity(word)
            for word in language.content_words(text)
            if word not in _MARKS
        }


def piece_of(text: str, language: Language) -> Piece:
    """Return one sentence or line, parsed."""
    stems: dict[str, tuple[bool, str]] = {}
    limits: dict[str, str] = {}
    marks: Counter[str] = Counter()
    content = set(language.content_words(text)) - _MARKS.keys()
    left = 0
    condition = side = before = number = ""
    words = _TOKEN.findall(fold(text))
    if len(words) > 1 and _MARKS.get(words[0]) == "negation" and not words[1].isalnum():
        del words[0]  # "No, it is free" replies to a question.
    for word in words:
        mark = "negation" if word.endswith("n't") else _MARKS.get(word, "")
        if mark in _LIMITS and _MARKS.get(before) == "negation":  # "no more than" is a limit, no negation
            mark, left = _LIMITS[mark], 0
            marks["negation"] -= 1
        elif mark in _LIMITS and before in {"or", "and"}:  # "2 or more"
            limits[number] = _SIDES[mark]
        elif before == "up" and word == "to":
            mark = "most"
        elif (word in {"least", "most"} and before != "at") or (mark == "if" and before == "even"):
            mark = ""  # "most plans"
        marks[mark] += 1
        if mark == "unless" or (word in content and denied_by(word, language)):
            marks["negation"] += 1
        if mark == "negation":
            left = _SCOPE
        elif mark in _CONDITIONS:
            condition = mark
        elif mark in _SIDES:
            side = _SIDES[mark]
        elif not word[0].isalnum():
            left, condition, side = 0, "", ""
        elif value := _number(word):
            number = value
            if side:
                limits[number], side = side, ""
        if word in content:
            stem = language.stem(word)
            earlier = stems.get(stem, (True, ""))
            stems[stem] = (earlier[0] and left > 0, earlier[1] or condition)
            left -= 1
        before = word
    return Piece(text, stems, +marks, limits)


@lru_cache(maxsize=20_000)
def _number(token: str) -> str:
    return next(iter(quantities(token).values), "")


def _features(claim: _Text, units: Sequence[_Text], pieces: Sequence[Piece]) -> dict[str, float]:
    """``units``: the cited ones, and what is given. ``pieces``: of the cited units, without headings."""
    held = {stem: weight for unit in units for stem, weight in unit.weights.items()}

    def repeated(piece: Piece) -> float:
        return sum(claim.weights.get(stem, 0.0) for stem in piece.stems)

    def share(piece: Piece) -> float:
        return repeated(piece) / (sum(held.get(stem, 0.0) for stem in piece.stems) or 1.0)

    told, every = Piece.joined(claim.pieces), Piece.joined(pieces)
    best = max(pieces, key=repeated, default=told)
    there = Piece.joined([piece for piece in pieces if piece is best or share(piece) >= _USED])
    pairs = [(told.stems[stem], there.stems[stem]) for stem in told.stems if stem in there.stems]
    conditions, others = told.conditions, there.conditions
    # One side's "unless" alone is a condition turned round: a paraphrase writes "if" and negates.
    opposite = (
        told.marks["unless"] > 0 == every.marks["unless"]
        or any(frozenset({one[1], other[1]}) in OPPOSITE for one, other in pairs)
        or any(
            conditions & pair and every.conditions & pair and not conditions & pair & every.conditions
            for pair in OPPOSITE
        )
    )
    return {
        "coverage": sum(weight for stem, weight in claim.weights.items() if stem in held)
        / (sum(claim.weights.values()) or 1.0),
        "restated": share(best),
        "negation_added": float(told.marks["negation"] > 0 == every.marks["negation"]),
        "negation_dropped": float(told.marks["negation"] == 0 < there.marks["negation"]),
        "word_negated": float(any(one[0] for one, _ in pairs) and not every.marks["negation"]),
        "word_affirmed": float(any(other[0] and not one[0] for one, other in pairs)),
        "condition_dropped": float(bool(others) and not conditions),
        "condition_changed": float(bool(conditions and others) and conditions != others),
        "opposite": float(opposite),
        "only": float((told.marks["only"] > 0) != (there.marks["only"] > 0)),
        "limit_differs": float(
            bool(told.sides and every.sides and not told.sides & every.sides)
            or any(there.limits.get(number, side) != side for number, side in told.limits.items())
        ),
    }
