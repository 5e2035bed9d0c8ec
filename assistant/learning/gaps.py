"""Puts questions that the knowledge base does not answer into gaps: questions that ask for the same.

A question joins the gap whose questions are nearest to it, or opens one. So a gap keeps its id, and nothing
is clustered anew (docs/decisions/0049-gaps.md). Gaps are read from the desk's cases; no text is kept apart.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from operator import mul

import structlog

from assistant.answering.ports import AnswerRecords, TextEmbedder
from assistant.domain.clock import Clock, Deadline
from assistant.domain.desk import Case, DeskKind
from assistant.domain.errors import AssistantError, RecordsUnavailableError
from assistant.learning.ports import DeskStore
from assistant.text.language import Language, fold, word_groups

_LEAST_SIMILARITY = 0.22
"""Of a question to a gap, by vectors around their mean."""
_LEAST_SHARE_OF_WORDS = 0.12
"""Of a question to a gap where one of them has no vector."""
_NEAREST_WEIGHS = 0.3
"""Of the nearest question in the similarity to a gap; the mean over its questions is the rest."""
_PRIOR_QUESTIONS = 5
"""Questions at the origin that the mean begins with: of few questions it would say nothing."""
_LEAST_WORD_WEIGHT = 0.15
_MOST_QUESTIONS = 1_000
_MOST_OF_A_GAP = 20
"""Questions, the newest, that stand for a gap."""
_MOST_CASES = 5_000
_READ_AT_ONCE = 16
_EMBED_AT_ONCE = 32
_EMBEDDING_TIMEOUT_S = 10.0
_log = structlog.get_logger(__name__)


def gap_id(question: str) -> str:
    """Return the id of the gap that a question opens: it holds no word of it."""
    return f"gap-{hashlib.sha256(fold(question).encode()).hexdigest()[:24]}"


def subject_words(question: str, language: Language) -> str:
    """Return the words of a question that say what it is about, without who asks and how; the question where
    none is left. Phrases such as "caller wants to know" would bring unlike questions together."""
    said = word_groups("en_patient_cues")
    asides = said["people"] | said["asking"]
    return " ".join(word for word in language.content_words(question) if word not in asides) or question


def of_subject(vector: Sequence[float], subject: Sequence[float]) -> list[float]:
    """Return the unit vector between a question's and that of its subject words."""
    total = [first + second for first, second in zip(vector, subject, strict=True)]
    length = sqrt(sum(map(mul, total, total))) or 1.0
    return [value / length for value in total]


@dataclass(frozen=True, slots=True)
class _Question:
    words: Mapping[str, float]
    """Weights by stem."""
    vector: tuple[float, ...] | None


@dataclass(slots=True)
class Gaps:
    """Gaps in memory: at most 1,000 questions, 20 a gap. Not for several threads at once."""

    language: Language
    _questions: dict[str, list[_Question]] = field(default_factory=dict[str, list[_Question]])
    _count: int = 0
    _sum: list[float] = field(default_factory=list[float])
    _vectors: int = 0

    def add(self, gap: str, question: str, vector: Sequence[float] | None) -> None:
        """Keep a question as one of a gap."""
        self._keep(gap, self._read(question, vector))

    def assign(self, question: str, vector: Sequence[float] | None) -> str:
        """Return the id of the nearest gap, or of a new one, and keep the question in it. Takes some 25 ms of
        CPU at 1,000 questions."""
        asked = self._read(question, vector)
        mean = self._mean(asked)
        best, nearest = 0.0, None
        for gap, members in self._questions.items():
            closeness = self._closeness(asked, members, mean)
            if closeness > best:
                best, nearest = closeness, gap
        gap = nearest if nearest is not None and best >= 1.0 else gap_id(question)
        self._keep(gap, asked)
        return gap

    def _read(self, question: str, vector: Sequence[float] | None) -> _Question:
        language = self.language
        words = {
            language.stem(word): _LEAST_WORD_WEIGHT + language.rarity(word)
            for word in language.content_words(question)
        }
        return _Question(words, tuple(vector) if vector else None)

    def _keep(self, gap: str, question: _Question) -> None:
        members = self._questions.setdefault(gap, [])
        if len(members) == _MOST_OF_A_GAP:
            members.pop(0)
            self._count -= 1
        members.append(question)
        self._count += 1
        if question.vector is not None:
            if len(self._sum) != len(question.vector):  # another embedding model
                self._sum, self._vectors = [0.0] * len(question.vector), 0
            self._sum = [total + value for total, value in zip(self._sum, question.vector, strict=True)]
            self._vectors += 1
        while self._count > _MOST_QUESTIONS:
            oldest = next(iter(self._questions))
            self._count -= len(self._questions.pop(oldest))

    def _mean(self, asked: _Question) -> list[float] | None:
        """Return the mean of the questions' vectors, drawn to the origin; None without a vector."""
        if asked.vector is None:
            return None
        if len(self._sum) != len(asked.vector):
            return [0.0] * len(asked.vector)
        return [total / (self._vectors + _PRIOR_QUESTIONS) for total in self._sum]

    def _closeness(self, asked: _Question, members: Sequence[_Question], mean: list[float] | None) -> float:
        """Return the similarity to a gap in units of the least one that joins."""
        if mean is not None and asked.vector is not None:
            dimensions = len(asked.vector)
            vectors = [one.vector for one in members if one.vector and len(one.vector) == dimensions]
            if vectors:
                return _joined(_cosines(asked.vector, vectors, mean)) / _LEAST_SIMILARITY
        return _joined([_shared(asked.words, one.words) for one in members]) / _LEAST_SHARE_OF_WORDS


