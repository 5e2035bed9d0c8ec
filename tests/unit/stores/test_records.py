"""What the records of answers do, and the fake that stands for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    Outcome,
    QuotedUnit,
    Sent,
    Verdict,
    VerdictLabel,
)
from assistant.domain.audit import AccessEntry, AccessQuery
from assistant.domain.errors import ConflictError
from assistant.stores.records import FoundAnswer, StoredRecords
from assistant.text.marks import EXCERPTS
from tests.contracts import samples
from tests.stage.answering import InMemoryRecords
from tests.stage.knowledge import new_access, new_act, new_answer
from tests.stage.tenant_stores import TenantStores

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
BAD = Verdict(verdict_id="v2", label=VerdictLabel.BAD, reasons=("wrong dose",), better_text="Half of it.")
SENT = Sent(send_id="s1", text="Please come on day 24.")
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=2)


@pytest.fixture(params=["stored", "in memory"])
def records(request: pytest.FixtureRequest, stores: TenantStores) -> StoredRecords:
    return stores.records if request.param == "stored" else InMemoryRecords()


async def test_an_answer_comes_back_whole_with_its_excerpts_and_their_runs(records: StoredRecords) -> None:
    excerpt = samples.excerpt(3)
    text = f"**{EXCERPTS.mark(excerpt.mark) * excerpt.letters}**"
    kept = samples.answer().model_copy(update={"text": text, "excerpts": (excerpt,)})
    assert await records.get_answer("a1") is None
    await records.put_answer(kept)
    assert await records.get_answer("a1") == kept
    assert await records.list_conversation("c1") == [kept]


async def test_an_answer_is_recorded_once_and_a_refused_record_has_no_place(records: StoredRecords) -> None:
    await records.put_answer(samples.answer())
    for other in (samples.answer(minute=5), samples.answer(conversation_id="c2")):
        with pytest.raises(ConflictError):
            await records.put_answer(other)
    assert await records.get_answer("a1") == samples.answer()
    assert await records.list_conversation("c1") == [samples.answer()]
    assert await records.list_conversation("c2") == []


def interrupted(answer_id: str = "a1", *, minute: int = 0, text: str = "On day") -> AnswerRecord:
    changed = {"text": text, "outcome": Outcome.FAILED, "error_code": "interrupted"}
    return samples.answer(answer_id, minute=minute).model_copy(update=changed)


NOT_OVER = datetime.now(UTC) + timedelta(hours=1)
OVER = NOT_OVER - timedelta(hours=2)


async def test_what_is_known_of_an_interrupted_answer_is_kept_once(records: StoredRecords) -> None:
    await records.begin_answer(interrupted(), until=OVER)
    await records.begin_answer(interrupted(text="Something else"), until=OVER)
    assert await records.get_answer("a1") == interrupted()
    assert await records.find_answer("a1") == FoundAnswer(interrupted(), None)
    assert await records.list_conversation("c1") == [interrupted()]


async def test_an_answer_that_may_still_be_written_is_found_and_not_listed(records: StoredRecords) -> None:
    await records.begin_answer(interrupted(), until=NOT_OVER)
    found = await records.find_answer("a1")
    assert found is not None
    assert (found.record, found.written_until) == (interrupted(), NOT_OVER)
    assert await records.get_answer("a1") is None
    assert await records.list_conversation("c1") == []
    assert await records.find_answer("a2") is None


@pytest.mark.parametrize("until", [OVER, NOT_OVER])
@pytest.mark.parametrize("own_comes_first", [True, False])
async def test_an_answer_s_own_record_stands_above_what_was_known(
    records: StoredRecords, own_comes_first: bool, until: datetime
) -> None:
    if not own_comes_first:
        await records.begin_answer(interrupted(), until=until)
    await records.put_answer(samples.answer())
    if own_comes_first:
        await records.begin_answer(interrupted(), until=until)
    assert await records.find_answer("a1") == FoundAnswer(samples.answer(), None)
    assert await records.list_conversation("c1") == [samples.answer()]


async def test_a_conversation_has_its_newest_answers_the_oldest_first(records: StoredRecords) -> None:
    for answer_id, minute in (("later", 9), ("first", 1), ("second", 5)):
        await records.put_answer(samples.answer(answer_id, minute=minute))
    await records.begin_answer(interrupted("cut", minute=7), until=OVER)
    await records.put_answer(samples.answer("other", conversation_id="c2"))
    found = await records.list_conversation("c1")
    assert [record.answer_id for record in found] == ["first", "second", "cut", "later"]
    newest = await records.list_conversation("c1", limit=2)
    assert [record.answer_id for record in newest] == ["cut", "later"]


async def test_verdicts_are_kept_in_order_and_once(records: StoredRecords) -> None:
    first = await records.append_verdict("a1", GOOD, agent="ana")
    assert await records.append_verdict("a1", GOOD, agent="ana") == first
    second = await records.append_verdict("a1", BAD, agent="ana")
    assert await records.list_verdicts("a1") == [first, second]
    assert (second.verdict, second.agent, second.answer_id) == (BAD, "ana", "a1")


@pytest.mark.parametrize(
    ("answer_id", "verdict", "agent"),
    [
        ("a1", BAD.model_copy(update={"verdict_id": "v1"}), "ana"),
        ("a2", GOOD, "ana"),
        ("a1", GOOD, "ben"),
    ],
)
async def test_a_verdict_id_is_not_used_for_anything_else(
    records: StoredRecords, answer_id: str, verdict: Verdict, agent: str
) -> None:
    await records.append_verdict("a1", GOOD, agent="ana")
    with pytest.raises(ConflictError):
        await records.append_verdict(answer_id, verdict, agent=agent)
    assert [stored.verdict for stored in await records.list_verdicts()] == [GOOD]


async def test_verdicts_of_all_answers_are_listed_within_a_limit(records: StoredRecords) -> None:
    await records.append_verdict("a1", GOOD, agent="ana")
    await records.append_verdict("a2", BAD, agent="ben")
    assert [stored.answer_id for stored in await records.list_verdicts()] == ["a1", "a2"]
    assert [stored.answer_id for stored in await records.list_verdicts(limit=1)] == ["a1"]


async def test_answers_that_were_marked_or_sent_since_are_found_moved_or_not(stores: TenantStores) -> None:
    records, before = stores.records, datetime.now(UTC)
    await records.append_verdict("a1", GOOD, agent="ana")
    await records.append_sent("a2", SENT, agent="ana")
    await records.append_act("a3", Act(act_id="o1", kind=AgentAct.OFFERED_USED), agent="ana")
    await records.put_answer(samples.answer("a4"))
    (moved, *_) = await stores.outbox.pending()
    await stores.outbox.confirm([moved])
    assert await records.acted_since(before) == {"a1", "a2"}
    assert await records.acted_since(datetime.now(UTC) + timedelta(minutes=1)) == set()


@pytest.mark.parametrize(
    ("what", "given", "other", "changed"),
    [
        ("sent", SENT, Sent(send_id="s2", text="Corrected."), Sent(send_id="s1", text="Other.")),
        ("acts", OPENED, Act(act_id="o2", kind=AgentAct.POSSIBLY_TAKEN), OPENED.model_copy(update={"n": 3})),
    ],
)
async def test_what_was_sent_and_done_is_kept_once_an_id(
    records: StoredRecords, what: str, given: Any, other: Any, changed: Any
) -> None:
    append: Any = records.append_sent if what == "sent" else records.append_act
    listed: Any = records.list_sent if what == "sent" else records.list_acts
    first = await append("a1", given, agent="ana")
    assert await append("a1", given, agent="ana") == first
    second = await append("a1", other, agent="ana")
    with pytest.raises(ConflictError):
        await append("a1", changed, agent="ana")
    assert await listed("a1") == [first, second]
    assert await listed("a2") == []


async def test_an_answer_has_so_many_places_and_no_more(records: StoredRecords) -> None:
    take = partial(records.take_place, "a1", "sends", most=3)
    assert [await take(name) for name in ("s1", "s2", "s1", "s3")] == [True] * 4
    assert [await take(name) for name in ("s4", "s2", "s5")] == [False, True, False]
    assert await records.take_place("a1", "acts", "s4", most=3)
    assert await records.take_place("a2", "sends", "s4", most=3)


async def test_of_many_at_once_no_more_than_the_places_are_taken(records: StoredRecords) -> None:
    names = [f"s{number}" for number in range(12)]
    taken = await asyncio.gather(*(records.take_place("a1", "sends", name, most=5) for name in names))
    assert sum(taken) == 5
    assert [await records.take_place("a1", "sends", name, most=5) for name in names] == taken


async def read_by(
    records: StoredRecords, agent: str, *, minute: int, document_id: str = "refill"
) -> AccessEntry:
    """Record that somebody read a document."""
    at = samples.NOON + timedelta(minutes=minute)
    entry = AccessEntry(at=at, agent=agent, kind="document", subject_id=document_id, documents=(document_id,))
    await records.record_access(entry)
    return entry


def answer_with(answer_id: str, *document_ids: str, minute: int = 0) -> AnswerRecord:
    """Return a record whose sources are these documents; the first is quoted."""
    uses = tuple(samples.use(name, n=n) for n, name in enumerate(document_ids, 1))
    quoted = (QuotedUnit(document_id=document_ids[0], content_hash="hash", span=(0, 5)),)
    return samples.answer(answer_id, minute=minute).model_copy(update={"passages": uses, "quoted": quoted})


def about(
    document_id: str | None = None, agent: str | None = None, *, days: int = 1, limit: int = 100
) -> AccessQuery:
    """Ask for the day of the samples and ``days`` before it."""
    since, until = samples.NOON - timedelta(days=days), samples.NOON + timedelta(days=1)
    return AccessQuery(since, until, document_id, agent, None, limit)


async def paged(records: StoredRecords, query: AccessQuery) -> list[AccessEntry]:
    """Return the entries of all pages."""
    found: list[AccessEntry] = []
    while True:
        page = await records.list_accesses(query)
        assert len(page.entries) <= query.limit
        found += page.entries
        if page.next_after is None:
            return found
        query = replace(query, after=page.next_after)


async def test_who_saw_a_document_is_listed_in_order(records: StoredRecords) -> None:
    last = await read_by(records, "ben", minute=9)
    await read_by(records, "cleo", minute=7, document_id="other")
    await records.put_answer(answer_with("a1", "refill", "claims", minute=5))
    await records.put_answer(answer_with("a2", "claims", minute=6))
    first = await read_by(records, "ada", minute=1)
    page = await records.list_accesses(about("refill"))
    assert (page.entries[0], page.entries[2], page.next_after) == (first, last, None)
    asked = page.entries[1]
    assert (asked.kind, asked.agent, asked.subject_id) == ("asked", "ana", "a1")
    assert (asked.documents, asked.quoted) == (("refill", "claims"), ("refill",))
    listed_alone = (await records.list_accesses(about("claims"))).entries
    assert [entry.subject_id for entry in listed_alone] == ["a1", "a2"]


async def test_what_an_agent_saw_is_listed(records: StoredRecords) -> None:
    await read_by(records, "ben", minute=1)
    own = await read_by(records, "ana", minute=2)
    await records.put_answer(answer_with("a1", "refill", minute=3))
    page = await records.list_accesses(about(agent="ana"))
    assert page.entries[0] == own
    assert [entry.kind for entry in page.entries] == ["document", "asked"]
    assert (await records.list_accesses(about("other", "ana"))).entries == ()


@pytest.mark.parametrize("until", [OVER, NOT_OVER])
async def test_an_answer_that_began_was_seen(records: StoredRecords, until: datetime) -> None:
    await records.begin_answer(answer_with("a1", "refill"), until=until)
    (entry,) = (await records.list_accesses(about("refill"))).entries
    assert (entry.agent, entry.subject_id) == ("ana", "a1")


async def test_an_answer_that_began_and_ended_was_seen_once(records: StoredRecords) -> None:
    for number in range(3):
        await records.begin_answer(answer_with(f"a{number}", "refill", minute=number), until=OVER)
        await records.put_answer(answer_with(f"a{number}", "refill", minute=number))
    seen = await paged(records, about("refill", limit=1))
    assert [entry.subject_id for entry in seen] == ["a0", "a1", "a2"]


async def test_only_the_time_asked_for_is_listed(records: StoredRecords) -> None:
    day = 24 * 60
    for minute in (-3 * day, -1 * day, 0, 2 * day):
        await read_by(records, f"agent at {minute}", minute=minute)
        await records.put_answer(answer_with(f"a{minute}", "refill", minute=minute))
    page = await records.list_accesses(about("refill", days=1))
    assert len(page.entries) == 4
    assert {entry.at for entry in page.entries} == {samples.NOON, samples.NOON - timedelta(days=1)}
    upto = AccessQuery(samples.NOON - timedelta(days=9), samples.NOON, "refill")
    assert samples.NOON not in {entry.at for entry in (await records.list_accesses(upto)).entries}


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_lead_through_everything_once(records: StoredRecords, limit: int) -> None:
    for minute in range(5):
        await read_by(records, f"reader {minute}", minute=minute // 2)
        await records.put_answer(answer_with(f"a{minute}", "refill", minute=minute - 2 * 24 * 60))
        await read_by(records, "somebody", minute=minute, document_id="other")
    found = await paged(records, about("refill", days=100, limit=limit))
    assert found == sorted(found, key=lambda entry: entry.at)
    answers = [f"a{minute}" for minute in range(5)]
    assert [entry.subject_id for entry in found] == [*answers, *["refill"] * 5]
    assert {entry.agent for entry in found[5:]} == {f"reader {minute}" for minute in range(5)}


async def test_what_the_release_before_does_not_know_comes_back(stores: TenantStores) -> None:
    records = stores.records
    await records.put_answer(new_answer())
    act = await records.append_act("new", new_act().act, agent="ana")
    await records.record_access(new_access())
    assert await records.get_answer("new") == new_answer()
    assert await records.list_acts("new") == [act]
    assert new_access() in (await records.list_accesses(about())).entries
