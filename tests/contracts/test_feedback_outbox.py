"""What the outbox does over each table."""

from __future__ import annotations

from random import Random

import pytest

from assistant.domain.answers import Act, AgentAct, AnswerRecord, FinishReason, Sent, Verdict, VerdictLabel
from assistant.domain.errors import ConflictError
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin
from tests.unit.release_before import new_act

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
SENT = Sent(send_id="s1", text="Please come on day 24.")
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1)


def unanswered(answer_id: str = "a1") -> AnswerRecord:
    return samples.answer(answer_id).model_copy(update={"finish_reason": FinishReason.NO_EVIDENCE})


async def test_what_an_agent_does_is_pending_in_the_order_in_which_it_was_stored(twin: Twin) -> None:
    stored = [
        await twin.records.append_verdict("a1", GOOD, agent="ana"),
        await twin.records.append_sent("a2", SENT, agent="ana"),
        await twin.records.append_act("a1", OPENED, agent="ben"),
    ]
    rows = await twin.outbox.pending()
    assert [row.stored for row in rows] == stored
    assert [row.kind for row in rows] == ["verdict", "sent", "act"]
    assert [row.answer_id for row in rows] == ["a1", "a2", "a1"]


@pytest.mark.parametrize(
    ("record", "is_pending"),
    [
        (samples.answer(), False),
        (unanswered(), True),
        (samples.answer().model_copy(update={"follows": "a0"}), False),
    ],
)
async def test_an_answer_is_pending_when_it_is_a_signal(
    twin: Twin, record: AnswerRecord, is_pending: bool
) -> None:
    await twin.records.put_answer(record)
    rows = await twin.outbox.pending()
    assert [(row.kind, row.answer_id, row.stored) for row in rows] == [("answer", "a1", None)] * is_pending


async def test_a_confirmed_row_is_pending_no_more(twin: Twin) -> None:
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    await twin.records.put_answer(unanswered())
    first, second = await twin.outbox.pending()
    await twin.outbox.confirm([first])
    assert await twin.outbox.pending() == [second]
    await twin.outbox.confirm([first, second])
    assert await twin.outbox.pending() == []


async def test_a_confirmed_row_stays_in_the_records(twin: Twin) -> None:
    stored = await twin.records.append_verdict("a1", GOOD, agent="ana")
    await twin.records.put_answer(unanswered())
    waiting = await twin.records.append_verdict(
        "a1", GOOD.model_copy(update={"verdict_id": "v2"}), agent="ana"
    )
    await twin.outbox.confirm((await twin.outbox.pending())[:2])
    assert await twin.records.list_verdicts() == [stored, waiting]
    assert await twin.records.get_answer("a1") == unanswered()


async def test_a_verdict_that_comes_again_after_it_was_moved_is_not_pending_again(twin: Twin) -> None:
    stored = await twin.records.append_verdict("a1", GOOD, agent="ana")
    await twin.outbox.confirm(await twin.outbox.pending())
    assert await twin.records.append_verdict("a1", GOOD, agent="ana") == stored
    assert await twin.outbox.pending() == []


async def test_a_refused_act_is_not_pending(twin: Twin) -> None:
    await twin.records.append_act("a1", OPENED, agent="ana")
    with pytest.raises(ConflictError):
        await twin.records.append_act("a1", OPENED.model_copy(update={"n": 2}), agent="ana")
    assert len(await twin.outbox.pending()) == 1


async def test_the_oldest_rows_are_pending_within_a_limit(twin: Twin) -> None:
    for number in range(3):
        act = OPENED.model_copy(update={"act_id": f"o{number}"})
        await twin.records.append_act(f"a{number}", act, agent="ana")
    assert [row.answer_id for row in await twin.outbox.pending(limit=2)] == ["a0", "a1"]


async def test_a_text_larger_than_a_row_is_pending_whole(twin: Twin) -> None:
    large = Sent(send_id="s1", text=Random(1).randbytes(10_000).hex() * 1)  # noqa: S311 (no secret)
    stored = await twin.records.append_sent("a1", large, agent="ana")
    (row,) = await twin.outbox.pending()
    assert row.stored == stored


async def test_another_process_s_verdict_is_pending(twin: Twin, elsewhere: OtherProcess) -> None:
    await elsewhere("append_verdict")
    assert [row.answer_id for row in await twin.outbox.pending()] == ["a1"]


async def test_rows_of_another_tenant_are_not_pending(twin: Twin, stranger: Twin) -> None:
    await twin.records.append_verdict("a1", GOOD, agent="ana")
    assert await stranger.outbox.pending() == []


async def test_an_act_that_the_release_before_does_not_know_is_pending_whole(twin: Twin) -> None:
    stored = await twin.records.append_act("a1", new_act().act, agent="ana")
    (row,) = await twin.outbox.pending()
    assert row.stored == stored
