"""Writes the digest of each day of audit records that ended, by schedule."""

from __future__ import annotations

import structlog

from assistant.process.settings import AuditSettings
from assistant.service.function import Event, FunctionEntry, emit_metric
from assistant.stores.audit import MOST_DAYS
from assistant.stores.opened import DeployedAudit, open_audit
from assistant.tenant import deployed_names

_log = structlog.get_logger(__name__)


async def run(services: DeployedAudit, _event: Event) -> None:
    """Close the days, and emit that none is open: a run that closed as many as it may leaves that to the
    next."""
    days = await services.close()
    _log.info("audit_closed", days=days)
    if days < MOST_DAYS:
        emit_metric(deployed_names.AUDIT_CLOSED, 1.0, service=services.metrics_service)


handle = FunctionEntry(AuditSettings, open_audit, run)
