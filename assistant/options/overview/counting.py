"""Counts the answers of one day: how they were made, what agents did with them, and what they quote.

An answer counts on the day (UTC) on which its question was asked, with all marks and sent texts that it has
by now. A count has ids of documents and numbers: no agent, no question, no text. What could single out an
agent is left out before it is stored: ``_without_small_groups``.

Each answer gives a counter of names of ``wire.OverviewCounts``, which is added to the day's total, and to the
rows of its source, desk, group and documents:

    {"questions": 1, "quoted": 1, "sent_as_is": 1, "replied_60_s": 1}
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import Field

from assistant.answer.edits import drafts_of, nearest_draft
from assistant.answer.excerpts import fill_record, gone_from, read_excerpts
from assistant.domain.answers import (
    AnswerRecord,
    FinishReason,
    Mode,
    Outcome,
    StoredSent,
    VerdictLabel,
    source_kind,
)
from assistant.domain.audit import AccessQuery
from assistant.domain.public import PublicModel
from assistant.stores.ports import DocumentTexts
from assistant.stores.records import FoundAnswer, StoredRecords

RULES = 1
"""Increase it when the rules of counting change: stored days are then counted again."""
OTHERS = "other groups"
"""Name of the small groups that are counted together."""
NO_LABEL = "no label"
"""Name of the group of agents without access labels."""
REPLIED_WITHIN_S = (10, 30, 60, 120, 300, 900)
"""Seconds from question to reply: bounds of the numbers ``replied_10_s``, …"""
CONDUCT = (
    *("sent_as_is", "sent_edited", "sent_not_compared", "not_sent", "marked_good", "marked_bad"),
    *(f"replied_{seconds}_s" for seconds in REPLIED_WITHIN_S),
    "replied_later",
)
"""Names of the numbers that tell what agents did. A day with too few agents does not have them."""
_ANSWERS_AT_ONCE = 20
_PAGE = 500
"""Entries of a page of the access log."""
_PAUSE_S = 0.005
"""Pause between groups of answers: each blocks the event loop for some 10 ms."""
_MOST_DOCUMENTS = 2_000
"""Documents of a day that have a row, those of the most answers: some 100 KB. The others count together,
under an empty id."""
Counts = Mapping[str, int]


# Name of a row = its numbers by name.
_Table = dict[str, dict[str, int]]
_NONE: _Table = Field(default_factory=dict[str, dict[str, int]])


class CountedDay(PublicModel):
    """The numbers of one day, by their names in ``OverviewCounts``; those that are 0 are absent."""

    day: date
    rules: str
    """Rules by which it was counted, ``RULES`` and the tenant's smallest group: "1/5"."""
    counted_at: datetime
    is_small: bool = False
    """Whether fewer agents asked than the smallest group has: then it has no groups, and no number of
    ``CONDUCT``."""
    total: dict[str, int]
    sources: _Table = _NONE
    """Numbers by the source that the answer quotes or cites."""
    desks: _Table = _NONE
    """Numbers by the person or desk that the answer names to ask."""
    groups: _Table = _NONE
    """Numbers by the access labels that the agent held: "billing, night"."""
    documents: _Table = _NONE
    """Numbers by the document that the answer quotes or cites; ``teachable`` by the one that was nearest."""