def _joined(similarities: Sequence[float]) -> float:
    mean = sum(similarities) / len(similarities)
    return (1 - _NEAREST_WEIGHS) * mean + _NEAREST_WEIGHS * max(similarities)


def _cosines(
    vector: Sequence[float], others: Sequence[Sequence[float]], mean: Sequence[float]
) -> list[float]:
    """Return the cosines of a unit vector to others, all seen from ``mean``."""
    centred = [value - middle for value, middle in zip(vector, mean, strict=True)]
    length = sqrt(sum(map(mul, centred, centred))) or 1.0
    of_mean, mean_square = sum(map(mul, mean, centred)), sum(map(mul, mean, mean))
    cosines: list[float] = []
    for other in others:
        square = sum(map(mul, other, other)) - 2 * sum(map(mul, other, mean)) + mean_square
        cosines.append((sum(map(mul, other, centred)) - of_mean) / (length * (sqrt(max(square, 0.0)) or 1.0)))
    return cosines


def _shared(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Return the weighted share of words that two questions have in common, from 0 to 1."""
    total = sum(first.values()) + sum(second.values())
    return 2 * sum(weight for word, weight in first.items() if word in second) / total if total else 0.0


class DeskGaps:
    """``GapClusters`` over the cases of a desk, for one process. They are read at the first question."""

    def __init__(
        self,
        store: DeskStore,
        *,
        records: AnswerRecords,
        language: Language,
        clock: Clock,
        embedder: TextEmbedder | None = None,
    ) -> None:
        self._store = store
        self._records = records
        self._language = language
        self._clock = clock
        self._embedder = embedder
        self._gaps: Gaps | None = None
        self._lock = asyncio.Lock()

    async def assign(self, question: str, vector: Sequence[float] | None) -> str:
        async with self._lock:
            if self._gaps is None:
                self._gaps = await self._read()
            if vector is not None:
                subjects = await self._embedded([subject_words(question, self._language)])
                vector = of_subject(vector, subjects[0]) if subjects else None
            return await asyncio.to_thread(self._gaps.assign, question, vector)

    async def _read(self) -> Gaps:
        """Return the gaps of the newest cases. Raises RecordsUnavailableError."""
        gaps = Gaps(self._language)
        found = await self._cases()
        questions: list[tuple[str, str]] = []
        for start in range(0, len(found), _READ_AT_ONCE):
            part = found[start : start + _READ_AT_ONCE]
            records = await asyncio.gather(*(self._records.get_answer(answer) for _, answer in part))
            questions += [
                (gap, record.question) for (gap, _), record in zip(part, records, strict=True) if record
            ]
        vectors = await self._vectors([question for _, question in questions])
        for (gap, question), vector in zip(questions, vectors, strict=True):
            gaps.add(gap, question, vector)
        return gaps

    async def _cases(self) -> list[tuple[str, str]]:
        """Return gap and answer of the newest cases with a gap, the oldest first."""
        found: list[tuple[str, str]] = []
        for item in await self._store.list(DeskKind.CASE, limit=_MOST_CASES):
            try:
                case = Case.model_validate_json(item.body)
            except ValueError as error:
                raise RecordsUnavailableError(
                    f"The desk's case {item.item_id} was written by a later release. Update this process."
                ) from error
            if case.gap is not None:
                found.append((case.gap, case.answer_id))
            if len(found) == _MOST_QUESTIONS:
                break
        return found[::-1]

    async def _vectors(self, questions: Sequence[str]) -> list[list[float] | None]:
        vectors: list[list[float] | None] = []
        for start in range(0, len(questions), _EMBED_AT_ONCE):
            part = questions[start : start + _EMBED_AT_ONCE]
            whole = await self._embedded(part)
            subjects = whole and await self._embedded([subject_words(one, self._language) for one in part])
            if whole and subjects:
                vectors += map(of_subject, whole, subjects)
            else:
                vectors += [None] * len(part)
        return vectors

    async def _embedded(self, questions: Sequence[str]) -> list[list[float]] | None:
        if self._embedder is None:
            return None
        deadline = Deadline.after(_EMBEDDING_TIMEOUT_S, clock=self._clock)
        try:
            return await self._embedder.embed(questions, deadline=deadline)
        except AssistantError as error:
            _log.warning("gaps_without_vectors", reason=error.code, questions=len(questions))
            return None
