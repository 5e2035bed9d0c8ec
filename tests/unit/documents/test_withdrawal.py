"""Withdrawn documents: out of every store, and not brought back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.documents.withdraw import WithdrawalReceipts
from assistant.domain.documents import DocumentState, DocumentStatus, ReceiptPlace, WithdrawalReceipt
from assistant.tenant.deployment import RECOVERY
from assistant.tenant.tenant import DeployedKeeping, RecordsSection, TenantConfig
from tests.contracts import samples
from tests.stage.tenant_stores import SteppedClock
from tests.unit.documents.scene import Knowledge, document, until


async def test_a_withdrawn_document_is_nowhere(knowledge: Knowledge) -> None:
    await knowledge.know(document(content="Zolpidem secret."), document("other"))
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
    await knowledge.know(document(), document("other"))
    await keys.keys_of(["document:refill", "document:other"], create=True)
    await knowledge.forget("refill")
    assert (await keys.keys_of(["document:refill", "document:other"], create=True)).keys() == {
        "document:other"
    }
    assert (await keys.destroyed(["document:refill"])).keys() == {"document:refill"}


async def test_a_withdrawn_document_may_be_added_again(knowledge: Knowledge) -> None:
    await knowledge.know(document())
    await knowledge.forget("refill")
    summary = await knowledge.add(document())
    assert (summary.added, summary.unchanged) == (1, 0)
    await knowledge.work()
    assert await knowledge.state() == DocumentState.LIVE
    assert await knowledge.found() == {"refill": ["Wait until day 24."]}


async def test_a_message_of_a_withdrawal_that_comes_late_removes_nothing_that_is_live_again(
    knowledge: Knowledge,
) -> None:
    await knowledge.know(document())
    await knowledge.forget("refill")
    await knowledge.know(document())
    await knowledge.stores.withdrawals.send_many(["refill"])
    await knowledge.work()
    assert await knowledge.stores.withdrawals.depth() == 0
    assert await knowledge.found() == {"refill": ["Wait until day 24."]}


async def test_a_withdrawal_during_processing_is_not_undone(knowledge: Knowledge) -> None:
    asked, go_on = knowledge.embedder.hold()
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
    await knowledge.know(document(content="Zolpidem secret."))
    assert knowledge.files_with("Zolpidem") == []


async def test_old_content_does_not_answer_after_a_withdrawal_and_a_failed_return(
    knowledge: Knowledge,
) -> None:
    await knowledge.know(document(content="Withdrawn."))
    await knowledge.withdraw("refill")
    await knowledge.know(document(content="<!-- -->"))
    assert await knowledge.state() == DocumentState.FAILED
    assert await knowledge.found() == {}


async def test_a_backlog_does_not_delay_a_withdrawal(knowledge: Knowledge) -> None:
    await knowledge.know(document())
    _, go_on = knowledge.embedder.hold()
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
    await knowledge.know(document())
    await knowledge.withdraw("refill")
    (message,) = await knowledge.stores.withdrawals.receive(limit=1, wait_s=0, visibility_timeout_s=600)
    await knowledge.stores.withdrawals.delete_many([message.receipt])  # its message is lost
    await knowledge.work()
    assert (await knowledge.status()).live_content_hash is None
    assert await knowledge.found() == {}


# --- receipts ---------------------------------------------------------------------------------------------
TENANT = TenantConfig.model_validate({"schema_version": 1, "name": "clinic", "display_name": "Clinic"})


async def receipt_of(tenant: TenantConfig, status: DocumentStatus) -> WithdrawalReceipt:
    """Make a receipt of stores that hold nothing."""

    async def nothing(*_given: object, **_named: object) -> Any:
        return {}

    async def rows_of(_document_id: str) -> dict[str, int]:
        return {"live": 0}

    async def holdings(_document_id: str) -> int:
        return 0

    async def of(_port: object) -> Any:
        return stores

    stores: Any = SimpleNamespace(
        of=of, holdings=holdings, rows_of=rows_of, destroyed=nothing, list=nothing, version=holdings
    )
    receipts = WithdrawalReceipts(
        tenant=tenant,
        documents=stores,
        versions=stores,
        stores=stores,
        on_aws=tenant.records.deployed is not None,
        clock=SteppedClock(),
    )
    return await receipts.of(status)


WITHDRAWN = samples.status().model_copy(update={"state": DocumentState.WITHDRAWN})


async def capture_of(tenant: TenantConfig) -> ReceiptPlace:
    receipt = await receipt_of(tenant, WITHDRAWN)
    (place,) = [place for place in receipt.places if place.place == "capture"]
    return place


async def test_no_receipt_is_complete_before_the_worker_came() -> None:
    """It may still write what it had begun with: that the stores hold nothing now proves nothing."""
    due = await receipt_of(TENANT, WITHDRAWN.model_copy(update={"live_content_hash": "hash-1"}))
    assert not due.is_complete
    assert pending(due) >= {"index", "vectors"}
    assert not {"index", "vectors"} & pending(await receipt_of(TENANT, WITHDRAWN))


def pending(receipt: WithdrawalReceipt) -> set[str]:
    return {place.place for place in receipt.places if place.state == "pending"}


@pytest.mark.parametrize(
    ("texts", "said", "days"),
    [("none", "clean copies hold no text", 4), ("redacted", "without patients' data that the filter", 44)],
)
async def test_a_deployment_says_when_captured_words_are_gone(texts: Any, said: str, days: int) -> None:
    keeping = DeployedKeeping(profile="hipaa", capture="quarantine", capture_texts=texts, training=False)
    tenant = TENANT.model_copy(update={"records": RecordsSection(deployed=keeping)})
    place = await capture_of(tenant)
    assert said in place.what
    assert place.until is not None
    assert place.until - samples.status().updated_at == timedelta(days=days)


@pytest.mark.parametrize(("profile", "days"), [("hipaa", 36), ("standard", None), ("dev", None)])
async def test_a_deployment_says_when_the_last_recovery_point_ends(profile: Any, days: int | None) -> None:
    keeping = DeployedKeeping(profile=profile, capture="off", capture_texts="none", training=False)
    tenant = TENANT.model_copy(update={"records": RecordsSection(deployed=keeping)})
    receipt = await receipt_of(tenant, WITHDRAWN)
    ends = [place.until for place in receipt.places if place.place == "recovery_points"]
    assert ends == ([] if days is None else [WITHDRAWN.updated_at + timedelta(days=days)])


async def test_a_deployment_names_the_vault_that_has_copies_of_the_points() -> None:
    """A copy keeps the time of its point, so it ends with it."""
    vault = "arn:aws:backup:eu-west-1:666677778888:backup-vault:far"
    keeping = DeployedKeeping(profile="hipaa", capture="off", recovery_copies=vault)
    tenant = TENANT.model_copy(update={"records": RecordsSection(deployed=keeping)})
    places = {place.place: place for place in (await receipt_of(tenant, WITHDRAWN)).places}
    assert places["recovery_copies"].until == places["recovery_points"].until
    assert vault in places["recovery_copies"].rule


def test_a_point_of_a_running_copy_ends_within_the_day_that_a_receipt_adds() -> None:
    """A copy that runs when the document goes began so long before or after at most; AWS deletes a point
    within eight hours after its end."""
    assert all(each.run_hours + 8 <= 24 for each in RECOVERY.values())