def end_of(day: date) -> datetime:
    """Return midnight (UTC) after a day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


@dataclass(slots=True)
class _Tally:
    """The numbers of a day while it is counted, with the agents, who are not stored."""

    agents: set[str] = field(default_factory=set[str])
    total: Counter[str] = field(default_factory=Counter[str])
    sources: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    desks: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    documents: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # group = its agents, and its numbers
    groups: dict[str, tuple[set[str], Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: (set[str](), Counter[str]()))
    )

    def add(self, record: AnswerRecord, counts: Counter[str]) -> None:
        """Add one answer's numbers to all its rows."""
        self.agents.add(record.agent)
        self.total.update(counts)
        agents, of_group = self.groups[", ".join(record.labels) or NO_LABEL]
        agents.add(record.agent)
        of_group.update(counts)
        if record.escalation is not None:
            self.desks[record.escalation].update(counts)
        source_of = {use.document_id: use.source for use in record.passages}
        rests_on = [name for name in record.sight().quoted if source_kind(name) == "document"]
        for document_id in rests_on:
            self.documents[document_id].update(counts)
        for source in {source_of[name] for name in rests_on if name in source_of}:
            self.sources[source].update(counts)
        if counts["teachable"] and (nearest := _nearest(record)) is not None:
            self.documents[nearest]["teachable"] += 1


class CountDay:
    """Counts days of one tenant, a page of answers at a time. Raises RecordsUnavailableError,
    DependencyError."""

    def __init__(
        self, records: StoredRecords, texts: DocumentTexts, *, near_cosine: float, smallest_group: int
    ) -> None:
        """``near_cosine``: an unanswered question whose best document has at least this cosine is teachable:
        the document could be taught to answer it. ``smallest_group``: agents of a group that may be shown."""
        self._records, self._texts = records, texts
        self._near_cosine, self._smallest_group = near_cosine, smallest_group
        self.rules = f"{RULES}/{smallest_group}"

    async def __call__(self, day: date, *, now: datetime) -> CountedDay:
        tally = _Tally()
        async for group in self._answers(day):
            ended = [answer.record for answer in group if answer.written_until is None]
            asked = [record for record in ended if record.reply_to is None]  # the others are replies
            for record, counts in zip(asked, await asyncio.gather(*map(self._count, asked)), strict=True):
                tally.add(record, counts)
            await asyncio.sleep(_PAUSE_S)
        return _without_small_groups(
            tally, smallest=self._smallest_group, day=day, rules=self.rules, counted_at=now
        )

    async def _answers(self, day: date) -> AsyncIterator[Sequence[FoundAnswer]]:
        """Yield the day's answers, those in progress too, up to ``_ANSWERS_AT_ONCE`` at a time."""
        until = end_of(day)
        query = AccessQuery(since=until - timedelta(days=1), until=until, limit=_PAGE)
        page = await self._records.list_accesses(query)
        while True:
            asked = [entry.subject_id for entry in page.entries if entry.kind == "asked"]
            for start in range(0, len(asked), _ANSWERS_AT_ONCE):
                answers = await self._records.find_answers(asked[start : start + _ANSWERS_AT_ONCE])
                yield list(answers.values())
            if page.next_after is None:
                return
            page = await self._records.list_accesses(replace(query, after=page.next_after))

    async def _count(self, record: AnswerRecord) -> Counter[str]:
        """Return the numbers of one answer; of a message that asks nothing, ``thanks`` alone."""
        if record.reading is not None and not record.reading.asks:
            return Counter(thanks=1)
        manner = how_answered(record)
        counts = Counter({"questions": 1, manner: 1})
        if record.is_unanswered and not (record.clarify or (record.reading and record.reading.elements)):
            cosine = record.gate.best_cosine if record.gate is not None else -1.0
            counts["teachable" if cosine >= self._near_cosine and _nearest(record) else "gaps"] += 1
        verdicts, sends = await asyncio.gather(
            self._records.list_verdicts(record.answer_id), self._records.list_sent(record.answer_id)
        )
        if verdicts:
            is_good = verdicts[-1].verdict.label is VerdictLabel.GOOD
            counts["marked_good" if is_good else "marked_bad"] += 1
        if sends:
            counts[await self._edit(record, sends[-1])] += 1
            counts[_replied(sends[0].at - record.asked_at)] += 1
        elif record.mode is not None:
            counts["not_sent"] += 1
        return counts

    async def _edit(self, record: AnswerRecord, stored: StoredSent) -> str:
        """Return how a sent text compares with the draft that it began as: ``sent_as_is`` if it has the same
        words, whatever its Markdown, ``sent_edited``, or ``sent_not_compared`` without a draft."""
        drafts: Sequence[str]
        if stored.sent.reply_id is not None:
            reply = await self._records.get_answer(stored.sent.reply_id)
            drafts = [] if reply is None else [reply.text]
        else:
            shown = await read_excerpts(record.excerpts, self._texts, labels=frozenset(record.labels))
            drafts = [] if gone_from(record, shown) else drafts_of(fill_record(record, shown))
        if not drafts:
            return "sent_not_compared"
        return "sent_edited" if nearest_draft(drafts, stored.sent.text)[1] else "sent_as_is"


