"""Runs Python modules as child processes that print a line when they are ready, and stops them.

    with started("benchmarks.relay", plan="http://127.0.0.1:5000") as relay:
        requests.get(relay.url)

The contract with the module: it reads one line of JSON from stdin, if it wants a plan; once it listens it
prints one line of JSON, ``{"host": "127.0.0.1", "port": 6000}``, and nothing before; SIGTERM ends it.
"""

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
"""From SIGTERM to SIGKILL."""
_LOG_CHARACTERS = 2_000
"""How much of the end of a log an error shows."""


@dataclass(slots=True)
class Started:
    """A process that printed its ready line."""

    popen: subprocess.Popen[bytes]
    ready: Mapping[str, Any]
    """The ready line; ``url`` needs its ``host`` and ``port``."""

    @property
    def url(self) -> str:
        return f"http://{self.ready['host']}:{self.ready['port']}"

    @property
    def pid(self) -> int:
        return self.popen.pid

    def cpu_s(self) -> float:
        """Return the CPU seconds of the process and of its present descendants since they began."""
        times = [process.cpu_times() for process in self._family()]
        return sum(used.user + used.system for used in times)

    def peak_bytes(self) -> int:
        """Return the sum of the peaks of resident memory (Linux's VmHWM) of the process and its present
        descendants."""
        statuses = [Path(f"/proc/{p.pid}/status").read_text(encoding="ascii") for p in self._family()]
        return sum(int(status.partition("VmHWM:")[2].split()[0]) * 1024 for status in statuses)

    def _family(self) -> list[psutil.Process]:
        """Return the process and its descendants of now."""
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
    """Run ``python -m module`` until the end of the block; yield it once it printed its ready line.

    ``plan`` goes to stdin as a line of JSON. stderr is appended to ``log``; without one it is shown.
    ``environment`` is added to the inherited one. Raises SystemExit with the end of the log where no line
    comes in ``timeout_s``.
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
            output = log.read_text(errors="replace")[-_LOG_CHARACTERS:] if log is not None else "see above"
            raise SystemExit(f"{module} did not get ready: {output}")
        yield Started(popen, orjson.loads(line))


def _read_line(popen: subprocess.Popen[bytes], *, timeout_s: float) -> bytes:
    """Return the first line of a process with its end; empty when none came in time or the process ended."""
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
    """Let SIGTERM and SIGINT raise SystemExit, so that blocks of ``started`` stop their processes. SIGINT is
    ignored where a shell started this process in the background; this changes that."""

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
