from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from assistant.cli.ports import PortWishes, refuse_taken
from assistant.domain.errors import LocalRuntimeError

pytestmark = pytest.mark.loopback


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_what_runs_keeps_its_ports() -> None:
    assert PortWishes({"service": 8700}).choose({"service": 9000}) == {"service": 9000}


def test_ports_that_a_person_asks_for_stand_over_what_runs() -> None:
    assert PortWishes({"service": 8700}, asked_for=True).choose({"service": 9000}) == {"service": 8700}


def test_asking_for_any_port_keeps_the_one_that_runs() -> None:
    assert PortWishes({"service": 0}, asked_for=True).choose({"service": 9000}) == {"service": 9000}


def test_free_ports_are_all_different() -> None:
    chosen = PortWishes(dict.fromkeys("abcdef", 0)).choose({})
    assert len(set(chosen.values())) == 6


def test_a_port_in_use_is_named_with_what_to_do(taken: int) -> None:
    with pytest.raises(LocalRuntimeError, match=rf"Port {taken}, which the service needs.*--port"):
        refuse_taken(taken, name="service", chosen=True)


def test_a_port_that_nobody_chose_is_not_asked_for(taken: int) -> None:
    with pytest.raises(LocalRuntimeError, match="assistant local down"):
        refuse_taken(taken, name="llm", chosen=False)
