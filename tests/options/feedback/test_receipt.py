"""What a receipt says of captured calls, by what the tenant file keeps."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from assistant.documents.receipt import WithdrawalReceipts
from assistant.domain.documents import DocumentState, ReceiptPlace
from assistant.tenant.tenant import DeployedKeeping, RecordsSection, TenantConfig
from tests.contracts import samples
from tests.fakes.clock import SteppedClock

TENANT = TenantConfig.model_validate({"schema_version": 1, "name": "clinic", "display_name": "Clinic"})


async def capture_of(tenant: TenantConfig) -> ReceiptPlace:
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
    withdrawn = samples.status().model_copy(update={"state": DocumentState.WITHDRAWN})
    (place,) = [place for place in (await receipts.of(withdrawn)).places if place.place == "capture"]
    return place


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


async def test_a_machine_says_when_its_captured_calls_are_gone() -> None:
    place = await capture_of(TENANT)
    assert "after 7 days" in place.rule
    assert place.until == samples.status().updated_at + timedelta(days=7)
