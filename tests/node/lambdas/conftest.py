"""One tenant's things on AWS, for functions that are called as Lambda calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.node.lambdas.deployment import Deployment, deployed


@pytest.fixture
async def deployment(
    aws_server_url: str, opensearch_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[Deployment]:
    async with deployed(
        aws_url=aws_server_url, opensearch_url=opensearch_url, monkeypatch=monkeypatch, folder=tmp_path
    ) as made:
        yield made
