"""What the records of answers do over each table."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import pytest

from assistant.answer.excerpts import run_of
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
from assistant.stores.records import FoundAnswer
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin
from tests.unit.release_before import new_access, new_act, new_answer

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
BAD = Verdict(verdict_id="v2", label=VerdictLabel.BAD, reasons=("wrong dose",), better_text="Half of it.")
SENT = Sent(send_id="s1", text="Please come on day 24.")


async def test_an_answer_comes_back_whole(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer())
    assert await twin.records.get_answer("a1") == samples.answer()


async def test_an_answer_s_excerpts_and_their_runs_come_back(twin: Twin) -> None:
    excerpt = samples.excerpt(3)
    kept = samples.answer().model_copy(update={"text": f"**{run_of(excerpt)}**", "excerpts": (excerpt,)})
    await twin.records.put_answer(kept)
    assert await twin.records.get_answer("a1") == kept
    assert await twin.records.list_conversation("c1") == [kept]


async def test_an_unknown_answer_is_none(twin: Twin) -> None:
    assert await twin.records.get_answer("nothing") is None


async def test_an_answer_is_recorded_once(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer())
    with pytest.raises(ConflictError):
        await twin.records.put_answer(samples.answer(minute=5))
    assert await twin.records.get_answer("a1") == samples.answer()


async def test_a_refused_second_record_has_no_place_in_its_conversation(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer())
    for other in (samples.answer(minute=5), samples.answer(conversation_id="c2")):
        with pytest.raises(ConflictError):
            await twin.records.put_answer(other)
    assert await twin.records.list_conversation("c1") == [samples.answer()]
    assert await twin.records.list_conversation("c2") == []


async def test_an_answer_larger_than_any_row_is_kept(twin: Twin) -> None:
    """An item of DynamoDB has 400 kB at most, and random digits pack to half."""
    huge = samples.answer().model_copy(update={"text": Random(1).randbytes(1_000_000).hex()})  # noqa: S311 : no secret
    await twin.records.put_answer(huge)
    assert await twin.records.get_answer("a1") == huge
    with pytest.raises(ConflictError):
        await twin.records.put_answer(samples.answer())


def interrupted(answer_id: str = "a1", *, minute: int = 0, text: str = "On day") -> AnswerRecord:
    changed = {"text": text, "outcome": Outcome.FAILED, "error_code": "interrupted"}
    return samples.answer(answer_id, minute=minute).model_copy(update=changed)


NOT_OVER = datetime.now(UTC) + timedelta(hours=1)
OVER = NOT_OVER - timedelta(hours=2)


async def test_what_is_known_of_an_interrupted_answer_is_kept_once(twin: Twin) -> None:
    await twin.records.begin_answer(interrupted(), until=OVER)
    await twin.records.begin_answer(interrupted(text="Something else"), until=OVER)
    assert await twin.records.get_answer("a1") == interrupted()
    assert await twin.records.find_answer("a1") == FoundAnswer(interrupted(), None)
    assert await twin.records.list_conversation("c1") == [interrupted()]


async def test_an_answer_that_may_still_be_written_is_found_and_not_listed(twin: Twin) -> None:
    await twin.records.begin_answer(interrupted(), until=NOT_OVER)
    found = await twin.records.find_answer("a1")
    assert found is not None
    assert (found.record, found.written_until) == (interrupted(), NOT_OVER)
    assert await twin.records.get_answer("a1") is None
    assert await twin.records.list_conversation("c1") == []
    assert await twin.records.find_answer("a2") is None


async def test_an_answer_that_began_is_listed_by_its_record(twin: Twin) -> None:
    await twin.records.begin_answer(interrupted(), until=NOT_OVER)
    await twin.records.put_answer(samples.answer())
    assert await twin.records.find_answer("a1") == FoundAnswer(samples.answer(), None)
    assert await twin.records.list_conversation("c1") == [samples.answer()]


@pytest.mark.parametrize("own_comes_first", [True, False])
async def test_an_answer_s_own_record_stands_above_what_was_known(twin: Twin, own_comes_first: bool) -> None:
    if not own_comes_first:
        await twin.records.begin_answer(interrupted(), until=OVER)
    await twin.records.put_answer(samples.answer())
    if own_comes_first:
        await twin.records.begin_answer(interrupted(), until=OVER)
    assert await twin.records.get_answer("a1") == samples.answer()
    assert await twin.records.list_conversation("c1") == [samples.answer()]


async def test_an_interrupted_answer_has_its_place_in_its_conversation(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer("a1", minute=1))
    await twin.records.begin_answer(interrupted("a2", minute=2), until=OVER)
    await twin.records.put_answer(samples.answer("a3", minute=3))
    found = await twin.records.list_conversation("c1", limit=2)
    assert [record.answer_id for record in found] == ["a2", "a3"]


async def test_a_conversation_is_listed_oldest_first(twin: Twin) -> None:
    for answer_id, minute in (("later", 9), ("first", 1), ("second", 5)):
        await twin.records.put_answer(samples.answer(answer_id, minute=minute))
    await twin.records.put_answer(samples.answer("other", conversation_id="c2"))
    found = await twin.records.list_conversation("c1")
    assert [record.answer_id for record in found] == ["first", "second", "later"]


async def test_a_conversation_s_newest_answers_are_kept_by_the_limit(twin: Twin) -> None:
    for minute in range(4):
        await twin.records.put_answer(samples.answer(f"a{minute}", minute=minute))
    found = await twin.records.list_conversation("c1", limit=2)
    assert [record.answer_id for record in found] == ["a2", "a3"]


async def test_an_unknown_conversation_is_empty(twin: Twin) -> None:
    assert await twin.records.list_conversation("nothing") == []


async def test_verdicts_are_all_kept_in_order(twin: Twin) -> None:
    first = await twin.records.append_verdict("a1", GOOD, agent="ana")
    second = await twin.records.append_verdict("a1", BAD, agent="ana")
    assert await twin.records.list_verdicts("a1") == [first, second]
    assert (second.verdict, second.agent, second.answer_id) == (BAD, "ana", "a1")


async def test_the_same_verdict_twice_is_one_record(twin: Twin) -> None:
    first = await twin.records.append_verdict("a1", GOOD, agent="ana")
    again = await twin.records.append_verdict("a1", GOOD, agent="ana")
    assert again == first
    assert await twin.records.list_verdicts("a1") == [first]


@pytest.mark.parametrize(
    ("answer_id", "verdict", "agent"),
    [
        ("a1", BAD.model_copy(update={"verdict_id": "v1"}), "ana"),
        ("a2", GOOD, "ana"),
        ("a1", GOOD, "ben"),
    ],
)
async def test_a_verdict_id_is_not_used_for_anything_else(
    twin: Twin, answer_id: str, verdict: Verdict, agent: str
) -> None:
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    with pytest.raises(ConflictError):
        await twin.records.append_verdict(answer_id, verdict, agent=agent)
    assert [stored.verdict for stored in await twin.records.list_verdicts()] == [GOOD]


async def test_verdicts_of_all_answers_are_listed_within_a_limit(twin: Twin) -> None:
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    await twin.records.append_verdict("a2", BAD, agent="ben")
    assert [stored.answer_id for stored in await twin.records.list_verdicts()] == ["a1", "a2"]
    assert [stored.answer_id for stored in await twin.records.list_verdicts(limit=1)] == ["a1"]


async def test_answers_that_were_marked_or_sent_since_are_found_moved_or_not(twin: Twin) -> None:
    before = datetime.now(UTC)
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    await twin.records.append_sent("a2", SENT, agent="ana")
    await twin.records.append_act("a3", Act(act_id="o1", kind=AgentAct.OFFERED_USED), agent="ana")
    await twin.records.put_answer(samples.answer("a4"))
    (moved, *_) = await twin.outbox.pending()
    await twin.outbox.confirm([moved])
    assert await twin.records.acted_since(before) == {"a1", "a2"}
    assert await twin.records.acted_since(datetime.now(UTC) + timedelta(minutes=1)) == set()


async def test_what_was_sent_is_kept_once_an_id(twin: Twin) -> None:
    first = await twin.records.append_sent("a1", SENT, agent="ana")
    again = await twin.records.append_sent("a1", SENT, agent="ana")
    second = await twin.records.append_sent("a1", Sent(send_id="s2", text="Corrected."), agent="ana")
    assert again == first
    assert await twin.records.list_sent("a1") == [first, second]
    assert await twin.records.list_sent("a2") == []


async def test_a_send_id_is_not_used_for_another_text(twin: Twin) -> None:
    await twin.records.append_sent("a1", SENT, agent="ana")
    with pytest.raises(ConflictError):
        await twin.records.append_sent("a1", Sent(send_id="s1", text="Other."), agent="ana")


OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=2)


async def test_what_an_agent_did_is_kept_once_an_id(twin: Twin) -> None:
    first = await twin.records.append_act("a1", OPENED, agent="ana")
    again = await twin.records.append_act("a1", OPENED, agent="ana")
    taken = Act(act_id="o2", kind=AgentAct.POSSIBLY_TAKEN)
    second = await twin.records.append_act("a1", taken, agent="ana")
    assert again == first
    assert await twin.records.list_acts("a1") == [first, second]
    assert await twin.records.list_acts("a2") == []


async def test_an_act_s_id_is_not_used_for_another_act(twin: Twin) -> None:
    await twin.records.append_act("a1", OPENED, agent="ana")
    with pytest.raises(ConflictError):
        await twin.records.append_act("a1", OPENED.model_copy(update={"n": 3}), agent="ana")


async def test_an_answer_has_so_many_places_and_no_more(twin: Twin) -> None:
    take = partial(twin.records.take_place, "a1", "sends", most=3)
    assert [await take(name) for name in ("s1", "s2", "s1", "s3")] == [True] * 4
    assert [await take(name) for name in ("s4", "s2", "s5")] == [False, True, False]
    assert await twin.records.take_place("a1", "acts", "s4", most=3)
    assert await twin.records.take_place("a2", "sends", "s4", most=3)


async def test_of_many_at_once_no_more_than_the_places_are_taken(twin: Twin) -> None:
    names = [f"s{number}" for number in range(12)]
    taken = await asyncio.gather(
        *(twin.records.take_place("a1", "sends", name, most=5) for name in names),
    )
    assert sum(taken) == 5
    again = [await twin.records.take_place("a1", "sends", name, most=5) for name in names]
    assert again == taken


async def test_another_tenant_s_places_are_others(twin: Twin, stranger: Twin) -> None:
    assert await twin.records.take_place("a1", "sends", "s1", most=1)
    assert await stranger.records.take_place("a1", "sends", "s2", most=1)


async def test_reads_are_recorded(twin: Twin) -> None:
    await twin.records.record_access(
        AccessEntry(at=samples.NOON, agent="ada", kind="answer", subject_id="a1")
    )


async def read_by(twin: Twin, agent: str, *, minute: int, document_id: str = "refill") -> AccessEntry:
    """Record that somebody read a document."""
    at = samples.NOON + timedelta(minutes=minute)
    entry = AccessEntry(at=at, agent=agent, kind="document", subject_id=document_id, documents=(document_id,))
    await twin.records.record_access(entry)
    return entry


def answer_with(answer_id: str, *document_ids: str, minute: int = 0) -> AnswerRecord:
    """Return a record whose sources are these documents; the first is quoted."""
    uses = tuple(samples.use(name, n=n) for n, name in enumerate(document_ids, 1))
    quoted = (QuotedUnit(document_id=document_ids[0], content_hash="hash", span=(0, 5)),)
    return samples.answer(answer_id, minute=minute).model_copy(update={"passages": uses, "quoted": quoted})


def about(
    document_id: str | None = None,
    agent: str | None = None,
    *,
    days: int = 1,
    after: str | None = None,
    limit: int = 100,
) -> AccessQuery:
    """Ask for the day of the samples and ``days`` before it."""
    return AccessQuery(
        samples.NOON - timedelta(days=days),
        samples.NOON + timedelta(days=1),
        document_id,
        agent,
        after,
        limit,
    )


async def test_who_saw_a_document_is_listed_in_order(twin: Twin) -> None:
    last = await read_by(twin, "ben", minute=9)
    await read_by(twin, "cleo", minute=7, document_id="other")
    await twin.records.put_answer(answer_with("a1", "refill", "claims", minute=5))
    await twin.records.put_answer(answer_with("a2", "claims", minute=6))
    first = await read_by(twin, "ada", minute=1)
    page = await twin.records.list_accesses(about("refill"))
    assert (page.entries[0], page.entries[2], page.next_after) == (first, last, None)
    asked = page.entries[1]
    assert (asked.kind, asked.agent, asked.subject_id) == ("asked", "ana", "a1")
    assert (asked.documents, asked.quoted) == (("refill", "claims"), ("refill",))
    assert [entry.subject_id for entry in (await twin.records.list_accesses(about("claims"))).entries] == [
        "a1",
        "a2",
    ]


async def test_a_source_that_is_only_listed_was_seen_too(twin: Twin) -> None:
    await twin.records.put_answer(answer_with("a1", "refill", "claims"))
    (entry,) = (await twin.records.list_accesses(about("claims"))).entries
    assert "claims" in entry.documents
    assert "claims" not in entry.quoted


async def test_what_an_agent_saw_is_listed(twin: Twin) -> None:
    await read_by(twin, "ben", minute=1)
    own = await read_by(twin, "ana", minute=2)
    await twin.records.put_answer(answer_with("a1", "refill", minute=3))
    page = await twin.records.list_accesses(about(agent="ana"))
    assert page.entries[0] == own
    assert [entry.kind for entry in page.entries] == ["document", "asked"]
    assert (await twin.records.list_accesses(about("other", "ana"))).entries == ()


@pytest.mark.parametrize("until", [OVER, NOT_OVER])
async def test_an_answer_that_began_was_seen(twin: Twin, until: datetime) -> None:
    await twin.records.begin_answer(answer_with("a1", "refill"), until=until)
    (entry,) = (await twin.records.list_accesses(about("refill"))).entries
    assert (entry.agent, entry.subject_id) == ("ana", "a1")


async def test_an_answer_that_began_and_ended_was_seen_once(twin: Twin) -> None:
    for number in range(3):
        await twin.records.begin_answer(answer_with(f"a{number}", "refill", minute=number), until=OVER)
        await twin.records.put_answer(answer_with(f"a{number}", "refill", minute=number))
    seen: list[str] = []
    query = about("refill", limit=1)
    while True:
        page = await twin.records.list_accesses(query)
        seen += [entry.subject_id for entry in page.entries]
        if page.next_after is None:
            break
        query = replace(query, after=page.next_after)
    assert seen == ["a0", "a1", "a2"]


async def test_only_the_time_asked_for_is_listed(twin: Twin) -> None:
    day = 24 * 60
    for minute in (-3 * day, -1 * day, 0, 2 * day):
        await read_by(twin, f"agent at {minute}", minute=minute)
        await twin.records.put_answer(answer_with(f"a{minute}", "refill", minute=minute))
    page = await twin.records.list_accesses(about("refill", days=1))
    assert len(page.entries) == 4
    assert {entry.at for entry in page.entries} == {samples.NOON, samples.NOON - timedelta(days=1)}
    upto = AccessQuery(samples.NOON - timedelta(days=9), samples.NOON, "refill")
    assert samples.NOON not in {entry.at for entry in (await twin.records.list_accesses(upto)).entries}


@pytest.mark.parametrize("limit", [1, 2, 3, 50])
async def test_pages_lead_through_everything_once(twin: Twin, limit: int) -> None:
    for minute in range(5):
        await read_by(twin, f"reader {minute}", minute=minute // 2)
        await twin.records.put_answer(answer_with(f"a{minute}", "refill", minute=minute - 2 * 24 * 60))
        await read_by(twin, "somebody", minute=minute, document_id="other")
    paged: list[AccessEntry] = []
    query = about("refill", days=100, limit=limit)
    while True:
        page = await twin.records.list_accesses(query)
        assert len(page.entries) <= limit
        paged += page.entries
        if page.next_after is None:
            break
        query = replace(query, after=page.next_after)
    assert paged == sorted(paged, key=lambda entry: entry.at)
    answers = [f"a{minute}" for minute in range(5)]
    assert [entry.subject_id for entry in paged] == [*answers, *["refill"] * 5]
    assert {entry.agent for entry in paged[5:]} == {f"reader {minute}" for minute in range(5)}


async def test_who_saw_what_in_another_tenant_is_unknown(twin: Twin, stranger: Twin) -> None:
    await read_by(twin, "ana", minute=1)
    await twin.records.put_answer(answer_with("a1", "refill"))
    assert (await stranger.records.list_accesses(about("refill"))).entries == ()


async def test_two_processes_keep_one_record_of_one_verdict(twin: Twin, elsewhere: OtherProcess) -> None:
    there = await elsewhere("append_verdict")
    here = await twin.records.append_verdict("a1", GOOD, agent="ana")
    assert here.model_dump(mode="json") == there
    assert await twin.records.list_verdicts("a1") == [here]


async def test_records_of_another_tenant_are_unknown(twin: Twin, stranger: Twin) -> None:
    await twin.records.put_answer(samples.answer())
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    assert await stranger.records.get_answer("a1") is None
    await twin.records.append_sent("a1", SENT, agent="ana")
    assert await stranger.records.list_verdicts() == []
    assert await stranger.records.list_verdicts("a1") == []
    assert await stranger.records.list_sent("a1") == []
    assert await stranger.records.list_conversation("c1") == []


async def test_a_verdict_s_id_is_free_for_another_tenant(twin: Twin, stranger: Twin) -> None:
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    own = await stranger.records.append_verdict("a2", GOOD, agent="ben")
    assert await stranger.records.list_verdicts() == [own]


async def test_what_the_release_before_does_not_know_comes_back(twin: Twin) -> None:
    await twin.records.put_answer(new_answer())
    act = await twin.records.append_act("new", new_act().act, agent="ana")
    await twin.records.record_access(new_access())
    assert await twin.records.get_answer("new") == new_answer()
    assert await twin.records.list_acts("new") == [act]
    period = AccessQuery(since=samples.NOON - timedelta(days=1), until=samples.NOON + timedelta(days=1))
    assert new_access() in (await twin.records.list_accesses(period)).entries
