"""What the load's own processes have in common: a plan on stdin, lines of JSON on stdout, an end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import orjson

from assistant.http_process import run


def read_plan() -> dict[str, Any]:
    """Return the plan: JSON on the first line of stdin."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: the event loop waits for the end of stdin
        data = os.read(sys.stdin.fileno(), 1 << 16)
        if not data:
            raise SystemExit("no plan on stdin")
        line += data
    return orjson.loads(line)


def say(line: dict[str, Any]) -> None:
    """Print one line of JSON for the process that started this one."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def run_child(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop until the coroutine returns, a signal, or the end of stdin: then the parent has ended."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # a pause here would be charged to who is measured
    run(_with_parent(main))


async def _with_parent(main: Coroutine[Any, Any, None]) -> None:
    def end_without_parent() -> None:
        if not os.read(sys.stdin.fileno(), 1 << 16):
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), end_without_parent)
    await main
