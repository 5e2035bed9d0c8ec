from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.stage.running_service import RunningService, service_of_two


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with service_of_two(tmp_path) as service:
        yield service
