"""Work in a process of its own, which SIGKILL ends after a number of calls in our own code, in any thread."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from itertools import count
from types import FrameType
from typing import Any

_COUNTED = ("call", "c_call", "c_return", "return")


def forked(work: Callable[[], Coroutine[Any, Any, object]], *, kill_after: int | None) -> tuple[bool, int]:
    """Run ``work`` in a process of its own; return whether it was killed, and the calls that it made. Raises
    AssertionError where it fails by itself."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        calls = _count_calls(kill_after)
        asyncio.run(work())
        sys.setprofile(None)
        os.write(writing, str(next(calls)).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(process, 0)
    said = os.read(reading, 100)
    os.close(reading)
    if status and not os.WIFSIGNALED(status):
        raise AssertionError("the work failed by itself")
    return os.WIFSIGNALED(status), int(said or 0)


def _count_calls(kill_after: int | None) -> count[int]:
    """Count the calls in our own code, in every thread, and kill this process after so many."""
    calls = count()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event in _COUNTED and "/assistant/" in frame.f_code.co_filename and next(calls) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)
    return calls
