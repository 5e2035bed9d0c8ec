from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from shop import Shop, open_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    shop = open_shop(tmp_path_factory.mktemp("shop"), orders=True)
    yield shop
    shop.run("tenant", "down")
    assert shop.nothing_runs()


@pytest.fixture(scope="session")
def asked(shop: Shop) -> str:
    """The output of the first question from cold: it loads the tenant file's knowledge by itself."""
    return shop.run("ask", "--tenant", "shop", "When does the help desk answer the phone?")
