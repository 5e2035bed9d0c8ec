"""Matches questions with the answers that reviewers approved.

The same question gets its answer. To a near one the answer is offered, and the agent decides: a vector does
not tell "a child" from "an adult". docs/decisions/0046 has the measurements.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from heapq import nsmallest
from operator import itemgetter, mul
from typing import Literal

from assistant.answering.rank import CosineScale
from assistant.domain.desk import ApprovedAnswer
from assistant.text.language import Language, quantities

LEAST_COSINE = 0.48
"""Of a question that is offered an answer, on the scale of the packaged model. Chosen on
evaluation/approved/tuning_pharmacy.jsonl, like the two below."""
_UNCOUNTED = frozenset({"0", "1", "2"})
"""Numbers that may differ: "one" is a pronoun, "two plans" may be said by naming both."""
_SHORTEST_NAME = 4
"""Characters: a shorter word that is no common one is an abbreviation."""
_NEAREST = 8
"""Wordings whose cosine is computed at most: a scalar product takes 15 µs."""

Reason = Literal["none_near", "number", "name"]


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
    """The approved answer of the same question: it is served."""

    live: LiveAnswer
    wording: str
    """The approved question that is the same."""
    cosine: float


@dataclass(frozen=True, slots=True)
class Near:
    """The approved answer of a near question: it is offered."""

    live: LiveAnswer
    wording: str
    """The approved question that is nearest."""
    cosine: float


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Why a question has no approved answer: by the nearest one that is open to its reader."""

    reason: Reason
    live: LiveAnswer | None = None
    cosine: float = 0.0


NONE_NEAR = NoMatch("none_near")


@dataclass(frozen=True, slots=True)
class _Wording:
    live: LiveAnswer
    question: str
    vector: Sequence[float]
    signs: int
    same: str
    """``Language.same_question`` of the question."""
    numbers: frozenset[str]
    names: frozenset[str]
    told: frozenset[str]
    """Names in the item's questions and text."""


@dataclass(frozen=True, slots=True)
class ApprovedAnswers:
    """The approved answers of one tenant, ready to match."""

    wordings: tuple[_Wording, ...]
    language: Language
    scale: CosineScale
    told: frozenset[str]
    """Names in any item's questions and text."""

    @classmethod
    def of(cls, answers: Iterable[LiveAnswer], *, language: Language, scale: CosineScale) -> ApprovedAnswers:
        """Return answers that have a vector for each question, by the model that embeds what is asked."""
        wordings = tuple(
            _Wording(
                live,
                question,
                array("f", vector),
                _signs(vector),
                language.same_question(question),
                _numbers(question),
                _names(question, language),
                told,
            )
            for live in answers
            for told in [_names(" ".join((*live.answer.questions, live.answer.text)), language)]
            for question, vector in zip(live.answer.questions, live.answer.vectors, strict=True)
        )
        told = frozenset[str]().union(*(wording.told for wording in wordings))
        return cls(wordings, language, scale, told)

    def match(
        self, question: str, vector: Sequence[float], *, labels: frozenset[str], today: date
    ) -> Match | Near | NoMatch:
        """Return the approved answer to serve or to offer, or why there is none.

        ``vector``: of the question as asked, of unit length. The caller checks the answer's sources.
        """
        open_now = [
            wording
            for wording in self.wordings
            if labels.issuperset(wording.live.answer.labels) and today < wording.live.answer.expires_on
        ]
        same = self.language.same_question(question)
        equal = [wording for wording in open_now if wording.same == same]
        cosines = [
            (self.scale.value(sum(map(mul, vector, wording.vector))), wording)
            for wording in _nearest(vector, equal or open_now)
        ]
        if not cosines:
            return NONE_NEAR
        cosine, nearest = max(cosines, key=itemgetter(0))
        if equal:
            return Match(nearest.live, nearest.question, cosine)
        if cosine < LEAST_COSINE:
            return NONE_NEAR
        if _numbers(question) != nearest.numbers:
            return NoMatch("number", nearest.live, cosine)
        names = _names(question, self.language)
        # A rare word that no approved answer has is a misspelling as often as a name.
        if names & self.told - nearest.told and nearest.names - names:
            return NoMatch("name", nearest.live, cosine)
        return Near(nearest.live, nearest.question, cosine)


def _nearest(vector: Sequence[float], wordings: Sequence[_Wording]) -> Sequence[_Wording]:
    """Return the nearest wordings by the signs of their vectors' elements: these tell the angle to 5 degrees
    or so, in 0.1 µs instead of 15."""
    if len(wordings) <= _NEAREST:
        return wordings
    signs = _signs(vector)
    return nsmallest(_NEAREST, wordings, key=lambda wording: (wording.signs ^ signs).bit_count())


def _numbers(question: str) -> frozenset[str]:
    found = quantities(question)
    return found.values - _UNCOUNTED | found.codes


def _names(text: str, language: Language) -> frozenset[str]:
    """Return the stems of a text's rare words: medicines, forms, plans."""
    stems = {word: language.stem(word) for word in language.content_words(text)}
    return frozenset(
        stem
        for word, stem in stems.items()
        if len(word) >= _SHORTEST_NAME and word.isalpha() and not language.is_common(word)
        if not language.is_common(stem)
    )


def _signs(vector: Sequence[float]) -> int:
    """Return a bit for each element: whether it is positive."""
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)
