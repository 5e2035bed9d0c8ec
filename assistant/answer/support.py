"""Checks one written sentence against the units that it cites, without a model.

A sentence is *withheld* when it has a value (number, dose, date, time, code, proper name) that neither a
document of the prompt nor ``given`` has. It is marked *check* when it cites nothing, when the cited units
lack one of its values, or when a small trained head finds that they do not support it: they have too few of
its words, or other negations, conditions and limits. Every other sentence is *supported*.
``evaluation/trials.py`` judges the check; docs/decisions/0028 has the figures.

The head compares a *claim*, the sentence, with *pieces*: the sentences of the cited units. A *limit* has a
number and a side: "at most 30 days", "2 or more".
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
"""Weight of each feature of ``_features``, below the code of ``REASONS`` that it gives, fitted on the tuning
half: {"words_missing": {"coverage": 1.73, …}, …}."""
BIAS: float = _HEAD["bias"]
"""With it a weighted sum of 0 is as likely supported as not."""
_LEAST_SUM = log(0.54 / 0.46)
"""A sentence is supported from a probability of 54 % on: a wrong one that is called supported costs more than
a mark too many."""
_CITATION = re.compile(r"\[\d{1,3}(?:\.\d{1,3})?(?:\s?[,;\u2013-]\s?\d{1,3}(?:\.\d{1,3})?)*\]")
"""A citation of a model: "[2.4]", "[1.3, 1.5]"."""
LEAST_WEIGHT = 0.25
"""Weight of the most common content word; the rarest weighs 1.25."""
_TEXTS_KEPT = 1_000
"""Documents, and units that sentences cite, whose values are kept for the next answer."""
_USED = 0.5
"""Least share of a piece's weight that a sentence repeats to restate the piece."""
_SCOPE = 3
"""So many content words after a negation are negated, up to the next punctuation mark."""


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
    """Checks the sentences of one answer against the documents of its prompt.

    Example: document 1 has one unit, "Claims\\n\\nThe Claims Desk sends the letter within 2 business days."::

        checker = SupportChecker([[unit]], given=["When is it sent?"], language=language("en"))
        checker.check("The Claims Desk sends it within two business days.", [(1, 1)])  # supported
        checker.check("The Claims Desk sends it within 3 business days.", [(1, 1)])  # withheld, ("3 day",)
        checker.check("The Claims Desk sends it within two business days.", [])  # check, ("no_citation",)
    """

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
        features = self.features(plain, cited)
        sums = {
            reason: sum(weight * features[name] for name, weight in weights.items())
            for reason, weights in WEIGHTS.items()
        }
        if sum(sums.values()) + BIAS >= _LEAST_SUM:
            return Checked(Support.SUPPORTED)
        # the reason that speaks most against it; where none does, the one that speaks least for it
        reason = min(sums, key=lambda name: (sums[name] >= 0, sums[name]))
        return Checked(Support.UNSUPPORTED, "check", (), (reason,))

    def features(self, sentence: str, cited: Sequence[str]) -> dict[str, float]:
        """Return the features of the head, by name. ``sentence``: without citations. ``cited``: texts of
        units."""
        claim = _Text(sentence, self._language)
        units = [self._unit(text) for text in (*cited, self._given)]
        pieces = [piece for unit in units[:-1] for piece in unit.pieces if piece.text not in self._headings]
        return _features(claim, units, pieces)

    def _cited(self, document: int, unit: int | None) -> Sequence[str]:
        """Return the units that a citation names."""
        units = self._documents[document - 1]
        return units if unit is None else (units[unit - 1],)

    def _unit(self, text: str) -> _Text:
        if text not in self._units:
            self._units[text] = _Text(text, self._language)
        return self._units[text]

    @cached_property
    def _known(self) -> Values:
        """The values of all documents and of what is given."""
        # Each unit repeats the title and its headings: each line is read once.
        lines = (
            dict.fromkeys(line for unit in units for line in unit.split("\n")) for units in self._documents
        )
        texts = ("\n".join(line) for line in lines)
        return Values.joined([self._said, *(_values_of(text, self._language) for text in texts)])

    @cached_property
    def _said(self) -> Values:
        """The values of what is given beside documents. They are not cached for later answers, as those of
        documents are: they may be a patient's words."""
        return Values.of(self._given, self._language)

    @cached_property
    def _headings(self) -> frozenset[str]:
        """Lines above the text of several units, titles and headings. They are no pieces: their negations and
        conditions are not those of the text below."""
        lines = Counter(line for units in self._documents for unit in units for line in unit.split("\n")[:-1])
        return frozenset(line.strip() for line, count in lines.items() if count > 1)


