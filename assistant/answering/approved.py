"""Matches questions with the answers that reviewers approved.

The nearest wordings are found by cosine; then words decide (``assistant.text.questions``), because a vector
does not tell "a child" from "an adult". A small logistic model weighs what the two questions do not share.
docs/decisions/0046 has the measurements.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from heapq import nsmallest
from math import exp
from operator import mul
from typing import Literal

from assistant.answering.retrieve import CosineScale
from assistant.answering.understand import Vocabulary
from assistant.domain.desk import ApprovedAnswer
from assistant.text.questions import Difference, QuestionReader, ReadQuestion

LEAST_COSINE = 0.45
"""On the scale of the packaged model. Of the tuning set's paraphrases 5 % are further away."""
_NEAREST = 8
"""Wordings that are compared word by word at most; a scalar product takes 15 µs, a reading 60 µs once."""
_WEIGHTS: Mapping[str, float] = {
    "cosine": 1.7,
    "missing": -5.0,
    "added": -4.2,
    "names": -0.2,
    "conditions": -1.1,
    "negations": -2.2,
    "frame": -7.4,
}
"""Logistic regression on evaluation/approved/tuning_pharmacy.jsonl, by name of a ``Difference``."""
_BIAS = 4.5
_LEAST_PROBABILITY = 0.72
"""At which 2 of the 125 look-alikes of the tuning set pass."""

Reason = Literal["none_near", "code", "number", "opposite", "negation", "differs"]


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """An approved answer that is live, as the desk holds it."""

    item_id: str
    revision: int
    at: datetime
    """When this revision was made."""
    answer: ApprovedAnswer


@dataclass(frozen=True, slots=True)
class Match:
    """The approved answer of a question."""

    live: LiveAnswer
    wording: str
    """The approved question that is nearest."""
    cosine: float
    probability: float
    """That both questions mean the same, by the model of this module."""


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Why a question has no approved answer: by the nearest one that is open to its reader."""

    reason: Reason
    live: LiveAnswer | None = None
    cosine: float = 0.0
    probability: float = 0.0


NONE_NEAR = NoMatch("none_near")


class _Wording:
    __slots__ = ("live", "read", "signs", "text", "vector")

    def __init__(self, live: LiveAnswer, text: str, vector: Sequence[float], read: ReadQuestion) -> None:
        self.live = live
        self.text = text
        self.vector = array("f", vector)
        self.signs = _signs(vector)
        self.read = read


class ApprovedAnswers:
    """The approved answers of one tenant, ready to match. Immutable."""

    def __init__(self, wordings: Sequence[_Wording], *, reader: QuestionReader, scale: CosineScale) -> None:
        self._by_labels: dict[frozenset[str], list[_Wording]] = {}
        for one in wordings:
            self._by_labels.setdefault(frozenset(one.live.answer.labels), []).append(one)
        self._reader = reader
        self._scale = scale

    @classmethod
    def of(
        cls, answers: Iterable[LiveAnswer], *, vocabulary: Vocabulary, scale: CosineScale
    ) -> ApprovedAnswers:
        """Return answers that have a vector for each question, by the model that embeds what is asked."""
        reader = QuestionReader(
            vocabulary.language, meanings=lambda question: vocabulary.expand(question)[len(question) :]
        )
        wordings = [
            _Wording(live, text, vector, reader.read(text))
            for live in answers
            for text, vector in zip(live.answer.questions, live.answer.vectors, strict=True)
        ]
        return cls(wordings, reader=reader, scale=scale)

    def __len__(self) -> int:
        """Return the number of wordings."""
        return sum(map(len, self._by_labels.values()))

    def match(
        self, question: str, vector: Sequence[float], *, labels: frozenset[str], today: date
    ) -> Match | NoMatch:
        """Return the approved answer of a question, or why there is none.

        ``vector``: of the question as asked, of unit length. The caller checks the answer's sources.
        """
        near = self._near(vector, labels=labels, today=today)
        if not near:
            return NONE_NEAR
        read = self._reader.read(question)
        judged = [self._judge(wording, cosine, read) for cosine, wording in near]
        matches = [one for one in judged if isinstance(one, Match)]
        return max(matches, key=lambda one: one.probability) if matches else judged[0]

    def _near(
        self, vector: Sequence[float], *, labels: frozenset[str], today: date
    ) -> list[tuple[float, _Wording]]:
        """Return the open wordings that are near enough, the nearest first, each with its scaled cosine.

        The signs of a vector's elements tell the angle to 5 degrees or so, in 0.1 µs instead of 15.
        """
        open_to = [one for needed, one in self._by_labels.items() if needed <= labels]
        wordings = open_to[0] if len(open_to) == 1 else [one for group in open_to for one in group]
        if len(wordings) > _NEAREST:
            signs = _signs(vector)
            wordings = nsmallest(_NEAREST, wordings, key=lambda one: (one.signs ^ signs).bit_count())
        asked = array("f", vector)
        near = [
            (cosine, one)
            for one in wordings
            if (cosine := self._scale.value(sum(map(mul, asked, one.vector)))) >= LEAST_COSINE
            and today < one.live.answer.expires_on
        ]
        near.sort(key=lambda found: -found[0])
        return near

    def _judge(self, wording: _Wording, cosine: float, read: ReadQuestion) -> Match | NoMatch:
        difference = self._reader.compare(wording.read, read)
        probability = _probability(difference, cosine)
        if difference.opposed is not None:
            return NoMatch(difference.opposed, wording.live, cosine, probability)
        if probability < _LEAST_PROBABILITY:
            return NoMatch("differs", wording.live, cosine, probability)
        return Match(wording.live, wording.text, cosine, probability)


def _probability(difference: Difference, cosine: float) -> float:
    score = _BIAS + _WEIGHTS["cosine"] * cosine
    score += sum(weight * getattr(difference, name) for name, weight in _WEIGHTS.items() if name != "cosine")
    return 1.0 / (1.0 + exp(-max(-40.0, min(40.0, score))))


def _signs(vector: Sequence[float]) -> int:
    """Return a bit for each element: whether it is positive."""
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)
