"""Puts questions that the knowledge base does not answer into gaps: questions that ask for the same.

A question joins the gap whose questions are nearest to it, or opens one. So a gap keeps its id, and nothing
is clustered anew (docs/decisions/0049-gaps.md). Gaps are read from the desk's cases; no text is kept apart.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from math import sqrt
from operator import mul

import structlog

from assistant.answering.ports import AnswerRecords, TextEmbedder
from assistant.domain.clock import Clock, Deadline
from assistant.domain.desk import Case, DeskKind
from assistant.domain.errors import AssistantError, RecordsUnavailableError
from assistant.learning.ports import DeskStore
from assistant.text.language import Language, fold, word_groups

_LEAST_SIMILARITY = 0.2
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
_READ_AGAIN_AFTER_S = 900.0
_EMBEDDING_TIMEOUT_S = 10.0
_WORDINGS = 3
_WORD = re.compile(r"[a-z0-9&'$%-]+")
_log = structlog.get_logger(__name__)


def gap_id(question: str) -> str:
    """Return the id of the gap that a question opens: it holds no word of it."""
    return f"gap-{hashlib.sha256(fold(question).encode()).hexdigest()[:24]}"


def wordings(question: str, language: Language) -> tuple[str, str, str]:
    """Return a question as it is, in general words, and only the general words that carry its subject.

    In general words a medicine, a country or an insurer is named by its class, and words of the setting
    ("clinic") are left out: they bring unlike questions together. So do phrases such as "caller wants to
    know", which the subject leaves out.
    """
    classes, setting, asides = _said()
    general: list[str] = []
    for word in _WORD.findall(fold(question)):
        known = classes.get(word) or classes.get(word.rstrip("s")) or word
        if known not in setting and (known == word or general[-1:] != [known]):
            general.append(known)
    plain = " ".join(general) or question
    subject = " ".join(word for word in language.content_words(plain) if word not in asides) or plain
    return question, plain, subject


def mean_vector(vectors: Sequence[Sequence[float]]) -> list[float]:
    """Return the unit vector in the middle of the vectors of a question's wordings."""
    total = [sum(values) for values in zip(*vectors, strict=True)]
    length = sqrt(sum(map(mul, total, total))) or 1.0
    return [value / length for value in total]


@cache
def _said() -> tuple[Mapping[str, str], frozenset[str], frozenset[str]]:
    """Return the class by word, the words of the setting, and words that say who asks and how."""
    groups = word_groups("en_question_classes")
    setting = groups.pop("setting")
    classes = {word: name for name, words in groups.items() for word in words}
    classes.update(dict.fromkeys(word_groups("en_never_names")["medicines"], "medicine"))
    cues = word_groups("en_patient_cues")
    return classes, setting, cues["people"] | cues["asking"]


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
    """``GapClusters`` over the cases of a desk, for one process. They are read at the first question, and
    again every 15 minutes, since the upkeep groups open questions anew."""

    def __init__(
        self,
        store: DeskStore,
        *,
        records: AnswerRecords,
        language: Language,
        clock: Clock,
        embedder: TextEmbedder | None = None,
        model: Callable[[], str] = lambda: "",
    ) -> None:
        """``model`` names the model behind ``embedder``: when it changes, the gaps are read again."""
        self._store = store
        self._language = language
        self._clock = clock
        self._open = partial(GapQuestions, records, language=language, clock=clock, embedder=embedder)
        self._questions = self._open()
        self._model = model
        self._read_with = ""
        self._gaps: Gaps | None = None
        self._read_again_at_s = 0.0
        self._lock = asyncio.Lock()

    async def assign(self, question: str, vector: Sequence[float] | None) -> str:
        async with self._lock:
            model, due_s = self._model(), self._read_again_at_s
            if model != self._read_with:  # vectors of two models are never compared
                self._questions, self._gaps = self._open(), None
            if self._gaps is None or self._clock.monotonic_s() >= due_s:
                self._gaps, self._read_with = await self._read(), model
                self._read_again_at_s = self._clock.monotonic_s() + _READ_AGAIN_AFTER_S
            if vector is not None:
                vectors = await self._questions.embedded([question], whole=[vector])
                # Another model became live in this moment: this question is compared by its words.
                vector = vectors[0] if vectors and self._model() == model else None
            return await asyncio.to_thread(self._gaps.assign, question, vector)

    async def _read(self) -> Gaps:
        """Return the gaps of the newest cases. Raises RecordsUnavailableError."""
        gaps = Gaps(self._language)
        found = await self._cases()
        questions = await self._questions.of([answer for _, answer in found])
        for gap, answer in found:
            if answer in questions:
                gaps.add(gap, *questions[answer])
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


class GapQuestions:
    """Reads the questions of answers, and their vectors, and keeps them: at most 1,000."""

    def __init__(
        self,
        records: AnswerRecords,
        *,
        language: Language,
        clock: Clock,
        embedder: TextEmbedder | None = None,
    ) -> None:
        self._records = records
        self._language = language
        self._clock = clock
        self._embedder = embedder
        self._kept: dict[str, tuple[str, list[float] | None]] = {}

    async def of(self, answers: Sequence[str]) -> Mapping[str, tuple[str, list[float] | None]]:
        """Return question and vector by answer, of the answers whose record is there; None as the vector
        while the model is down. Raises RecordsUnavailableError."""
        missing = [answer for answer in answers if self._kept.get(answer, ("", None))[1] is None]
        for start in range(0, len(missing), _READ_AT_ONCE):
            part = missing[start : start + _READ_AT_ONCE]
            records = await asyncio.gather(*(self._records.get_answer(answer) for answer in part))
            found = {record.answer_id: record.question for record in records if record is not None}
            vectors = await self.embedded(list(found.values())) or [None] * len(found)
            for (answer, question), vector in zip(found.items(), vectors, strict=True):
                self._kept[answer] = question, vector
        kept = {answer: self._kept[answer] for answer in answers if answer in self._kept}
        while len(self._kept) > _MOST_QUESTIONS:
            self._kept.pop(next(iter(self._kept)))
        return kept

    async def embedded(
        self, questions: Sequence[str], *, whole: Sequence[Sequence[float]] | None = None
    ) -> list[list[float]] | None:
        """Return the vectors of questions over their wordings, None while the model is down; ``whole`` are
        those of the questions as they are, where they are known."""
        said = [wordings(question, self._language) for question in questions]
        columns: list[Sequence[Sequence[float]]] = [] if whole is None else [whole]
        for place in range(len(columns), _WORDINGS):
            made = await self._embed([one[place] for one in said])
            if made is None:
                return None
            columns.append(made)
        return [mean_vector(parts) for parts in zip(*columns, strict=True)]

    async def _embed(self, texts: Sequence[str]) -> list[list[float]] | None:
        if self._embedder is None or not texts:
            return None
        deadline = Deadline.after(_EMBEDDING_TIMEOUT_S, clock=self._clock)
        try:
            return await self._embedder.embed(texts, deadline=deadline)
        except AssistantError as error:
            _log.warning("gaps_without_vectors", reason=error.code, questions=len(texts))
            return None
