"""Puts questions that the knowledge base does not answer into gaps: questions that ask for the same.

A new question is a gap of its own, or in the one of the same words. The upkeep of the service groups the open
ones by their vectors, all at once: average linkage of the cosines around their mean
(docs/decisions/0049-gaps.md). It is deterministic and does not depend on the order of arrival. The clustering
is our own, since the service has neither numpy nor scipy, which would bring 170 MB into its image.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import inf, sqrt
from operator import add, mul, sub

import structlog

from assistant.domain.clock import Deadline
from assistant.domain.desk import Case, CaseState, DeskItem
from assistant.domain.errors import AssistantError, ConflictError
from assistant.options.desk.cases import UPKEEP, DeskServices, read_cases, read_records
from assistant.options.desk.intake import INTAKE, gap_id
from assistant.stores.ports import TextEmbedder
from assistant.text.language import Language, Quantities, quantities

REGROUP_EVERY_S = 120.0
MOST_QUESTIONS = 500
"""At once: 125,000 pairs are 1 s of CPU."""
_LEAST_SIMILARITY = 0.17
"""On average between the questions of two groups that become one."""
_OTHER_VALUES = -1.0
"""Similarity of two questions with different numbers or codes."""
_PRIOR_QUESTIONS = 5
"""Questions at the origin that the mean begins with: of few questions it would say nothing."""
_GROUPED = "Grouped anew with the open questions."
_EMBEDDED_AT_ONCE = 16
_EMBEDDING_TIMEOUT_S = 10.0
_log = structlog.get_logger(__name__)


async def question_vectors(
    questions: Sequence[str], *, embedder: TextEmbedder, language: Language, deadline: Deadline
) -> list[list[float]]:
    """Return the middle of each question's vector and that of its content words alone.

    Phrases such as "caller wants to know" bring unlike questions together. Raises as the embedder.
    """
    words = [" ".join(language.content_words(question)) or question for question in questions]
    vectors = await embedder.embed([*questions, *words], deadline=deadline)
    pairs = zip(vectors[: len(words)], vectors[len(words) :], strict=True)
    return [_unit(map(add, whole, part)) for whole, part in pairs]


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """An unanswered question of a case, and the gap that it is in now."""

    case_id: str
    gap: str
    question: str
    vector: Sequence[float]
    """Unit vector, of one model for all."""
    is_held: bool = False
    """Whether a person acted on a case of its gap, which therefore keeps its questions and its id."""


def group(questions: Sequence[OpenQuestion]) -> list[list[OpenQuestion]]:
    """Return the groups, in the order of their first questions.

    Questions held in one gap stay together, those held in different gaps apart.
    """
    rows = _similarities(questions)
    members = {place: [place] for place in range(len(questions))}
    _hold(questions, rows, members)
    best = {place: _nearest(place, rows, members) for place in members if len(members) > 1}
    while len(members) > 1:
        similarity, place, other = max((best[member][0], -member, -best[member][1]) for member in members)
        if similarity < _LEAST_SIMILARITY:
            break
        kept, gone = min(-place, -other), max(-place, -other)
        _join(kept, gone, rows, members)
        del best[gone]
        for member in members:
            if len(members) > 1 and (member == kept or best[member][1] in (kept, gone)):
                best[member] = _nearest(member, rows, members)
    return [[questions[place] for place in members[kept]] for kept in sorted(members)]


def _hold(questions: Sequence[OpenQuestion], rows: list[list[float]], members: dict[int, list[int]]) -> None:
    """Join the questions that are held in one gap, and keep those of different gaps apart."""
    first: dict[str, int] = {}
    for place, question in enumerate(questions):
        if question.is_held and first.setdefault(question.gap, place) != place:
            _join(first[question.gap], place, rows, members)
    for place in first.values():
        for other in first.values():
            rows[place][other] = -inf


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


def _similarities(questions: Sequence[OpenQuestion]) -> list[list[float]]:
    """Return the cosine of each pair around the mean, which is drawn to the origin."""
    total = [sum(values) for values in zip(*(question.vector for question in questions), strict=True)]
    mean = [value / (len(questions) + _PRIOR_QUESTIONS) for value in total]
    vectors = [_unit(map(sub, question.vector, mean)) for question in questions]
    values = [quantities(question.question) for question in questions]
    rows = [[1.0] * len(questions) for _ in questions]
    for place, vector in enumerate(vectors):
        for other in range(place):
            is_other = _have_other_values(values[place], values[other])
            cosine = _OTHER_VALUES if is_other else sum(map(mul, vector, vectors[other]))
            rows[place][other] = rows[other][place] = cosine
    return rows


def _unit(vector: Iterable[float]) -> list[float]:
    values = list(vector)
    length = sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def regrouped(questions: Sequence[OpenQuestion]) -> dict[str, str]:
    """Return the gap by case, of the questions that change theirs; the oldest question comes first.

    A group keeps the gap that a person acted on, else the one that most of its questions are in.
    """
    groups = group(questions)
    held = {question.gap for question in questions if question.is_held}
    shares = [
        (gap not in held, -size, number, gap)
        for number, members in enumerate(groups)
        for gap, size in Counter(member.gap for member in members).items()
    ]
    named: dict[int, str] = {}
    for _, _, number, gap in sorted(shares):
        if number not in named and gap not in named.values():
            named[number] = gap
    for number, members in enumerate(groups):
        if number not in named:  # all its gaps went to groups with more of their questions
            named[number] = next(
                gap
                for gap in (
                    gap_id(f"{member.question}{' ' * extra}") for extra in count() for member in members
                )
                if gap not in named.values()
            )
    return {
        member.case_id: named[number]
        for number, members in enumerate(groups)
        for member in members
        if member.gap != named[number]
    }


class GapUpkeep:
    """Groups the open unanswered questions of one tenant anew, all at once. For one event loop.

    A gap on which a person acted keeps its questions and its id; others may join it. Of several processes
    that work at once the first one's revisions stand.
    """

    def __init__(self, services: DeskServices, language: Language) -> None:
        self._services = services
        self._language = language
        self._kept: dict[str, tuple[str, list[float]]] = {}
        """Question and vector by answer."""
        self._done: frozenset[tuple[str, int]] = frozenset()
        """Cases and their revisions as the last whole pass left them."""

    async def run(self) -> None:
        """Work every 2 minutes until cancelled."""
        while True:
            await asyncio.sleep(REGROUP_EVERY_S)
            try:
                await self()
            except AssistantError as error:
                _log.warning("gaps_not_grouped", reason=error.code)

    async def __call__(self) -> int:
        """Return how many cases changed their gap. Where no case is new, and without the model, nothing is
        done. Raises RecordsUnavailableError."""
        cases = await self._cases()
        if self._done.issuperset((item.item_id, item.revision) for item, _ in cases):
            return 0
        if not await self._read([case.answer_id for _, case in cases]):
            return 0
        questions = list(self._open_questions(cases))
        changes = await asyncio.to_thread(regrouped, questions)
        changed = await self._put(changes, cases)
        self._done = frozenset((item.item_id, item.revision + (item.item_id in changed)) for item, _ in cases)
        _log.info("gaps_grouped", questions=len(questions), changed=len(changed))
        return len(changed)

    async def _cases(self) -> list[tuple[DeskItem, Case]]:
        """Return the newest cases with a gap, the oldest first."""
        cases = [
            (item, case)
            async for item, case in read_cases(self._services.store, CaseState)
            if case.gap is not None
        ]
        return sorted(cases, key=lambda pair: (pair[1].opened_at, pair[0].item_id))[-MOST_QUESTIONS:]

    async def _read(self, answers: Sequence[str]) -> bool:
        """Keep the questions of these answers with their vectors, each embedded once; return whether all of
        those whose record is there are kept."""
        self._kept = {answer: self._kept[answer] for answer in answers if answer in self._kept}
        services, missing = self._services, [answer for answer in answers if answer not in self._kept]
        for start in range(0, len(missing), _EMBEDDED_AT_ONCE):
            records = await read_records(services.records, missing[start : start + _EMBEDDED_AT_ONCE])
            deadline = Deadline.after(_EMBEDDING_TIMEOUT_S, clock=services.clock)
            questions = [record.question for record in records]
            try:
                vectors = await question_vectors(
                    questions, embedder=services.embedder, language=self._language, deadline=deadline
                )
            except AssistantError as error:
                _log.warning("gaps_without_vectors", reason=error.code, questions=len(questions))
                return False
            for record, vector in zip(records, vectors, strict=True):
                self._kept[record.answer_id] = record.question, vector
        return True

    def _open_questions(self, cases: Sequence[tuple[DeskItem, Case]]) -> Iterator[OpenQuestion]:
        held = {case.gap for item, case in cases if _was_acted_on(item, case)}
        for item, case in cases:
            if case.answer_id in self._kept and case.gap is not None:
                question, vector = self._kept[case.answer_id]
                yield OpenQuestion(item.item_id, case.gap, question, vector, is_held=case.gap in held)

    async def _put(self, changes: Mapping[str, str], cases: Sequence[tuple[DeskItem, Case]]) -> set[str]:
        """Store the gaps by case; return the cases that took theirs."""
        changed: set[str] = set()
        for item, case in cases:
            if item.item_id in changes:
                body = case.model_copy(update={"gap": changes[item.item_id]})
                with suppress(ConflictError):  # somebody acts on it now, so its gap stays
                    await self._services.put_next(item, body, by=UPKEEP, note=_GROUPED)
                    changed.add(item.item_id)
        return changed


def _was_acted_on(item: DeskItem, case: Case) -> bool:
    """Whether a person changed the case."""
    return item.by not in (INTAKE, UPKEEP) or case.state is not CaseState.OPEN or case.assigned_to is not None


def _have_other_values(first: Quantities, second: Quantities) -> bool:
    """Return whether two questions name different numbers or different codes. A 1 says nothing."""
    pairs = ((first.codes, second.codes), (first.values - {"1"}, second.values - {"1"}))
    return any(ours and theirs and not ours & theirs for ours, theirs in pairs)
