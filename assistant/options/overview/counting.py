"""Counts the answers of one day: how they were made, what became of them, and what they rest on.

An answer counts on the day (UTC) on which its question was asked, with all marks and sent texts that it has
by now. A count has ids of documents and numbers: no agent, no question, no text. What could single out an
agent is left out before it is stored: ``_without_small_groups``.

The names of the counts, and how they sum (``wire.OverviewCounts`` has the same names):

- An answer is one of ``thanks`` (a greeting or thanks, counted nowhere else) and ``questions``.
- ``questions`` = ``written`` + ``quoted`` + ``approved`` + ``not_found`` + ``failed`` + ``stopped``.
- ``gaps`` is a part of ``not_found``: no document answers the question (``AnswerRecord.is_gap``, by which the
  review desk has its gaps). ``teachable`` is a part of ``gaps``: a document was near (a cosine of
  ``near_cosine`` or more), which may need another wording.
- ``sent_as_is`` + ``sent_edited`` + ``sent_own`` + ``sent_not_compared`` = the sum of all ``replied_…``: an
  answer of which a text was sent, by what its agent began with. ``not_sent``: the other answers with a text.
- ``marked_good``, ``marked_bad``: an answer by its last mark.

Example: an answer from a document, which the agent edited and sent after 40 s, is counted as
``{"questions": 1, "quoted": 1, "sent_edited": 1, "replied_60_s": 1}``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import Field

from assistant.answer.edits import begun_with, nearest_text
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

RULES = 3
"""Increase it when answers are counted in another way: stored days are counted again."""
OTHERS = "others"
NO_LABEL = "no label"
NO_ROW = ""
"""The answers of which a table has no row: not shown, and joined to others where they are few. What they lack
of the total would else tell what one agent did."""
REPLIED_WITHIN_S = (10, 30, 60, 120, 300, 900)
CONDUCT = (
    *("sent_as_is", "sent_edited", "sent_own", "sent_not_compared", "not_sent"),
    *("marked_good", "marked_bad"),
    *(f"replied_{seconds}_s" for seconds in REPLIED_WITHIN_S),
    "replied_later",
)
"""Numbers of what agents did, which a day or a row with too few agents does not have."""
_ANSWERS_AT_ONCE = 20
_PAGE = 500
_PAUSE_S = 0.005
"""Between groups of answers: each holds the event loop for some 10 ms."""
_MOST_DOCUMENTS = 2_000
"""Documents that a day names, those with the most answers: some 100 KB. ``_most_used`` joins the others."""
Counts = Mapping[str, int]


_Table = Mapping[str, Mapping[str, int]]
_Row = tuple[set[str], Counter[str]]
"""The agents who asked, and the counts of their answers."""
_NONE: _Table = Field(default_factory=dict[str, dict[str, int]])


class CountedDay(PublicModel):
    """The numbers of one day, by their names in ``OverviewCounts``; those that are 0 are absent."""

    day: date
    rules: str
    """By which it was counted: ``RULES`` and the tenant's smallest group."""
    counted_at: datetime
    is_small: bool = False
    """Whether too few agents asked: then it has nothing of ``CONDUCT``, and no groups."""
    total: dict[str, int]
    sources: _Table = _NONE
    """By the source that the answer quotes or cites."""
    desks: _Table = _NONE
    """By whom the answer names to ask."""
    groups: _Table = _NONE
    """By the access labels that the agent held."""
    documents: _Table = _NONE
    """By the document that the answer quotes or cites; ``teachable`` by the one that was near."""


def end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _no_rows() -> dict[str, _Row]:
    return defaultdict(lambda: (set[str](), Counter[str]()))


