"""What every IngestionQueue does."""

from __future__ import annotations

import asyncio

from assistant.stores.ports import MAX_ATTEMPTS, QueuedDocument
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin

LONG_S = 60.0


async def receive(twin: Twin, *, limit: int = 10, wait_s: float = 0.0) -> list[QueuedDocument]:
    return await twin.queue.receive(limit=limit, wait_s=wait_s, visibility_timeout_s=LONG_S)


async def receive_briefly(twin: Twin) -> list[QueuedDocument]:
    """Receive and let go of it again at once."""
    return await twin.queue.receive(limit=10, wait_s=10.0, visibility_timeout_s=twin.shortest_visibility_s)


async def test_what_is_sent_is_received(twin: Twin) -> None:
    await twin.queue.send_many(["a", "b"])
    messages = await receive(twin)
    assert sorted(message.document_id for message in messages) == ["a", "b"]
    assert [message.attempt for message in messages] == [1, 1]


async def test_a_waiting_receiver_gets_what_comes(twin: Twin) -> None:
    waiting = asyncio.create_task(receive(twin, wait_s=20.0))
    await twin.queue.send_many(["late"])
    assert [message.document_id for message in await waiting] == ["late"]


async def test_a_waiting_receiver_gets_what_another_process_sends(
    twin: Twin, elsewhere: OtherProcess
) -> None:
    waiting = asyncio.create_task(receive(twin, wait_s=50.0))
    await elsewhere("send_one")
    assert [message.document_id for message in await waiting] == ["from-elsewhere"]


async def test_a_message_in_flight_is_not_delivered_again(twin: Twin) -> None:
    await twin.queue.send_many(["a"])
    await receive(twin)
    assert await receive(twin) == []


async def test_an_unfinished_message_comes_again_as_the_next_attempt(twin: Twin) -> None:
    await twin.queue.send_many(["a"])
    await receive_briefly(twin)
    (again,) = await receive_briefly(twin)
    assert (again.document_id, again.attempt) == ("a", 2)


async def test_an_extended_message_is_not_delivered_while_another_is(twin: Twin) -> None:
    await twin.queue.send_many(["extended", "left"])
    messages = await receive_briefly(twin)
    while len(messages) < 2:
        messages += await receive_briefly(twin)
    (extended,) = [message.receipt for message in messages if message.document_id == "extended"]
    await twin.queue.extend_many([extended], visibility_timeout_s=LONG_S)
    assert [message.document_id for message in await receive(twin, wait_s=10.0)] == ["left"]
    assert await receive(twin, wait_s=2 * twin.shortest_visibility_s) == []


async def test_many_messages_are_extended_at_once(twin: Twin) -> None:
    await twin.queue.send_many([f"d{number}" for number in range(25)])
    messages = await twin.queue.receive(limit=25, wait_s=5.0, visibility_timeout_s=20.0)
    assert len(messages) == 25
    receipts = [message.receipt for message in messages]
    await twin.queue.extend_many(receipts, visibility_timeout_s=twin.shortest_visibility_s)
    again = await twin.queue.receive(limit=25, wait_s=10.0, visibility_timeout_s=LONG_S)
    assert {message.attempt for message in again} == {2}


async def test_an_old_receipt_takes_a_message_from_nobody(twin: Twin) -> None:
    """A worker that was slow renews what another got meanwhile: the other may still finish it."""
    await twin.queue.send_many(["a"])
    (first,) = await receive_briefly(twin)
    (second,) = await twin.queue.receive(limit=10, wait_s=10.0, visibility_timeout_s=LONG_S)
    await twin.queue.extend_many([first.receipt], visibility_timeout_s=twin.shortest_visibility_s)
    await twin.queue.delete_many([second.receipt])
    await twin.queue.extend_many([first.receipt, second.receipt], visibility_timeout_s=LONG_S)
    assert await twin.queue.depth() == 0


async def test_a_deleted_message_never_comes_again(twin: Twin) -> None:
    await twin.queue.send_many(["a", "b"])
    messages = await receive_briefly(twin)
    await twin.queue.delete_many([message.receipt for message in messages if message.document_id == "a"])
    assert [message.document_id for message in await receive_briefly(twin)] == ["b"]


async def test_a_message_is_a_dead_letter_after_its_attempts(twin: Twin) -> None:
    await twin.queue.send_many(["poison"])
    attempts: list[int] = []
    for _ in range(MAX_ATTEMPTS):
        (message,) = await receive(twin, wait_s=10.0)
        attempts.append(message.attempt)
        await twin.queue.extend_many([message.receipt], visibility_timeout_s=0.0)  # visible again at once
    assert attempts == list(range(1, MAX_ATTEMPTS + 1))
    after = await twin.queue.receive(
        limit=10, wait_s=3 * twin.shortest_visibility_s, visibility_timeout_s=LONG_S
    )
    assert after == []
    assert await twin.queue.depth() == 0


async def test_depth_counts_the_waiting_and_those_in_flight(twin: Twin) -> None:
    await twin.queue.send_many(["a", "b", "c"])
    (message,) = await receive(twin, limit=1)
    assert await twin.queue.depth() == 3
    await twin.queue.delete_many([message.receipt])
    assert await twin.queue.depth() == 2


async def test_the_queue_of_withdrawals_is_another(twin: Twin) -> None:
    await twin.withdrawals.send_many(["a"])
    assert await receive(twin) == []
    assert await twin.withdrawals.depth() == 1


async def test_another_tenant_s_queue_is_another(twin: Twin, stranger: Twin) -> None:
    await twin.queue.send_many(["a"])
    assert await receive(stranger) == []


async def test_two_processes_at_once_never_get_the_same_message(twin: Twin, elsewhere: OtherProcess) -> None:
    sent = [f"d{number}" for number in range(60)]
    await twin.queue.send_many(sent)
    there = asyncio.gather(elsewhere("drain_queue"), elsewhere("drain_queue"))
    here: list[str] = []
    while messages := await receive(twin, limit=1):
        here += [message.document_id for message in messages]
        await twin.queue.delete_many([message.receipt for message in messages])
        await asyncio.sleep(0.02)  # leaves some for the others, which take long to start
    taken = here + [document_id for part in await there for document_id in part]  # type: ignore[attr-defined]
    assert sorted(taken) == sorted(sent)
