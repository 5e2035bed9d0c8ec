"""Groups questions that ask for the same, all at once: average linkage of what two questions have in common.

It knows of all questions what the assignment of one after the other cannot know of the first ones
(docs/decisions/0049-gaps.md). It is deterministic, in pure Python, for some hundreds of questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import exp, inf, log, sqrt
from operator import mul

from assistant.learning.gaps import gap_id, wordings
from assistant.text.language import Language

MOST_QUESTIONS = 500
"""At once: 125,000 pairs are 0.9 s of CPU."""
_LEAST_SIMILARITY = 0.135
"""On average between the questions of two groups that become one."""
_WORDS_WEIGH = 0.2
"""Of shared words, by their rarity among the questions, in a pair's similarity; the cosine is the rest."""
_EVEN, _STEEPNESS = 0.35, 10.0
"""Where a pair counts half, and how fast: a pair that is far apart must not outweigh three near ones."""
_PRIOR_QUESTIONS = 5
"""Questions at the origin that the mean begins with."""


@dataclass(frozen=True, slots=True)
class GroupedQuestion:
    question: str
    vector: Sequence[float]
    """Unit vector of its wordings, of one model for all."""
    held: str | None = None
    """The group that it must stay in; questions held in different groups are never put together."""


def group(questions: Sequence[GroupedQuestion], language: Language) -> list[int]:
    """Return the number of each question's group, from 0, by the order of the first ones. Takes 0.9 s of CPU
    for 500 questions."""
    rows = _similarities(questions, language)
    members = {place: [place] for place in range(len(questions))}
    first: dict[str, int] = {}
    for place, one in enumerate(questions):
        if one.held is not None and first.setdefault(one.held, place) != place:
            _join(first[one.held], place, rows, members)
    for place in first.values():
        for other in first.values():
            rows[place][other] = -inf
    best = {place: _nearest(place, rows, members) for place in members if len(members) > 1}
    while len(members) > 1:
        similarity, place, other = max((best[one][0], -one, -best[one][1]) for one in members)
        if similarity < _LEAST_SIMILARITY:
            break
        kept, gone = min(-place, -other), max(-place, -other)
        _join(kept, gone, rows, members)
        del best[gone]
        for one in members:
            if len(members) > 1 and (one == kept or best[one][1] in (kept, gone)):
                best[one] = _nearest(one, rows, members)
    groups = [0] * len(questions)
    for number, kept in enumerate(sorted(members)):
        for place in members[kept]:
            groups[place] = number
    return groups


def _join(kept: int, gone: int, rows: list[list[float]], members: dict[int, list[int]]) -> None:
    """Put a group into another one: its similarity to a third is the mean over all pairs."""
    added = members.pop(gone)
    share = len(added) / (len(added) + len(members[kept]))
    members[kept] += added
    for other in members:
        mean = (1 - share) * rows[kept][other] + share * rows[gone][other]
        rows[kept][other] = rows[other][kept] = mean


def _nearest(place: int, rows: list[list[float]], members: Mapping[int, object]) -> tuple[float, int]:
    """Return the greatest similarity to another group, and that group."""
    row = rows[place]
    nearest = max((other for other in members if other != place), key=lambda other: (row[other], -other))
    return row[nearest], nearest


def _similarities(questions: Sequence[GroupedQuestion], language: Language) -> list[list[float]]:
    vectors = _around_mean([one.vector for one in questions])
    words = _weighed_words([one.question for one in questions], language)
    rows = [[1.0] * len(questions) for _ in questions]
    for place, vector in enumerate(vectors):
        mine = words[place]
        for other in range(place):
            theirs = words[other]
            shared = sum(weight * theirs[word] for word, weight in mine.items() if word in theirs)
            closeness = (1 - _WORDS_WEIGH) * sum(map(mul, vector, vectors[other])) + _WORDS_WEIGH * shared
            rows[place][other] = rows[other][place] = 1 / (1 + exp(_STEEPNESS * (_EVEN - closeness)))
    return rows


def _around_mean(vectors: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the unit vectors from the mean, which is drawn to the origin."""
    mean = [sum(values) / (len(vectors) + _PRIOR_QUESTIONS) for values in zip(*vectors, strict=True)]
    centred: list[list[float]] = []
    for vector in vectors:
        moved = [value - middle for value, middle in zip(vector, mean, strict=True)]
        length = sqrt(sum(map(mul, moved, moved))) or 1.0
        centred.append([value / length for value in moved])
    return centred


def _weighed_words(questions: Sequence[str], language: Language) -> list[dict[str, float]]:
    """Return the stems of each question in general words, weighed by rarity; their squares sum to 1."""
    stems = [language.content_stems(wordings(question, language)[1]) for question in questions]
    common = Counter(stem for found in stems for stem in found)
    weighed: list[dict[str, float]] = []
    for found in stems:
        weights = {stem: log((1 + len(questions)) / common[stem]) for stem in sorted(found)}
        length = sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        weighed.append({stem: weight / length for stem, weight in weights.items()})
    return weighed


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """An unanswered question of a case, and the gap that it is in now."""

    case_id: str
    gap: str
    question: str
    vector: Sequence[float]
    is_held: bool
    """Whether a person acted on a case of its gap, which therefore keeps its questions and its id."""


def regrouped(questions: Sequence[OpenQuestion], language: Language) -> dict[str, str]:
    """Return the gap by case, of the questions that change theirs; the oldest question comes first.

    A group keeps the gap that a person acted on, else the one that most of its questions are in.
    """
    read = [GroupedQuestion(one.question, one.vector, one.gap if one.is_held else None) for one in questions]
    groups: dict[int, list[OpenQuestion]] = {}
    for one, number in zip(questions, group(read, language), strict=True):
        groups.setdefault(number, []).append(one)
    held = {one.gap for one in questions if one.is_held}
    shares = [
        (gap not in held, -size, number, gap)
        for number, members in groups.items()
        for gap, size in Counter(one.gap for one in members).items()
    ]
    named: dict[int, str] = {}
    for _, _, number, gap in sorted(shares):
        if number not in named and gap not in named.values():
            named[number] = gap
    for number, members in groups.items():
        if number not in named:  # all its gaps went to groups with more of their questions
            named[number] = next(
                gap
                for gap in (gap_id(f"{one.question}{' ' * extra}") for extra in count() for one in members)
                if gap not in named.values()
            )
    return {
        one.case_id: named[number]
        for number, members in groups.items()
        for one in members
        if one.gap != named[number]
    }
