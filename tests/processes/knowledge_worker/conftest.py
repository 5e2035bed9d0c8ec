"""A worker's site, and the embedding endpoint that it calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.knowledge_worker.endpoint import ScriptedEndpoint, scripted_endpoint
from tests.processes.knowledge_worker.site import Site


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, endpoint: ScriptedEndpoint) -> Site:
    return Site(tmp_path, endpoint)
