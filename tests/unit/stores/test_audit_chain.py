"""The chain of one writer of audit records, over a store that fails, stalls or refuses."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from assistant.domain.audit import AuditLink, AuditRecord, by_writer, digest_of, hash_of
from assistant.domain.errors import ConflictError, RecordsUnavailableError
from assistant.process.settings import RunningIn
from assistant.stores.audit import AuditChain

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class Store:
    """Keeps records by their place. ``fail_after`` writes that many and then says that it is down."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.calls = 0
        self.down = False
        self.loses_responses = False
        self.released = asyncio.Event()
        self.released.set()

    async def put(self, content: str, link: AuditLink) -> bool:
        self.calls += 1
        await self.released.wait()
        if self.down and not self.loses_responses:
            raise RecordsUnavailableError("Down.")
        if AuditRecord(content, link) not in self.records:
            self.records.append(AuditRecord(content, link))
        if self.down:
            raise RecordsUnavailableError("No response.")
        return True

    @property
    def sequences(self) -> list[int]:
        (chain,) = by_writer(self.records).values()
        assert [len(same) for same in chain.values()] == [1] * len(chain)
        kept = [same for (same,) in chain.values()]
        assert [each.previous for each in kept[1:]] == [each.hash for each in kept[:-1]]
        return list(chain)


@pytest.fixture
def store() -> Store:
    return Store()


async def add(store: Store, chain: AuditChain, content: str = "{}") -> None:
    await chain.append(content, at=NOON, put=store.put)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_failed_write_is_repeated_with_its_place(store: Store, is_stored: bool) -> None:
    chain = AuditChain(store.put)
    await add(store, chain, '{"n": 1}')
    store.down, store.loses_responses = True, is_stored
    with pytest.raises(RecordsUnavailableError):
        await add(store, chain, '{"n": 2}')
    store.down = False
    await add(store, chain, '{"n": 3}')
    assert store.sequences == [0, 1, 2, 3]
    assert [record.content for record in store.records[1:]] == ['{"n": 1}', '{"n": 2}', '{"n": 3}']


async def test_a_failed_start_is_repeated(store: Store) -> None:
    chain, store.down = AuditChain(store.put), True
    with pytest.raises(RecordsUnavailableError):
        await add(store, chain)
    store.down = False
    await add(store, chain)
    assert store.sequences == [0, 1]


async def test_a_refused_record_leaves_no_gap(store: Store) -> None:
    async def refuse(_content: str, _link: AuditLink) -> bool:
        raise ConflictError("There already.")

    chain = AuditChain(store.put)
    with pytest.raises(ConflictError):
        await chain.append("{}", at=NOON, put=refuse)
    await add(store, chain)
    assert store.sequences == [0, 1]


async def test_a_record_that_another_has_the_place_of_leaves_no_gap(store: Store) -> None:
    async def present(_content: str, _link: AuditLink) -> bool:
        return False

    chain = AuditChain(store.put)
    await chain.append("{}", at=NOON, put=present)
    await add(store, chain)
    assert store.sequences == [0, 1]


async def test_who_waits_while_the_store_fails_is_told_at_once(store: Store) -> None:
    chain = AuditChain(store.put)
    await add(store, chain)
    store.down, store.calls = True, 0
    store.released.clear()
    waiting = [asyncio.create_task(add(store, chain)) for _ in range(20)]
    await asyncio.sleep(0)
    store.released.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [RecordsUnavailableError] * 20
    assert store.calls == 1


async def test_after_a_failure_the_next_call_tries_again(store: Store) -> None:
    chain, store.down = AuditChain(store.put), True
    for _ in range(2):
        with pytest.raises(RecordsUnavailableError):
            await add(store, chain)
    store.down = False
    await add(store, chain)
    await add(store, chain)
    assert store.sequences == [0, 1, 2]


def test_a_hash_is_of_what_is_meant_and_not_of_its_spelling() -> None:
    link = AuditLink(writer="w", day=date(2026, 11, 20), sequence=1, previous="")
    one = AuditRecord('{"agent": "ana", "at": 1}', link)
    assert hash_of(one) == hash_of(AuditRecord('{"at":1,"agent":"ana"}', link))
    assert hash_of(one) != hash_of(AuditRecord('{"agent": "ben", "at": 1}', link))
    for change in ({"writer": "v"}, {"day": date(2026, 11, 21)}, {"sequence": 2}, {"previous": "a"}):
        assert hash_of(one) != hash_of(AuditRecord(one.content, link.model_copy(update=change)))


def test_a_digest_is_the_same_in_whatever_order_records_are_read() -> None:
    links = [
        AuditLink(writer=writer, day=date(2026, 11, 20), sequence=sequence, previous="")
        for writer in ("b", "a")
        for sequence in (1, 0)
    ]
    records = [AuditRecord("{}", link) for link in links]
    day = date(2026, 11, 20)
    assert digest_of(day, records, previous="") == digest_of(day, records[::-1], previous="")


def test_a_task_on_fargate_is_named_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://169.254.170.2/v4/cd189a933e5849daa93386466019ab50-2495160603"
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", address)
    assert RunningIn.read().task == "cd189a933e5849daa93386466019ab50"


def test_a_function_is_named_by_its_log_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "receive")
    monkeypatch.setenv("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/20/[1]ab")
    running = RunningIn.read()
    assert (running.program, running.task) == ("receive", "2026/11/20/[1]ab")


def test_a_process_of_this_machine_is_named_by_host_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ECS_CONTAINER_METADATA_URI_V4", "AWS_LAMBDA_LOG_STREAM_NAME"):
        monkeypatch.delenv(name, raising=False)
    host, _, process = RunningIn.read().task.rpartition(":")
    assert host
    assert Path(f"/proc/{process}").exists() or process.isdigit()


async def test_a_conflict_of_another_caller_s_record_is_not_this_caller_s(store: Store) -> None:
    async def stall(_content: str, _link: AuditLink) -> bool:
        stall_calls.append(1)
        raise RecordsUnavailableError("Down.") if len(stall_calls) == 1 else ConflictError("There already.")

    stall_calls: list[int] = []
    chain = AuditChain(store.put)
    with pytest.raises(RecordsUnavailableError):
        await chain.append("{}", at=NOON, put=stall)
    await add(store, chain)
    assert store.sequences == [0, 1]
