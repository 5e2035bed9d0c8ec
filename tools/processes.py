"""Runs Python modules as child processes that say on stdout when they are ready, and stops them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import psutil

from assistant.process.settings import inherited_environment

_STOP_TIMEOUT_S = 15.0
_SAID_BYTES = 2_000


@dataclass(slots=True)
class Started:
    """A process that printed its ready line."""

    popen: subprocess.Popen[bytes]
    ready: Mapping[str, Any]

    @property
    def url(self) -> str:
        return f"http://{self.ready['host']}:{self.ready['port']}"

    @property
    def pid(self) -> int:
        return self.popen.pid

    def cpu_s(self) -> float:
        """Return CPU seconds since it began, of all its threads and of the children that it has now."""
        times = [one.cpu_times() for one in self._family()]
        return sum(one.user + one.system for one in times)

    def peak_bytes(self) -> int:
        """Return the most resident memory that it and each child of now had so far, by Linux."""
        statuses = [Path(f"/proc/{one.pid}/status").read_text(encoding="ascii") for one in self._family()]
        return sum(int(status.partition("VmHWM:")[2].split()[0]) * 1024 for status in statuses)

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


@contextmanager
def started(
    module: str,
    log: Path | None = None,
    plan: object = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
    python: str = sys.executable,
) -> Generator[Started]:
    """Run ``python -m module`` until the end of the block, and give it once it printed its ready line.

    ``plan`` goes to stdin as a line of JSON, stderr into ``log``. Raises SystemExit with what it said.
    """
    with ExitStack() as stack:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        popen = stack.enter_context(
            subprocess.Popen(
                [python, "-m", module],
                env={**inherited_environment(), **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if log is None else stack.enter_context(log.open("ab")),
            )
        )
        stack.callback(_stop, popen)
        if plan is not None and popen.stdin is not None:
            popen.stdin.write(orjson.dumps(plan) + b"\n")
            popen.stdin.flush()
        line = _read_line(popen, timeout_s=timeout_s)
        if not line:
            _stop(popen)
            output = log.read_text(errors="replace")[-_SAID_BYTES:] if log is not None else "see above"
            raise SystemExit(f"{module} did not get ready: {output}")
        yield Started(popen, orjson.loads(line))


def _read_line(popen: subprocess.Popen[bytes], *, timeout_s: float) -> bytes:
    """Return what a process wrote up to the end of its first line, which is all that it writes before it is
    ready; nothing when no line came in time or the process ended."""
    assert popen.stdout is not None  # noqa: S101 - a pipe, by ``started``
    until_s, line = time.monotonic() + timeout_s, b""
    while not line.endswith(b"\n"):
        readable, _, _ = select.select([popen.stdout], [], [], max(0.0, until_s - time.monotonic()))
        data = os.read(popen.stdout.fileno(), 1 << 20) if readable else b""
        if not data:
            return b""
        line += data
    return line


def end_on_signals() -> None:
    """Let SIGTERM and SIGINT unwind, so that every process is stopped; also where SIGINT was ignored."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _stop(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    try:
        popen.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        popen.kill()
