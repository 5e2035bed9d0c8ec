from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.local.processes import find_marked, stop_all

sys.path.insert(0, str(Path(__file__).parent))

from local_processes import Command, Local


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    local = Local(tmp_path / "state")
    yield local
    stop_all(find_marked(local.registry.path), timeout_s=1)


@pytest.fixture
def command(local: Local) -> Iterator[Callable[..., Command]]:
    commands: list[Command] = []

    def start(*names: str, **changes: str) -> Command:
        chosen = Local(local.state_dir, modes=dict(local.modes), version=changes.get("version", "1"))
        commands.append(Command(chosen, *names))
        return commands[-1]

    yield start
    for one in commands:
        one.close()


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
