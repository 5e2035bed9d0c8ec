"""Asks one question through the private link: by schedule, after deployments, and when invoked by hand."""

from __future__ import annotations

import asyncio
from typing import Any

from assistant.probe.probe import probe_once, write_metrics
from assistant.settings.functions import ProbeSettings


def handle(event: Any, context: Any) -> dict[str, str | float]:
    """Return what came of it. A path that does not work is a result, not an error of the function."""
    del event, context
    settings = ProbeSettings.read()
    result = asyncio.run(probe_once(settings))
    write_metrics(result, tenant=settings.tenant)
    return {"outcome": result.outcome.value, "reason": result.reason, "duration_ms": result.duration_ms}
