"""Withdrawn documents: out of every store, and not brought back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from assistant.domain.documents import DocumentState
from tests.unit.documents.knowledge import Knowledge, document, until


async def test_a_withdrawn_document_is_nowhere(knowledge: Knowledge) -> None:
    await knowledge.add(document(content="Zolpidem secret."), document("other"))
    await knowledge.work()
    for _ in range(2):
        summary = await knowledge.withdraw("refill", "nothing")
        assert (summary.withdrawn, summary.unknown) == (("refill",), ("nothing",))
        assert await knowledge.stores.documents.get("refill") is None
        await knowledge.work()
    status = await knowledge.status()
    assert (status.state, status.live_content_hash, status.passage_count) == (
        DocumentState.WITHDRAWN,
        None,
        0,
    )
    assert list(await knowledge.found("zolpidem")) == ["other"]


async def test_a_withdrawal_destroys_the_key_of_what_was_kept_about_the_document(
    knowledge: Knowledge,
) -> None:
    keys = knowledge.stores.erasure_keys
    await knowledge.add(document(), document("other"))
    await knowledge.work()
    await keys.keys_of(["document:refill", "document:other"], create=True)
    await knowledge.withdraw("refill")
    await knowledge.work()
    assert (await keys.keys_of(["document:refill", "document:other"], create=True)).keys() == {
        "document:other"
    }
    assert (await keys.destroyed(["document:refill"])).keys() == {"document:refill"}


async def test_a_withdrawn_document_may_be_added_again(knowledge: Knowledge) -> None:
    await knowledge.add(document())
    await knowledge.work()
    await knowledge.withdraw("refill")
    await knowledge.work()
    summary = await knowledge.add(document())
    assert (summary.added, summary.unchanged) == (1, 0)
    await knowledge.work()
    assert await knowledge.state() == DocumentState.LIVE
    assert await knowledge.found() == {"refill": ["Wait until day 24."]}


async def test_a_message_of_a_withdrawal_that_comes_late_removes_nothing_that_is_live_again(
    knowledge: Knowledge,
) -> None:
    await knowledge.add(document())
    await knowledge.work()
    await knowledge.withdraw("refill")
    await knowledge.work()
    await knowledge.add(document())
    await knowledge.work()
    await knowledge.stores.withdrawals.send_many(["refill"])
    await knowledge.work()
    assert await knowledge.stores.withdrawals.depth() == 0
    assert await knowledge.found() == {"refill": ["Wait until day 24."]}


async def test_a_withdrawal_during_processing_is_not_undone(knowledge: Knowledge) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_texts: Sequence[str]) -> None:
        asked.set()
        await go_on.wait()

    knowledge.embedder.before = wait
    await knowledge.add(document(content="Zolpidem secret."))
    working = asyncio.create_task(knowledge.work())
    await asyncio.wait_for(asked.wait(), 60)
    await knowledge.withdraw("refill")
    await until(lambda: _is_empty(knowledge))
    go_on.set()
    await working
    assert await knowledge.state() == DocumentState.WITHDRAWN
    assert await knowledge.found() == {}
    assert knowledge.files_with("Zolpidem") == []


async def _is_empty(knowledge: Knowledge) -> bool:
    return await knowledge.stores.withdrawals.depth() == 0


async def test_a_withdrawal_between_parsing_and_its_state_leaves_no_text(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = knowledge.stores.documents
    put_parsed = documents.put_parsed

    async def withdraw_first(*arguments: object) -> None:
        await knowledge.withdraw("refill")
        await until(lambda: _is_empty(knowledge))
        await put_parsed(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(documents, "put_parsed", withdraw_first)
    await knowledge.add(document(content="Zolpidem secret."))
    await knowledge.work()
    assert knowledge.files_with("Zolpidem") == []


async def test_old_content_does_not_answer_after_a_withdrawal_and_a_failed_return(
    knowledge: Knowledge,
) -> None:
    await knowledge.add(document(content="Withdrawn."))
    await knowledge.work()
    await knowledge.withdraw("refill")
    await knowledge.add(document(content="<!-- -->"))
    await knowledge.work()
    assert await knowledge.state() == DocumentState.FAILED
    assert await knowledge.found() == {}


async def test_a_backlog_does_not_delay_a_withdrawal(knowledge: Knowledge) -> None:
    await knowledge.add(document())
    await knowledge.work()
    go_on = asyncio.Event()

    async def wait(_texts: Sequence[str]) -> None:
        await go_on.wait()

    knowledge.embedder.before = wait
    await knowledge.add(*(document(f"d{number}") for number in range(500)))
    working = asyncio.create_task(knowledge.work())
    await knowledge.withdraw("refill")
    await until(lambda: _removed(knowledge))
    go_on.set()
    await working


async def _removed(knowledge: Knowledge) -> bool:
    return (await knowledge.status()).live_content_hash is None and await knowledge.found() == {}


async def test_a_withdrawal_that_a_kill_interrupted_is_completed_at_the_next_start(
    knowledge: Knowledge,
) -> None:
    await knowledge.add(document())
    await knowledge.work()
    await knowledge.withdraw("refill")
    (message,) = await knowledge.stores.withdrawals.receive(limit=1, wait_s=0, visibility_timeout_s=600)
    await knowledge.stores.withdrawals.delete_many([message.receipt])  # its message is lost
    await knowledge.work()
    assert (await knowledge.status()).live_content_hash is None
    assert await knowledge.found() == {}
