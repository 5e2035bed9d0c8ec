"""``assistant tenant up`` where its process ends before it serves, with real processes and locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from assistant.domain.errors import LocalRuntimeError
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.stage.tenant_files import address

SERVES = """
import os, sys
from pathlib import Path
from assistant.laptop.layout import Address, SharedSite

shared = SharedSite(Path(sys.argv[1]))
assert shared.take()
shared.publish(Address.model_validate_json(sys.argv[2]).model_copy(update={"pid": os.getpid()}))
print("serving", flush=True)
input()
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalRuntime:
    for name in ("LOCK", "START"):
        monkeypatch.setenv(f"ASSISTANT_LOCAL_{name}_TIMEOUT_S", "5")
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "mine.toml").write_text(
        'schema_version = 1\nname = "mine"\ndisplay_name = "Mine"\n'
    )
    options = GlobalOptions(
        tenants_dir=tmp_path / "tenants", state_dir=tmp_path / "state", port=None, json=False
    )
    return local_runtime(options, Terminal())


@pytest.fixture
def another(runtime: LocalRuntime) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test starts."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for each in started:
        each.kill()
        each.communicate()


def process(program: str, *, log: TextIO | None = None) -> subprocess.Popen[bytes]:
    """Return a process that has run the program and ended."""
    child = subprocess.Popen([sys.executable, "-c", program], stderr=log)
    child.wait()
    return child


def test_a_process_that_ends_without_an_error_is_told_at_once(
    runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalRuntime, "_spawn", lambda *_: process(""))
    with pytest.raises(LocalRuntimeError, match="ended before it served"):
        runtime.start_apart()


def test_a_process_that_fails_says_why(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = "raise SystemExit('assistant: The disk is full.')"
    monkeypatch.setattr(LocalRuntime, "_spawn", lambda _, log: process(fails, log=log))
    with pytest.raises(LocalRuntimeError, match="The disk is full"):
        runtime.start_apart()


def test_where_another_command_was_first_its_address_is_returned(
    runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch, another: list[subprocess.Popen[str]]
) -> None:
    def spawn(*_: object) -> subprocess.Popen[bytes]:
        layout = runtime.layout
        given = address(digest=layout.digest(), options=layout.options())
        command = [sys.executable, "-c", SERVES, str(runtime.shared.folder), given.model_dump_json()]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        another.append(other)
        assert other.stdout is not None
        assert other.stdout.readline() == "serving\n"
        return process("")

    monkeypatch.setattr(LocalRuntime, "_spawn", spawn)
    assert runtime.start_apart().pid == another[0].pid
