"""Asks one question through the private link: by schedule, after deployments, and when invoked by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from assistant.probe.probe import probe_once, write_metrics
from assistant.process.settings import ProbeSettings


async def run(settings: ProbeSettings) -> dict[str, str | float]:
    """Return the outcome. A failed path is a result, not an error of the function."""
    result = await probe_once(settings)
    write_metrics(result, tenant=settings.tenant)
    return {"outcome": result.outcome.value, "reason": result.reason, "duration_ms": result.duration_ms}


def handle(_event: Any, _context: Any) -> dict[str, str | float]:
    return asyncio.run(run(ProbeSettings.read()))
