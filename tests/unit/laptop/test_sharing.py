"""How commands share one site: who serves, who uses it, and what a killed command leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assistant.laptop.layout import SharedSite
from tests.fakes.sites import address

SERVES = """
import os, signal, sys
from pathlib import Path
from assistant.laptop.layout import SharedSite
from tests.fakes.sites import address

shared = SharedSite(Path(sys.argv[1]))
assert shared.take()
if sys.argv[2] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
shared.publish(address())
print("serving", flush=True)
input()
"""
Serve = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start another command that serves."""
    started: list[subprocess.Popen[str]] = []

    def start(kind: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVES, str(tmp_path), kind]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(other)
        assert other.stdout is not None
        assert other.stdout.readline() == "serving\n"
        return other

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def shared(tmp_path: Path) -> SharedSite:
    return SharedSite(tmp_path)


def test_one_command_serves_and_the_others_find_where(shared: SharedSite, serve: Serve) -> None:
    other = serve("plain")
    assert not shared.take()
    found = shared.read()
    assert found is not None
    assert found.pid == other.pid
    assert shared.serves(found)


def test_a_killed_command_leaves_no_site_and_the_next_one_serves(shared: SharedSite, serve: Serve) -> None:
    other = serve("plain")
    found = shared.read()
    other.kill()
    other.communicate()
    assert found is not None
    assert shared.read() is None
    assert not shared.serves(found)
    assert shared.take()
    shared.release()


def test_a_command_that_starts_is_not_yet_found(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    assert SharedSite(tmp_path).read() is None
    assert not SharedSite(tmp_path).take()
    shared.release()


def test_a_file_that_is_no_address_counts_as_none(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    (tmp_path / "site.json").write_text('{"service": ')
    assert SharedSite(tmp_path).read() is None
    shared.release()


def test_who_serves_waits_for_those_who_use_it(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    shared.publish(address())
    waiting, ended = threading.Event(), threading.Event()

    def end() -> None:
        shared.publish(address(service=""))
        shared.await_users(waiting.set)
        ended.set()

    ending = threading.Thread(target=end)
    with SharedSite(tmp_path).using(address()) as is_serving:
        assert is_serving
        assert shared.is_used()
        ending.start()
        assert waiting.wait(60)
        assert not ended.is_set()
    ending.join(60)
    assert ended.is_set()
    assert not shared.is_used()
    shared.release()


def test_nobody_begins_to_use_a_site_that_stops(shared: SharedSite, tmp_path: Path) -> None:
    assert shared.take()
    shared.publish(address(service=""))
    with SharedSite(tmp_path).using(address()) as is_serving:
        assert not is_serving
    shared.release()


@pytest.mark.parametrize("kind", ["plain", "stubborn"])
def test_down_ends_the_process_that_serves(shared: SharedSite, serve: Serve, kind: str) -> None:
    other = serve(kind)
    reaped = threading.Thread(target=other.wait)
    reaped.start()
    stopped = shared.stop(timeout_s=0.3)
    reaped.join(60)
    assert stopped is not None
    assert stopped.pid == other.pid
    assert other.returncode == (-9 if kind == "stubborn" else -15)
    assert shared.stop(timeout_s=0.3) is None
