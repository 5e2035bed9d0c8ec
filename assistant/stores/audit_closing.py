"""Opens what closes and verifies days of audit records, on AWS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from assistant.domain.clock import SystemClock
from assistant.process.settings import AuditSettings
from assistant.stores.audit_days import DIGESTS, CloseDays, DayDigests
from assistant.stores.clients import AwsClients
from assistant.stores.opened import AwsStores
from assistant.stores.ports import AnswerRecords
from assistant.stores.records import RECORDS


@dataclass(frozen=True, slots=True)
class DeployedAudit:
    """``close_audit_days``."""

    records: AnswerRecords
    digests: DayDigests
    metrics_service: str

    async def close(self) -> int:
        return await CloseDays(self.records, self.digests, clock=SystemClock()).close()


@asynccontextmanager
async def open_audit(settings: AuditSettings) -> AsyncGenerator[DeployedAudit]:
    async with AsyncExitStack() as stack:
        stores = AwsStores(AwsClients(settings, stack), settings, stack=stack)
        yield DeployedAudit(await stores.of(RECORDS), await stores.of(DIGESTS), settings.metrics_service)
