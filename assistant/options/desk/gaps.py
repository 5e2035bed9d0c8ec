"""Puts questions that the knowledge base does not answer into gaps: questions that ask for the same.

A new question is a gap of its own, or in the one of the same words. The upkeep of the service groups the open
ones by their vectors, all at once: average linkage of the cosines around their mean
(docs/decisions/0049-gaps.md). It is deterministic and does not depend on the order of arrival. The clustering
is our own, since the service has neither numpy nor scipy, which would bring 170 MB into its image.

    group([q("Is there parking?"), q("Where can patients park?"), q("Who repairs headsets?")])
    # two groups: both questions on parking, the one on headsets

In the clustering a group has the number of its first question. ``rows[a][b]`` is the similarity of groups a
and b, and ``members[a]`` has the numbers of the questions in group a. Joining two groups changes both in
place.
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
"""Questions that are grouped at once: 125,000 pairs are 1 s of CPU."""
_LEAST_SIMILARITY = 0.17
"""Two groups become one if the mean similarity of their pairs of questions is at least this (decision
0049)."""
_OTHER_VALUES = -1.0
"""Similarity of two questions with different numbers or codes."""
_PRIOR_QUESTIONS = 5
"""The mean is taken as if so many more questions were at the origin. Otherwise the mean of two questions
would be half way between them, and they would look opposite."""
_GROUPED = "Grouped anew with the open questions."
"""Note of the revision that changes a case's gap."""
_EMBEDDED_AT_ONCE = 16
_EMBEDDING_TIMEOUT_S = 10.0
_log = structlog.get_logger(__name__)


async def question_vectors(
    questions: Sequence[str], *, embedder: TextEmbedder, language: Language, deadline: Deadline
) -> list[list[float]]:
    """Return a unit vector for each question, midway between its own and that of its content words alone.

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
    """Id from ``gap_id``."""
    question: str
    vector: Sequence[float]
    """Unit vector of ``question_vectors``; one model for all questions."""
    is_held: bool = False
    """Whether a person acted on a case of its gap, which therefore keeps its questions and its id."""


def group(questions: Sequence[OpenQuestion]) -> list[list[OpenQuestion]]:
    """Return the groups, in the order of their first questions.

    Questions held in one gap stay together, those held in different gaps apart. Then the two most similar
    groups are joined, again and again, while they are similar enough; of equal pairs the one with the
    earliest questions. ``best`` has each group's similarity to its nearest one, and that one's number.
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
    """Put the group ``gone`` into ``kept``, and set ``kept``'s similarities to the mean over all pairs."""
    added = members.pop(gone)
    share = len(added) / (len(added) + len(members[kept]))
    members[kept] += added
    for other in members:
        mean = (1 - share) * rows[kept][other] + share * rows[gone][other]
        rows[kept][other] = rows[other][kept] = mean


def _nearest(place: int, rows: list[list[float]], members: Mapping[int, object]) -> tuple[float, int]:
    """Return the greatest similarity to another group, and that group's number; of equal ones the lowest."""
    row = rows[place]
    nearest = max((other for other in members if other != place), key=lambda other: (row[other], -other))
    return row[nearest], nearest


def _similarities(questions: Sequence[OpenQuestion]) -> list[list[float]]:
    """Return the cosine of each pair after the mean is taken from all vectors, (n, n), symmetric.

    The mean is what all questions of a tenant share. Pairs with other numbers or codes get ``_OTHER_VALUES``.
    """
    total = [sum(values) for values in zip(*(question.vector for question in questions), strict=True)]
    mean = [value / (len(questions) + _PRIOR_QUESTIONS) for value in total]
    vectors = [_unit(map(sub, question.vector, mean)) for question in questions]
    values = [quantities(question.question) for question in questions]
    rows = [[1.0] * len(questions) for _ in questions]
    for place, vector in enumerate(vectors):
        for other in range(place):
            differ = _have_other_values(values[place], values[other])
            cosine = _OTHER_VALUES if differ else sum(map(mul, vector, vectors[other]))
            rows[place][other] = rows[other][place] = cosine
    return rows


