"""Rules for all tests: no network beyond this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts  # pyright: ignore[reportMissingTypeStubs]

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit tests open no connection at all unless marked ``loopback``; the others only to this machine."""
    in_unit = "unit" in request.path.parts
    if in_unit and request.node.get_closest_marker("loopback") is None:
        disable_socket(allow_unix_socket=True)
    else:
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    yield
    enable_socket()