@remember_texts(_TEXTS_KEPT)
def _values_of(text: str, language: Language) -> Values:
    return Values.of(text, language)


# Features


_MARKS = {word: name for name, words in word_groups("en_marks").items() for word in words}
"""Class of a function word: {"not": "negation", "unless": "unless", "within": "most", …}."""
_WORD = r"[^\W_]+(?:'[^\W\d_]+)*"
_TOKEN = re.compile(rf"{_WORD}|[.,;:!?()]")
_ITEM = re.compile(r"^\d{1,3}[.)] ", re.MULTILINE)
"""The number of a list item: an answer numbers its own steps."""
_CONDITIONS = frozenset({"if", "unless", "until", "before", "after", "even"})
"""Classes of words that begin a condition."""
OPPOSITE = (frozenset({"before", "after"}), frozenset({"until", "after"}), frozenset({"if", "unless"}))
"""Conditions of which each turns the other round."""
_LIMITS = {"more": "most", "less": "least"}
"""The side of a comparison after a negation: "no more than 30" is at most 30."""
_SIDES = {"least": "least", "more": "least", "most": "most", "less": "most"}
"""The side of a limit by the class of its word: "over 30" (more) is at least 30."""


@dataclass(frozen=True)
class Piece:
    """One sentence or line of a text, or several joined.

    Example: in "Never refill before Monday." the stem of "refill" is (True, ""), that of "Monday"
    (True, "before"), and the marks count one "negation" and one "before".
    """

    text: str
    """Empty for several joined."""
    stems: Mapping[str, tuple[bool, str]]
    """Stem of each content word, in order: whether it is negated wherever it stands, and the class of the
    first condition before it, "" without one."""
    marks: Counter[str]
    """How many function words it has of each class of ``en_marks``."""
    limits: Mapping[str, str]
    """The side of each limited number: {"30": "most"}."""

    @staticmethod
    def joined(pieces: Sequence[Piece]) -> Piece:
        """Return several pieces as one, without text."""
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
        """The sides of its limits, also of those without a number: "within the hour"."""
        return frozenset(side for mark, side in _SIDES.items() if self.marks[mark])

    @cached_property
    def conditions(self) -> frozenset[str]:
        """The classes of its conditions."""
        return _CONDITIONS & self.marks.keys()


class _Text:
    """A parsed text: a claim, a unit, or what is given."""

    def __init__(self, text: str, language: Language) -> None:
        text = _ITEM.sub("", text)
        self.pieces = [piece_of(span.text, language) for span in split_sentences(text)]
        # by stem of each content word, its weight
        self.weights = {
            language.stem(word): LEAST_WEIGHT + language.rarity(word)
            for word in language.content_words(text)
            if word not in _MARKS
        }


