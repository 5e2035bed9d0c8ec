"""The supervisor over small real processes: sharing, restarts, leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import psutil
import pytest
from local_processes import Command, Local, eventually, listens, running

from assistant.domain.errors import LocalRuntimeError
from assistant.local import processes
from assistant.local.processes import find_marked

Start = Callable[..., Command]
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def test_what_is_needed_listens_inside_the_block_and_is_gone_after_it(local: Local) -> None:
    with local.supervisor().using(["b", "a"], command="test") as ports:
        assert listens(ports["a"])
        assert listens(ports["b"])
    assert not listens(ports["a"])
    assert not listens(ports["b"])
    assert running(local.registry).processes == {}


def test_only_what_is_needed_is_started(local: Local) -> None:
    with local.supervisor().using(["a"], command="test"):
        assert local.started == ["a"]


def test_a_process_starts_after_those_that_it_names(local: Local) -> None:
    with local.supervisor().using(["b", "a"], command="test"):
        assert local.started == ["a", "b"]


def test_what_runs_is_reused_and_left_running_by_the_second_command(local: Local) -> None:
    supervisor = local.supervisor()
    with supervisor.using(["a"], command="first") as ports:
        with supervisor.using(["a"], command="second") as again:
            assert again == ports
            assert local.started == ["a"]
        assert listens(ports["a"])


def test_a_process_outlives_the_command_that_started_it_while_another_needs_it(
    local: Local, command: Start
) -> None:
    first = command("a")
    first.await_line("using")
    second = command("a")
    second.await_line("using")
    port = running(local.registry).ports["a"]
    assert first.end() == 0
    assert listens(port)
    assert second.end() == 0
    assert not listens(port)


def test_two_commands_from_cold_at_once_both_succeed_and_share(local: Local, command: Start) -> None:
    both = [command("a", "b"), command("a", "b")]
    for one in both:
        one.await_line("using")
    assert len(find_marked(local.registry.path)) == 2
    assert [one.end() for one in both] == [0, 0]
    assert find_marked(local.registry.path) == []


def test_a_command_says_that_it_waits_for_one_that_starts(local: Local, command: Start) -> None:
    local.modes["a"] = "slow"
    first = command("a")
    eventually(lambda: local.registry.path.exists() and "a" in running(local.registry).processes)
    second = command("a")
    second.await_line("waiting for another assistant command")
    local.go.touch()
    first.await_line("using")
    second.await_line("using")


def test_up_keeps_processes_when_a_command_ends_and_down_stops_them(local: Local) -> None:
    supervisor = local.supervisor()
    ports = supervisor.up(["a", "b"])
    with supervisor.using(["a"], command="test"):
        pass
    assert listens(ports["a"])
    assert set(supervisor.down().names) == {"a", "b"}
    assert not listens(ports["a"])
    assert find_marked(local.registry.path) == []


def test_what_a_killed_command_left_is_stopped_by_the_next(local: Local, command: Start) -> None:
    killed = command("a", "b")
    killed.await_line("using")
    ports = running(local.registry).ports
    killed.process.kill()
    killed.process.wait(timeout=60)
    assert listens(ports["a"])
    left = local.supervisor().clean()
    assert left.processes == {}
    assert not listens(ports["a"])


def test_what_a_killed_command_left_is_taken_over_by_one_that_needs_it(local: Local, command: Start) -> None:
    killed = command("a")
    killed.await_line("using")
    killed.process.kill()
    killed.process.wait(timeout=60)
    with local.supervisor().using(["a"], command="test") as ports:
        assert local.started == []
    assert not listens(ports["a"])


def test_a_command_killed_while_it_starts_leaves_nothing_to_the_next(local: Local, command: Start) -> None:
    local.modes["a"] = "slow"
    killed = command("a")
    eventually(lambda: local.registry.path.exists() and "a" in running(local.registry).processes)
    killed.process.kill()
    killed.process.wait(timeout=60)
    local.modes["a"] = "ready"
    with local.supervisor().using(["a"], command="test"):
        assert len(find_marked(local.registry.path)) == 1
    assert find_marked(local.registry.path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_leaves_no_process(
    local: Local, command: Start, number: signal.Signals
) -> None:
    interrupted = command("a", "b")
    interrupted.await_line("using")
    while interrupted.process.poll() is None:  # thousands, at every step of the end
        interrupted.process.send_signal(number)
    assert find_marked(local.registry.path) == []


@pytest.fixture
def _ended_by_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    processes.end_in_order_on_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (None, signal.SIGINT),
        (None, signal.SIGHUP),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGHUP),
    ],
)
@pytest.mark.usefixtures("_ended_by_signals")
def test_a_signal_just_before_they_are_ignored_leaves_no_process(
    local: Local, monkeypatch: pytest.MonkeyPatch, first: signal.Signals | None, later: signal.Signals
) -> None:
    ignoring = processes.uninterrupted

    def interrupted() -> AbstractContextManager[None]:
        signal.raise_signal(later)
        return ignoring()

    monkeypatch.setattr(processes, "uninterrupted", interrupted)

    def command() -> None:
        with local.supervisor().using(["a"], command="test"):
            if first is not None:
                signal.raise_signal(first)

    with pytest.raises((KeyboardInterrupt, processes.SignalExit)) as ended:
        command()
    assert find_marked(local.registry.path) == []
    by = first or later
    assert ended.type is (KeyboardInterrupt if by == signal.SIGINT else processes.SignalExit)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_interrupted_while_it_starts_leaves_no_process(
    local: Local, command: Start, number: signal.Signals
) -> None:
    local.modes["a"] = "slow"
    interrupted = command("a")
    eventually(lambda: local.registry.path.exists() and "a" in running(local.registry).processes)
    interrupted.process.send_signal(number)
    interrupted.process.wait(timeout=60)
    assert find_marked(local.registry.path) == []


def test_a_process_that_died_is_started_anew(local: Local) -> None:
    supervisor = local.supervisor()
    supervisor.up(["a"])
    died = running(local.registry).processes["a"].identity
    os.kill(died.pid, signal.SIGKILL)
    eventually(lambda: not died.is_alive())
    with supervisor.using(["a"], command="test") as ports:
        assert listens(ports["a"])
        assert local.started == ["a", "a"]
    supervisor.down()


def test_a_recycled_pid_is_not_taken_for_the_process(local: Local) -> None:
    supervisor = local.supervisor()
    supervisor.up(["a"])
    written = running(local.registry)
    one = written.processes["a"]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        other = one.identity.model_copy(
            update={"pid": stranger.pid, "started_at": one.identity.started_at - 60}
        )
        written.processes["a"] = one.model_copy(update={"identity": other})
        local.registry.write(written)
        supervisor.down()
        assert stranger.poll() is None
        stranger.communicate(b"\n", timeout=60)
    assert stranger.returncode == 0
    assert find_marked(local.registry.path) == []


def test_other_settings_restart_what_local_up_keeps(local: Local) -> None:
    local.supervisor().up(["a", "b"])
    first = running(local.registry).processes["a"].identity
    local.version = "2"
    with local.supervisor().using(["a"], command="test"):
        assert running(local.registry).processes["a"].identity != first
    assert set(running(local.registry).processes) == {"a", "b"}
    local.supervisor().down()


def test_other_settings_wait_for_the_command_that_uses_the_old(local: Local, command: Start) -> None:
    old = command("a")
    old.await_line("using")
    new = command("a", version="2")
    line = new.await_line("waiting for hold")
    assert "other settings: a (VERSION)" in line
    assert old.end() == 0
    new.await_line("using")


def test_other_settings_restart_what_a_yielding_use_has(local: Local) -> None:
    with local.supervisor().using(["a"], command="demo", yields=True) as ports:
        changed = Local(local.state_dir, version="2")
        with changed.supervisor().using(["a"], command="test"):
            assert changed.started == ["a"]
        assert listens(ports["a"])


def test_a_registry_that_cannot_be_read_is_kept_aside_and_its_processes_are_stopped(local: Local) -> None:
    old = local.supervisor().up(["a"])
    local.registry.path.write_text('{"processes": [')
    with local.supervisor().using(["a"], command="test"):
        assert not listens(old["a"]) or running(local.registry).ports["a"] == old["a"]
        assert len(find_marked(local.registry.path)) == 1
    assert "is invalid" in local.said[0]
    assert len(list(local.state_dir.glob("running.unreadable-*.json"))) == 1


def test_a_process_that_ignores_sigterm_is_killed(local: Local) -> None:
    local.modes["a"] = "stubborn"
    supervisor = local.supervisor()
    supervisor.up(["a"])
    supervisor.down()
    assert find_marked(local.registry.path) == []


def test_a_failing_start_stops_what_it_started_before(local: Local) -> None:
    local.modes["b"] = "crash"
    with pytest.raises(
        LocalRuntimeError, match=r"The b process did not start .*: The tokenizer of the model is damaged"
    ):
        local.supervisor().up(["a", "b"])
    assert find_marked(local.registry.path) == []
    assert running(local.registry).processes == {}


def test_a_port_in_use_is_named_with_what_to_do(local: Local, taken_port: int) -> None:
    local.wishes["a"] = taken_port
    with (
        pytest.raises(LocalRuntimeError, match=rf"Port {taken_port}, which the a needs, .*--port"),
        local.supervisor().using(["a"], command="test"),
    ):
        pass
    assert find_marked(local.registry.path) == []


def test_a_missing_package_is_named(local: Local) -> None:
    local.modes["a"] = "missing-package"
    with pytest.raises(LocalRuntimeError, match="package package_that_is_not_there is missing; install"):
        local.supervisor().up(["a"])


def test_a_full_disk_starts_nothing(local: Local) -> None:
    local.settings = local.settings.model_copy(update={"min_free_mib": 10**9})
    with pytest.raises(LocalRuntimeError, match=r"The disk of .* is full"):
        local.supervisor().up(["a"])
    assert local.started == []


def test_a_process_that_is_never_ready_is_given_up(local: Local) -> None:
    local.modes["a"] = "slow"
    local.settings = local.settings.model_copy(update={"start_timeout_s": 0.3})
    with pytest.raises(LocalRuntimeError, match="The a process was not ready after"):
        local.supervisor().up(["a"])
    assert find_marked(local.registry.path) == []


def test_the_environment_of_a_command_does_not_reach_the_processes(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_MODEL_PATH", "/somewhere")
    local.supervisor().up(["a"])
    pid = running(local.registry).processes["a"].identity.pid
    assert "ASSISTANT_MODEL_PATH" not in psutil.Process(pid).environ()
    local.supervisor().down()


def test_a_process_starts_without_those_that_nobody_needs(local: Local) -> None:
    with local.supervisor().using(["b"], command="test"):
        assert local.started == ["b"]


def test_what_local_up_kept_before_a_restart_of_the_machine_is_not_kept_after_it(local: Local) -> None:
    local.supervisor().up(["a"])
    died = running(local.registry).processes["a"].identity
    os.kill(died.pid, signal.SIGKILL)
    eventually(lambda: not died.is_alive())
    with local.supervisor().using(["a"], command="test") as ports:
        assert listens(ports["a"])
    assert not listens(ports["a"])