def _unit(vector: Iterable[float]) -> list[float]:
    values = list(vector)
    length = sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


def regrouped(questions: Sequence[OpenQuestion]) -> dict[str, str]:
    """Return the new gap by case id, for the cases whose gap changes. ``questions``: the oldest first.

    A group keeps the gap that a person acted on, else the one that most of its questions are in. A gap stays
    with one group only: another group with questions of it takes a new id.
    """
    groups = group(questions)
    held = {question.gap for question in questions if question.is_held}
    claims = [
        (gap not in held, -size, number, gap)
        for number, members in enumerate(groups)
        for gap, size in Counter(member.gap for member in members).items()
    ]
    gap_of_group: dict[int, str] = {}
    for _, _, number, gap in sorted(claims):
        if number not in gap_of_group and gap not in gap_of_group.values():
            gap_of_group[number] = gap
    for number, members in enumerate(groups):
        if number not in gap_of_group:  # all its gaps went to groups with more of their questions
            gap_of_group[number] = next(
                gap
                for gap in (  # spaces give another id where the question's own is taken
                    gap_id(f"{member.question}{' ' * extra}") for extra in count() for member in members
                )
                if gap not in gap_of_group.values()
            )
    return {
        member.case_id: gap_of_group[number]
        for number, members in enumerate(groups)
        for member in members
        if member.gap != gap_of_group[number]
    }


class GapUpkeep:
    """Groups the unanswered questions of one tenant anew, all at once. For one event loop.

    A gap on which a person acted keeps its questions and its id; others may join it. Where several processes
    work at once, the first one's revisions stay.
    """

    def __init__(self, services: DeskServices, language: Language) -> None:
        self._services = services
        self._language = language
        self._kept: dict[str, tuple[str, list[float]]] = {}
        """Question and vector by answer id, so that each question is embedded once."""
        self._done: frozenset[tuple[str, int]] = frozenset()
        """Case ids with their revisions after the last complete pass: nothing is done while no other is
        there."""

    async def run(self) -> None:
        """Work every 2 minutes until cancelled."""
        while True:
            await asyncio.sleep(REGROUP_EVERY_S)
            try:
                await self()
            except AssistantError as error:
                _log.warning("gaps_not_grouped", reason=error.code)

    async def __call__(self) -> int:
        """Group once. Return how many cases changed their gap: 0 where no case is new or changed, and where
        the embedder fails. Raises RecordsUnavailableError."""
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
        """Fill ``_kept`` with the questions and vectors of these answers, and drop all others.

        Answers without a record are left out. Return False where the embedder failed.
        """
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
        """Yield the questions of ``_kept`` in the order of their cases."""
        held = {case.gap for item, case in cases if _was_acted_on(item, case)}
        for item, case in cases:
            if case.answer_id in self._kept and case.gap is not None:
                question, vector = self._kept[case.answer_id]
                yield OpenQuestion(item.item_id, case.gap, question, vector, is_held=case.gap in held)

    async def _put(self, changes: Mapping[str, str], cases: Sequence[tuple[DeskItem, Case]]) -> set[str]:
        """Store the new gaps by case id; return the ids of the cases that were changed."""
        changed: set[str] = set()
        for item, case in cases:
            if item.item_id in changes:
                body = case.model_copy(update={"gap": changes[item.item_id]})
                with suppress(ConflictError):  # somebody acts on it now, so its gap stays
                    await self._services.put_next(item, body, by=UPKEEP, note=_GROUPED)
                    changed.add(item.item_id)
        return changed


def _was_acted_on(item: DeskItem, case: Case) -> bool:
    """Return whether a person changed the case."""
    return item.by not in (INTAKE, UPKEEP) or case.state is not CaseState.OPEN or case.assigned_to is not None


def _have_other_values(first: Quantities, second: Quantities) -> bool:
    """Return whether both questions name numbers, or both codes, and none of them is the same.

    The number 1 does not count: "one" is often a pronoun.
    """
    pairs = ((first.codes, second.codes), (first.values - {"1"}, second.values - {"1"}))
    return any(ours and theirs and not ours & theirs for ours, theirs in pairs)