@dataclass(slots=True)
class _Tally:
    """The counts of a day so far; ``add`` takes one answer after the other."""

    agents: set[str] = field(default_factory=set[str])
    total: Counter[str] = field(default_factory=Counter[str])
    sources: dict[str, _Row] = field(default_factory=_no_rows)
    desks: dict[str, _Row] = field(default_factory=_no_rows)
    documents: dict[str, _Row] = field(default_factory=_no_rows)
    groups: dict[str, _Row] = field(default_factory=_no_rows)

    def add(self, record: AnswerRecord, counts: Counter[str]) -> None:
        """Add an answer's counts to the total, and to each table's row that it belongs to."""
        self.agents.add(record.agent)
        self.total.update(counts)
        rows = [self.groups[", ".join(record.labels) or NO_LABEL], self.desks[record.escalation or NO_ROW]]
        source_of = {use.document_id: use.source for use in record.passages}
        # ``quoted`` has a document once, however often the answer quotes it: it counts once for each
        rests_on = [name for name in record.sight().quoted if source_kind(name) == "document"]
        rows += [self.documents[document_id] for document_id in rests_on or [NO_ROW]]
        sources = {source_of[name] for name in rests_on if name in source_of}
        rows += [self.sources[source] for source in sources or {NO_ROW}]
        for agents, of_row in rows:
            agents.add(record.agent)
            of_row.update(counts)
        if counts["teachable"] and (nearest := _nearest(record)) is not None:
            self.documents[nearest][1]["teachable"] += 1


class CountDay:
    """Counts days of one tenant, a page of answers at a time. Raises RecordsUnavailableError,
    DependencyError."""

    def __init__(
        self, records: StoredRecords, texts: DocumentTexts, *, near_cosine: float, smallest_group: int
    ) -> None:
        """``near_cosine``: least cosine between a question and a document that is near, but does not answer
        it."""
        self._records, self._texts = records, texts
        self._near_cosine, self._smallest_group = near_cosine, smallest_group
        self.rules = f"{RULES}/{smallest_group}"

    async def __call__(self, day: date, *, now: datetime) -> CountedDay:
        tally = _Tally()
        async for group in self._answers(day):
            ended = [found.record for found in group if found.written_until is None]
            asked = [record for record in ended if record.reply_to is None]  # else a reply to a patient
            for record, counts in zip(asked, await asyncio.gather(*map(self._counts_of, asked)), strict=True):
                tally.add(record, counts)
            await asyncio.sleep(_PAUSE_S)
        return _without_small_groups(
            tally, smallest=self._smallest_group, day=day, rules=self.rules, counted_at=now
        )

    async def _answers(self, day: date) -> AsyncIterator[Sequence[FoundAnswer]]:
        """Yield the day's answers, those in progress too, some at a time."""
        until = end_of(day)
        query: AccessQuery | None = AccessQuery(since=until - timedelta(days=1), until=until, limit=_PAGE)
        while query is not None:
            page = await self._records.list_accesses(query)
            asked = [entry.subject_id for entry in page.entries if entry.kind == "asked"]
            for start in range(0, len(asked), _ANSWERS_AT_ONCE):
                found = await self._records.find_answers(asked[start : start + _ANSWERS_AT_ONCE])
                yield list(found.values())
            query = None if page.next_after is None else replace(query, after=page.next_after)

    async def _counts_of(self, record: AnswerRecord) -> Counter[str]:
        """Return an answer's counts, each 1, with what agents have done with it by now."""
        if record.reading is not None and not record.reading.asks:
            return Counter(thanks=1)
        counts = Counter({"questions": 1, how_answered(record): 1})
        if record.is_gap:
            cosine = record.gate.best_cosine if record.gate is not None else -1.0
            is_near = cosine >= self._near_cosine and _nearest(record) is not None
            counts.update(gaps=1, teachable=int(is_near))
        verdicts, sends = await asyncio.gather(
            self._records.list_verdicts(record.answer_id), self._records.list_sent(record.answer_id)
        )
        if verdicts:
            is_good = verdicts[-1].verdict.label is VerdictLabel.GOOD
            counts["marked_good" if is_good else "marked_bad"] += 1
        if sends:
            counts[await self._edit(record, sends[-1])] += 1
            counts[_replied(after=sends[0].at - record.asked_at)] += 1
        elif record.mode is not None:
            counts["not_sent"] += 1
        return counts

    async def _edit(self, record: AnswerRecord, stored: StoredSent) -> str:
        """Return the count of a sent text: whether it has the words of what the agent began with, whatever
        its Markdown; not compared where the reply or a source's text is gone."""
        if stored.sent.began_with == "nothing":
            return "sent_own"
        begun: Sequence[str]
        if stored.sent.reply_id is not None:
            reply = await self._records.get_answer(stored.sent.reply_id)
            begun = [] if reply is None else [reply.text]
        else:
            shown = await read_excerpts(record.excerpts, self._texts, labels=frozenset(record.labels))
            begun = [] if gone_from(record, shown) else begun_with(stored.sent, fill_record(record, shown))
        if not begun:
            return "sent_not_compared"
        _, different_words, _ = nearest_text(begun, stored.sent.text)
        return "sent_edited" if different_words else "sent_as_is"


