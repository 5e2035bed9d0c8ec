"""What the benchmark's own processes do alike: read a plan, say that they are ready, end when told to.

The plan is the first line on stdin. When stdin closes, whoever started the process is gone, and it ends too:
nothing is left behind, however the benchmark ended.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import orjson
import uvloop


def read_plan() -> dict[str, Any]:
    """Return the plan: JSON on the first line of stdin."""
    line = b""
    while not line.endswith(b"\n"):  # unbuffered: what follows is looked at by the event loop
        data = os.read(sys.stdin.fileno(), 1 << 16)
        if not data:
            raise SystemExit("no plan on stdin")
        line += data
    return orjson.loads(line)


def say_ready(port: int) -> None:
    """Print the ready line, as the service does."""
    say({"ready": True, "host": "127.0.0.1", "port": port})


def say(line: dict[str, Any]) -> None:
    """Print one line of JSON for whoever started this process."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def run_until_told(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop until the coroutine returns, SIGTERM, SIGINT, or the end of stdin."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # a pause here would be charged to who is measured
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(asyncio.CancelledError):
        runner.run(_until_told(main))


async def _until_told(main: Coroutine[Any, Any, None]) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 1 << 16):
            loop.remove_reader(sys.stdin.fileno())
            task.cancel()

    loop.add_reader(sys.stdin.fileno(), on_stdin)
    await task
