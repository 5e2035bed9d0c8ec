"""Ports and logs of the local processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.domain.errors import LocalRuntimeError
from assistant.local.processes import PortWishes, ProcessLog, refuse_taken

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
    with pytest.raises(LocalRuntimeError, match="assistant tenant down"):
        refuse_taken(taken, name="llm", chosen=False)


@pytest.fixture
def log(tmp_path: Path) -> ProcessLog:
    return ProcessLog(tmp_path / "a.log")


def test_a_ready_line_of_an_earlier_start_does_not_count(log: ProcessLog) -> None:
    log.path.write_text('{"ready": true, "port": 1}\n')
    assert not log.is_ready(since_bytes=log.size_bytes())
    assert log.is_ready(since_bytes=0)


def test_a_ready_line_is_found_among_log_lines(log: ProcessLog) -> None:
    log.path.write_text('{"event": "starting"}\n{broken\n{"ready": true}\n')
    assert log.is_ready(since_bytes=0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"event": "cannot start", "detail": "The file is damaged."}', "The file is damaged."),
        ('{"event": "cannot start"}', "cannot start"),
        ("ModuleNotFoundError: No module named 'x'", "ModuleNotFoundError: No module named 'x'"),
    ],
)
def test_the_reason_is_the_last_line_in_words(log: ProcessLog, line: str, reason: str) -> None:
    log.path.write_text(f"first\n{line}\n\n")
    assert log.last_reason() == reason


def test_a_process_without_output_has_that_as_its_reason(log: ProcessLog) -> None:
    assert log.last_reason() == "no output"


def test_a_log_names_the_tenants_that_could_not_be_opened_since_a_start(tmp_path: Path) -> None:
    log = ProcessLog(tmp_path / "service.log")
    line = '{"event": "tenant_not_served", "at": "%s", "reason": "%s"}\n'
    log.path.write_text(line % ("opening", "of an earlier start"))
    start = log.size_bytes()
    with log.path.open("a") as file:
        file.write(line % ("reading", "the file of settings") + line % ("opening", "a damaged file"))
    assert log.not_opened(since_bytes=start) == ["a damaged file"]


def test_a_log_over_its_limit_keeps_whole_lines_of_the_newer_half(log: ProcessLog) -> None:
    log.path.write_text("".join(f"line {number:04}\n" for number in range(1000)))
    log.trim(limit_bytes=5000)
    kept = log.path.read_text().splitlines()
    assert kept[-1] == "line 0999"
    assert kept[0].startswith("line ")
    assert 2000 < log.size_bytes() <= 2500


def test_a_log_within_its_limit_is_left_alone(log: ProcessLog) -> None:
    log.path.write_text("one\n")
    log.trim(limit_bytes=4)
    assert log.path.read_text() == "one\n"


def test_a_writer_that_appends_goes_on_after_a_trim(log: ProcessLog) -> None:
    with log.path.open("ab", buffering=0) as writer:
        writer.write(b"old line\n" * 100)
        log.trim(limit_bytes=100)
        writer.write(b"new line\n")
    assert log.path.read_text().splitlines()[-1] == "new line"
    assert b"\0" not in log.path.read_bytes()
