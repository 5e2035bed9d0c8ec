"""What the outbox has."""

from __future__ import annotations

import pytest

from assistant.domain.answers import Act, AgentAct, AnswerRecord, FinishReason, Sent, Verdict, VerdictLabel
from assistant.domain.errors import ConflictError
from tests.contracts import samples
from tests.fakes.tenant_stores import TenantStores
from tests.unit.release_before import new_act

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
SENT = Sent(send_id="s1", text="Please come on day 24.")
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1)


def unanswered(answer_id: str = "a1") -> AnswerRecord:
    return samples.answer(answer_id).model_copy(update={"finish_reason": FinishReason.NO_EVIDENCE})


async def test_what_an_agent_does_is_pending_in_the_order_in_which_it_was_stored(
    stores: TenantStores,
) -> None:
    stored = [
        await stores.records.append_verdict("a1", GOOD, agent="ana"),
        await stores.records.append_sent("a2", SENT, agent="ana"),
        await stores.records.append_act("a1", OPENED, agent="ben"),
    ]
    rows = await stores.outbox.pending()
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
    stores: TenantStores, record: AnswerRecord, is_pending: bool
) -> None:
    await stores.records.put_answer(record)
    rows = await stores.outbox.pending()
    assert [(row.kind, row.answer_id, row.stored) for row in rows] == [("answer", "a1", None)] * is_pending


async def test_a_confirmed_row_is_pending_no_more(stores: TenantStores) -> None:
    await stores.records.append_verdict("a1", GOOD, agent="ana")
    await stores.records.put_answer(unanswered())
    first, second = await stores.outbox.pending()
    await stores.outbox.confirm([first])
    assert await stores.outbox.pending() == [second]
    await stores.outbox.confirm([first, second])
    assert await stores.outbox.pending() == []
    await stores.records.append_verdict("a1", GOOD, agent="ana")  # again, after it was moved
    assert await stores.outbox.pending() == []


async def test_a_confirmed_row_stays_in_the_records(stores: TenantStores) -> None:
    stored = await stores.records.append_verdict("a1", GOOD, agent="ana")
    await stores.records.put_answer(unanswered())
    waiting = await stores.records.append_verdict(
        "a1", GOOD.model_copy(update={"verdict_id": "v2"}), agent="ana"
    )
    await stores.outbox.confirm((await stores.outbox.pending())[:2])
    assert await stores.records.list_verdicts() == [stored, waiting]
    assert await stores.records.get_answer("a1") == unanswered()


async def test_a_refused_act_is_not_pending(stores: TenantStores) -> None:
    await stores.records.append_act("a1", OPENED, agent="ana")
    with pytest.raises(ConflictError):
        await stores.records.append_act("a1", OPENED.model_copy(update={"n": 2}), agent="ana")
    assert len(await stores.outbox.pending()) == 1


async def test_the_oldest_rows_are_pending_within_a_limit(stores: TenantStores) -> None:
    for number in range(3):
        act = OPENED.model_copy(update={"act_id": f"o{number}"})
        await stores.records.append_act(f"a{number}", act, agent="ana")
    assert [row.answer_id for row in await stores.outbox.pending(limit=2)] == ["a0", "a1"]


async def test_an_act_that_the_release_before_does_not_know_is_pending_whole(stores: TenantStores) -> None:
    stored = await stores.records.append_act("a1", new_act().act, agent="ana")
    (row,) = await stores.outbox.pending()
    assert row.stored == stored
