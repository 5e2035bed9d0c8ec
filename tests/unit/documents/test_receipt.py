"""What a receipt says of captured calls, by what the tenant file keeps."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.documents.withdraw import WithdrawalReceipts
from assistant.domain.documents import DocumentState, DocumentStatus, ReceiptPlace, WithdrawalReceipt
from assistant.tenant.deployment import RECOVERY
from assistant.tenant.tenant import DeployedKeeping, RecordsSection, TenantConfig
from tests.contracts import samples
from tests.fakes.clock import SteppedClock

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
