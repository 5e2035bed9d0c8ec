"""A tenant's knowledge in a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.documents.scene import Knowledge


@pytest.fixture
async def knowledge(tmp_path: Path) -> AsyncIterator[Knowledge]:
    made = Knowledge.below(tmp_path)
    yield made
    await made.stores.close()