def how_answered(record: AnswerRecord) -> str:
    """Return the name of the number that tells how an answer was made; each answer counts in exactly one."""
    if record.outcome in (Outcome.CANCELLED, Outcome.DISCONNECTED):
        return "stopped"
    if record.outcome is Outcome.FAILED or record.finish_reason is FinishReason.SOURCES_ONLY:
        return "failed"
    if record.mode is None:
        return "not_found"
    if record.mode is Mode.WRITTEN:
        return "written"
    return "approved" if record.approved else "quoted"


def _replied(after: timedelta) -> str:
    """Return the name of the number for a time to reply: "replied_60_s" for 45 s."""
    seconds = after.total_seconds()
    return next((f"replied_{most}_s" for most in REPLIED_WITHIN_S if seconds <= most), "replied_later")


def _nearest(record: AnswerRecord) -> str | None:
    """Return the id of the best document; None where there is none, or only approved answers."""
    names = (use.document_id for use in (*record.candidates, *record.passages))
    return next((name for name in names if source_kind(name) == "document"), None)


def _without_small_groups(tally: _Tally, *, smallest: int, **of_day: Any) -> CountedDay:
    """Return the day without numbers that would tell what a few agents did.

    The smallest groups are joined until they are large enough together: a single group that is left out could
    be computed from the total. A day with too few agents has no numbers of ``CONDUCT`` in any table: they
    could be computed from a longer period less a shorter one. ``of_day``: other fields of the day.
    """
    is_small = len(tally.agents) < smallest

    def shown(counts: Counts) -> dict[str, int]:
        return {name: n for name, n in counts.items() if n and not (is_small and name in CONDUCT)}

    return CountedDay(
        is_small=is_small,
        total=shown(tally.total),
        sources={name: shown(counts) for name, counts in tally.sources.items()},
        desks={name: shown(counts) for name, counts in tally.desks.items()},
        groups={} if is_small else {name: shown(n) for name, n in _joined(tally.groups, smallest)},
        documents={name: shown(counts) for name, counts in _most_used(tally.documents)},
        **of_day,
    )


def _joined(
    groups: Mapping[str, tuple[set[str], Counter[str]]], smallest: int
) -> Iterator[tuple[str, Counts]]:
    """Yield groups that are large enough, and ``OTHERS``, the smallest ones joined."""
    agents, joined = set[str](), Counter[str]()
    for name, (of_group, counts) in sorted(groups.items(), key=lambda group: (len(group[1][0]), group[0])):
        if len(of_group) < smallest or 0 < len(agents) < smallest:
            agents |= of_group
            joined.update(counts)
        else:
            yield name, counts
    if agents:
        yield OTHERS, joined


def _most_used(documents: Mapping[str, Counter[str]]) -> Iterator[tuple[str, Counts]]:
    """Yield the documents of the most answers; under "" the sum of the others."""
    ranked = sorted(documents.items(), key=lambda document: (-document[1]["questions"], document[0]))
    yield from ranked[:_MOST_DOCUMENTS]
    if rest := ranked[_MOST_DOCUMENTS:]:
        yield "", sum((counts for _, counts in rest), Counter[str]())
