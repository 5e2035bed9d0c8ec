"""The processes of one benchmark: started, looked at from outside, and stopped whatever happens."""

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

from assistant.settings.process import inherited_environment

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_SAID_BYTES = 2_000


@dataclass(slots=True)
class Started:
    """A process that said where it listens."""

    popen: subprocess.Popen[bytes]
    url: str
    stderr: Path

    @property
    def pid(self) -> int:
        return self.popen.pid

    def cpu_s(self) -> float:
        """Return CPU seconds since it began, of all its threads."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def resident_bytes(self) -> int:
        return psutil.Process(self.pid).memory_info().rss

    def stop(self) -> None:
        """End it in order."""
        _stop(self.popen)

    def kill(self) -> None:
        """End it as the kernel does: it cleans nothing up."""
        self.popen.kill()
        self.popen.wait()


class Processes:
    """Starts processes and stops them all in the end, the youngest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._count = 0

    def close(self) -> None:
        self._stack.close()

    def start(
        self,
        module: str,
        *,
        plan: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """Start ``python -m module`` and wait for its ready line. Raises SystemExit with what it said."""
        popen, stderr = self._open(module, environment or {})
        self._stack.callback(_stop, popen)
        assert popen.stdin is not None
        if plan is not None:
            popen.stdin.write(orjson.dumps(plan) + b"\n")
            popen.stdin.flush()
        line = read_line(popen, timeout_s=_READY_TIMEOUT_S)
        if not line:
            _stop(popen)
            raise SystemExit(
                f"{module} did not get ready: {stderr.read_text(errors='replace')[-_SAID_BYTES:]}"
            )
        ready = orjson.loads(line)
        return Started(popen, f"http://{ready['host']}:{ready['port']}", stderr)

    @contextmanager
    def running(self, module: str, plan: bytes) -> Generator[subprocess.Popen[bytes]]:
        """Start a process that works a plan off; what it says is read line by line from its stdout."""
        popen, _ = self._open(module, {})
        try:
            assert popen.stdin is not None
            popen.stdin.write(plan)
            popen.stdin.flush()
            yield popen
        finally:
            _stop(popen)

    def _open(self, module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
        self._count += 1
        stderr = self._folder / f"{module.rpartition('.')[2]}-{self._count}.log"
        with stderr.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**inherited_environment(), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        return popen, stderr


def read_line(popen: subprocess.Popen[bytes], *, timeout_s: float) -> bytes:
    """Return the next line on stdout, nothing when none came in time or the process ended."""
    assert popen.stdout is not None
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
    if popen.poll() is None:
        popen.terminate()
        try:
            popen.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()
    for pipe in (popen.stdin, popen.stdout):
        if pipe is not None:
            pipe.close()
