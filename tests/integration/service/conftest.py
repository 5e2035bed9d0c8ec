from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.running_service import RunningService, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """Two tenants, each with one document."""
    async with running_service(tmp_path) as service:
        await service.know("wait", "The wait is two days.")
        await service.know("refill", "A refill is due after 25 days.", tenant="pharmacy")
        yield service
