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

LEAST_COSINE = 0.4
"""On the scale of the packaged model."""
_EMBEDDED_CHARACTERS = 800
"""Of an answer's text: a longer one is near the model's token limit."""
_NEAREST = 8
"""Wordings that are compared word by word at most; a scalar product takes 15 µs, a reading 60 µs once."""
_WEIGHTS: Mapping[str, float] = {
    "missing": -1.5,
    "added": -3.1,
    "conditions": -0.25,
    "negations": -1.2,
    "unsaid": -1.2,
    "asks": -0.85,
    "frame": -6.5,
}
"""By name of a ``Difference``. These, and the four below, are a logistic regression on paraphrases and
look-alikes of evaluation/approved/tuning_pharmacy.jsonl and on questions that other documents answer."""
_OF_COSINE = 1.1
_OF_TEXT = 2.0
"""Of the cosine of the asked question and the answer's text."""
_OF_DETOUR = 4.5
"""Of how much nearer the asked question is to the answer's text than the approved one is."""
_BIAS = 1.3
_USUAL_TEXT = 0.55
"""Cosine of a question and its answer's text, where that has no vector."""
_LEAST_PROBABILITY = 0.55
_WITHIN_OF_NEAREST = 0.05
"""A wording that is further behind the nearest one in cosine is another question's."""

Reason = Literal["none_near", "code", "number", "opposite", "negation", "differs"]


def embedded_text(text: str) -> str:
    """Return the part of an answer's text that gets a vector."""
    return text[:_EMBEDDED_CHARACTERS]


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """An approved answer that is live, as the desk holds it."""

    item_id: str
    revision: int
    at: datetime
    """When this revision was made."""
    answer: ApprovedAnswer
    text_vector: tuple[float, ...] = ()
    """Unit vector of ``embedded_text``; empty: it is not known."""

    @property
    def embedded_text(self) -> str:
        """What the vector of the answer's text is made of."""
        return embedded_text(self.answer.text)


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
    __slots__ = ("answer", "question", "read", "signs", "to_text", "vector")

    def __init__(
        self, answer: _Answer, question: str, vector: Sequence[float], *, read: ReadQuestion
    ) -> None:
        self.answer = answer
        self.question = question
        self.vector = array("f", vector)
        self.signs = _signs(vector)
        self.read = read
        self.to_text = answer.cosine(self.vector)


class _Answer:
    """What all wordings of an approved answer share."""

    __slots__ = ("live", "told", "vector")

    def __init__(self, live: LiveAnswer, *, told: frozenset[str]) -> None:
        self.live = live
        self.told = told
        self.vector = array("f", live.text_vector)

    def cosine(self, vector: Sequence[float]) -> float:
        """Return the cosine of a unit vector and the answer's text."""
        return sum(map(mul, self.vector, vector)) if self.vector else _USUAL_TEXT


class ApprovedAnswers:
    """The approved answers of one tenant, ready to match. Immutable."""

    def __init__(self, wordings: Sequence[_Wording], *, reader: QuestionReader, scale: CosineScale) -> None:
        self._by_labels: dict[frozenset[str], list[_Wording]] = {}
        for one in wordings:
            self._by_labels.setdefault(frozenset(one.answer.live.answer.labels), []).append(one)
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
        told = (_Answer(live, told=reader.concepts(live.answer.text)) for live in answers)
        wordings = [
            _Wording(answer, question, vector, read=reader.read(question))
            for answer in told
            for question, vector in zip(answer.live.answer.questions, answer.live.answer.vectors, strict=True)
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
        nearest = near[0][0]
        judged = [
            self._judge(wording, cosine, read, vector)
            for cosine, wording in near
            if cosine >= nearest - _WITHIN_OF_NEAREST
        ]
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
        near = [
            (cosine, one)
            for one in wordings
            if (cosine := self._scale.value(sum(map(mul, vector, one.vector)))) >= LEAST_COSINE
            and today < one.answer.live.answer.expires_on
        ]
        near.sort(key=lambda found: -found[0])
        return near

    def _judge(
        self, wording: _Wording, cosine: float, read: ReadQuestion, vector: Sequence[float]
    ) -> Match | NoMatch:
        answer = wording.answer
        difference = self._reader.compare(wording.read, read, told=answer.told)
        to_text = self._scale.value(answer.cosine(vector))
        detour = to_text - self._scale.value(wording.to_text)
        score = _BIAS + _OF_COSINE * cosine + _OF_TEXT * to_text + _OF_DETOUR * detour
        probability = _probability(score, difference)
        if difference.opposed is not None:
            return NoMatch(difference.opposed, answer.live, cosine, probability)
        if probability < _LEAST_PROBABILITY:
            return NoMatch("differs", answer.live, cosine, probability)
        return Match(answer.live, wording.question, cosine, probability)


def _probability(score: float, difference: Difference) -> float:
    score += sum(weight * getattr(difference, name) for name, weight in _WEIGHTS.items())
    return 1.0 / (1.0 + exp(-max(-40.0, min(40.0, score))))


def _signs(vector: Sequence[float]) -> int:
    """Return a bit for each element: whether it is positive."""
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)