def how_answered(record: AnswerRecord) -> str:
    """Return which of the six counts of how a question was answered it has: "quoted"."""
    if record.outcome in (Outcome.CANCELLED, Outcome.DISCONNECTED):
        return "stopped"
    if record.outcome is Outcome.FAILED or record.finish_reason is FinishReason.SOURCES_ONLY:
        return "failed"
    if record.mode is None:
        return "not_found"
    if record.mode is Mode.WRITTEN:
        return "written"
    return "approved" if record.approved else "quoted"


def _replied(*, after: timedelta) -> str:
    """Return the count of a reply after so long: "replied_60_s" after 40 s, "replied_later" after 1,000 s."""
    seconds = after.total_seconds()
    return next((f"replied_{most}_s" for most in REPLIED_WITHIN_S if seconds <= most), "replied_later")


def _nearest(record: AnswerRecord) -> str | None:
    """Return the id of the nearest document; None where none was found. Records keep candidates (ranked
    documents) best first, and passages in the order of the sources."""
    names = (ranked.document_id for ranked in (*record.candidates, *record.passages))
    return next((name for name in names if source_kind(name) == "document"), None)


def _without_small_groups(tally: _Tally, *, smallest: int, **of_day: Any) -> CountedDay:
    """Return the day without what too few agents did.

    The smallest groups are joined until they are large enough together: one group that is left out alone
    would follow from the total. Of the other tables' small rows only what agents did is joined. A day with
    too few agents has nothing of what they did, in no table: a longer period less a shorter one would show
    it.
    """
    is_small = len(tally.agents) < smallest

    def shown(counts: Counts) -> dict[str, int]:
        return {name: n for name, n in counts.items() if n and not (is_small and name in CONDUCT)}

    def rows(table: Mapping[str, _Row]) -> dict[str, Counter[str]]:
        """Return the table with the conduct of small rows joined."""
        done = {name: (agents, _part(counts, of_conduct=True)) for name, (agents, counts) in table.items()}
        joined = {} if is_small else {name: shown(counts) for name, counts in _joined(done, smallest)}
        facts = {name: _part(counts, of_conduct=False) for name, (_, counts) in table.items()}
        facts.pop(NO_ROW, None)
        joined.pop(NO_ROW, None)
        return {name: facts.get(name, Counter()) + Counter(joined.get(name)) for name in {**facts, **joined}}

    documents = rows(tally.documents)
    return CountedDay(
        is_small=is_small,
        total=shown(tally.total),
        sources=rows(tally.sources),
        desks=rows(tally.desks),
        groups={} if is_small else {name: shown(n) for name, n in _joined(tally.groups, smallest)},
        documents=dict(_most_used({name: documents[name] for name in tally.documents if name != NO_ROW})),
        **of_day,
    )


def _part(counts: Counts, *, of_conduct: bool) -> Counter[str]:
    return Counter({name: n for name, n in counts.items() if (name in CONDUCT) is of_conduct})


def _joined(groups: Mapping[str, _Row], smallest: int) -> Iterator[tuple[str, Counts]]:
    """Yield the groups with their counts; the smallest are one group, OTHERS, with as many larger ones as it
    takes to have ``smallest`` agents.

    Example: of groups of 2, 6 and 9 agents, with ``smallest`` = 5, those of 2 and 6 are OTHERS. Where
    all that are joined have too few agents, OTHERS is left out.
    """
    agents, joined = set[str](), Counter[str]()
    for name in sorted(groups, key=lambda name: (len(groups[name][0]), name)):
        of_group, counts = groups[name]
        if len(of_group) < smallest or 0 < len(agents) < smallest:
            agents |= of_group
            joined.update(counts)
        else:
            yield name, counts
    if len(agents) >= smallest:
        yield OTHERS, joined


def _most_used(documents: Mapping[str, Counter[str]]) -> Iterator[tuple[str, Counts]]:
    """Yield the documents on which most answers rest, and all others as one, under an empty id."""
    ranked = sorted(documents, key=lambda name: (-documents[name]["questions"], name))
    yield from ((name, documents[name]) for name in ranked[:_MOST_DOCUMENTS])
    if rest := ranked[_MOST_DOCUMENTS:]:
        yield "", sum((documents[name] for name in rest), Counter[str]())