def piece_of(text: str, language: Language) -> Piece:
    """Return one sentence or line, parsed, word by word from the left."""
    stems: dict[str, tuple[bool, str]] = {}
    limits: dict[str, str] = {}
    marks: Counter[str] = Counter()
    content = set(language.content_words(text)) - _MARKS.keys()
    negated_words = 0  # content words that the last negation still negates
    # a condition holds to the next punctuation mark, the side of a limit to the next number
    condition = side = previous = number = ""
    words = _TOKEN.findall(fold(text))
    if len(words) > 1 and _MARKS.get(words[0]) == "negation" and not words[1].isalnum():
        del words[0]  # "No, it is free" replies to a question.
    for word in words:
        mark = "negation" if word.endswith("n't") else _MARKS.get(word, "")
        if mark in _LIMITS and _MARKS.get(previous) == "negation":  # "no more than" is a limit, no negation
            mark, negated_words = _LIMITS[mark], 0
            marks["negation"] -= 1
        elif mark in _LIMITS and previous in {"or", "and"}:  # "2 or more"
            limits[number] = _SIDES[mark]
        elif previous == "up" and word == "to":
            mark = "most"
        elif (word in {"least", "most"} and previous != "at") or (mark == "if" and previous == "even"):
            mark = ""  # "most plans"; "even if", whose condition is "even"
        marks[mark] += 1
        if mark == "unless" or (word in content and denied_by(word, language)):  # "unopened"
            marks["negation"] += 1
        if mark == "negation":
            negated_words = _SCOPE
        elif mark in _CONDITIONS:
            condition = mark
        elif mark in _SIDES:
            side = _SIDES[mark]
        elif not word[0].isalnum():  # a punctuation mark
            negated_words, condition, side = 0, "", ""
        elif value := _number(word):
            number = value
            if side:
                limits[number], side = side, ""
        if word in content:
            stem = language.stem(word)
            earlier = stems.get(stem, (True, ""))
            stems[stem] = (earlier[0] and negated_words > 0, earlier[1] or condition)
            negated_words -= 1
        previous = word
    return Piece(text, stems, +marks, limits)  # +: without classes of count 0


@lru_cache(maxsize=20_000)
def _number(token: str) -> str:
    """Return the number that a word is, in one form; empty for another word."""
    return next(iter(quantities(token).values), "")


def _features(claim: _Text, units: Sequence[_Text], pieces: Sequence[Piece]) -> dict[str, float]:
    """Return the features of the head, by name. ``units``: the cited ones, and what is given. ``pieces``: of
    the cited units, without headings.

    The claim as a whole (``claimed``) is compared with all pieces (``every``), and with those that it
    restates (``restated``): the one with which it has most words in common, and each one of which it repeats
    half.
    """
    held = {stem: weight for unit in units for stem, weight in unit.weights.items()}

    def repeated(piece: Piece) -> float:
        """Return the weight of the piece's words that the claim has."""
        return sum(claim.weights.get(stem, 0.0) for stem in piece.stems)

    def share(piece: Piece) -> float:
        """Return the same as a share of all words of the piece, 0 to 1."""
        return repeated(piece) / (sum(held.get(stem, 0.0) for stem in piece.stems) or 1.0)

    claimed, every = Piece.joined(claim.pieces), Piece.joined(pieces)
    best = max(pieces, key=repeated, default=claimed)
    restated = Piece.joined([piece for piece in pieces if piece is best or share(piece) >= _USED])
    # of each stem that both have, (negated, condition) in the claim and in the restated pieces
    pairs = [(claimed.stems[stem], restated.stems[stem]) for stem in claimed.stems if stem in restated.stems]
    conditions, others = claimed.conditions, restated.conditions
    # "unless" in the claim alone turns a condition round: a paraphrase writes "if" and negates.
    opposite = (
        claimed.marks["unless"] > 0 == every.marks["unless"]
        or any(frozenset({ours[1], theirs[1]}) in OPPOSITE for ours, theirs in pairs)
        or any(
            conditions & pair and every.conditions & pair and not conditions & pair & every.conditions
            for pair in OPPOSITE
        )
    )
    return {
        "coverage": sum(weight for stem, weight in claim.weights.items() if stem in held)
        / (sum(claim.weights.values()) or 1.0),
        "restated": share(best),
        "negation_added": float(claimed.marks["negation"] > 0 == every.marks["negation"]),
        "negation_dropped": float(claimed.marks["negation"] == 0 < restated.marks["negation"]),
        "word_negated": float(any(ours[0] for ours, _ in pairs) and not every.marks["negation"]),
        "word_affirmed": float(any(theirs[0] and not ours[0] for ours, theirs in pairs)),
        "condition_dropped": float(bool(others) and not conditions),
        "condition_changed": float(bool(conditions and others) and conditions != others),
        "opposite": float(opposite),
        "only": float((claimed.marks["only"] > 0) != (restated.marks["only"] > 0)),
        "limit_differs": float(
            bool(claimed.sides and every.sides and not claimed.sides & every.sides)
            or any(restated.limits.get(number, side) != side for number, side in claimed.limits.items())
        ),
    }
