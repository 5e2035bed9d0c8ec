"""Opens what closes and verifies days of audit records, on AWS."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from assistant.answering.audit_days import CloseDays, DigestFiles
from assistant.answering.ports import AnswerRecords
from assistant.domain.clock import SystemClock
from assistant.settings.process import AuditSettings
from assistant.wiring.clients import AwsClients
from assistant.wiring.stores import DIGESTS, RECORDS, AwsStores


@dataclass(frozen=True, slots=True)
class DeployedAudit:
    """``close_audit_days``."""

    records: AnswerRecords
    digests: DigestFiles
    metrics_service: str

    async def close(self) -> int:
        return await CloseDays(self.records, self.digests, clock=SystemClock()).close()


@asynccontextmanager
async def open_audit(settings: AuditSettings) -> AsyncGenerator[DeployedAudit]:
    async with AsyncExitStack() as stack:
        stores = AwsStores(AwsClients(settings, stack), settings, stack=stack)
        yield DeployedAudit(await stores.of(RECORDS), await stores.of(DIGESTS), settings.metrics_service)
