"""What every AnswerRecords does."""

from __future__ import annotations

from random import Random

import pytest

from assistant.domain.answers import AccessEntry, AnswerRecord, Outcome, Sent, Verdict, VerdictLabel
from assistant.domain.errors import ConflictError
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
BAD = Verdict(verdict_id="v2", label=VerdictLabel.BAD, reasons=("wrong dose",), better_text="Half of it.")
SENT = Sent(send_id="s1", text="Please come on day 24.")


async def test_an_answer_comes_back_whole(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer())
    assert await twin.records.get_answer("a1") == samples.answer()


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


async def test_what_is_known_of_an_interrupted_answer_is_kept_once(twin: Twin) -> None:
    await twin.records.put_interrupted(interrupted())
    await twin.records.put_interrupted(interrupted(text="Something else"))
    assert await twin.records.get_answer("a1") == interrupted()
    assert await twin.records.list_conversation("c1") == [interrupted()]


@pytest.mark.parametrize("own_comes_first", [True, False])
async def test_an_answer_s_own_record_stands_above_what_was_known(twin: Twin, own_comes_first: bool) -> None:
    if not own_comes_first:
        await twin.records.put_interrupted(interrupted())
    await twin.records.put_answer(samples.answer())
    if own_comes_first:
        await twin.records.put_interrupted(interrupted())
    assert await twin.records.get_answer("a1") == samples.answer()
    assert await twin.records.list_conversation("c1") == [samples.answer()]


async def test_an_interrupted_answer_has_its_place_in_its_conversation(twin: Twin) -> None:
    await twin.records.put_answer(samples.answer("a1", minute=1))
    await twin.records.put_interrupted(interrupted("a2", minute=2))
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


async def test_reads_are_recorded(twin: Twin) -> None:
    await twin.records.record_access(
        AccessEntry(at=samples.NOON, agent="ada", kind="answer", subject_id="a1")
    )


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
