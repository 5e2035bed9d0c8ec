"""``python -m benchmarks.profiled``: the service, with a profile of its CPU by step of an answer.

Stdin is the profile's path as one line of JSON. A first SIGUSR1 begins the profile, the next one writes it:
``{"retrieval": 3.1, "embedding": 4.2}``, seconds of CPU by step. The loop's thread is sampled by the CPU
time that it used since the last sample, so that waiting and other threads weigh nothing; of the other threads
the kernel counts.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

import orjson

from assistant.process.http import run
from assistant.service.__main__ import main

_STEPS = {
    "retrieval": ("stores/index/", "answer/find.py", "The passage index"),
    "embedding": ("model_server/", "answer/embed.py", "embedding", "tokenizing", "native"),
    "sqlite": ("stores/sqlite_", "records.sqlite", "events.sqlite", "queue.sqlite", "desk.sqlite"),
    "records": ("stores/", "answer/record.py", "domain/audit.py", "domain/answers.py"),
    "units": ("answer/scores.py", "answer/rows.py", "text/codes.py"),
    "quote": ("answer/section.py", "answer/excerpts.py"),
    "prompt": ("answer/prompt.py", "answer/conversation.py"),
    "check": ("answer/check.py", "answer/support.py"),
    "model": ("models/", "answer/write.py"),
    "sending": ("service/streams.py", "service/running.py", "uvicorn/"),
    "identity": ("service/identity.py",),
}
"""By step, how its files below ``assistant`` and its threads begin; the innermost frame with one counts, and
the first step of these."""
_SAMPLE_NS = 1_000_000
"""CPU time of the loop's thread between two samples, as far as the kernel's ticks allow."""


def _step_of(name: str) -> str:
    """Return the step of a file or a thread; empty for one of none."""
    return next((step for step, begins in _STEPS.items() if name.startswith(begins)), "")


class Profile:
    """Counts CPU by step between two signals."""

    def __init__(self, path: Path) -> None:
        self._path, self._c, self._timer = path, ctypes.CDLL(None), ctypes.c_void_p()
        self._seconds, self._last_s = defaultdict[str, float](float), 0.0
        # No timer of the signal module goes by the CPU time of one thread. It sends SIGALRM.
        self._c.timer_create(time.CLOCK_THREAD_CPUTIME_ID, None, ctypes.byref(self._timer))
        signal.signal(signal.SIGALRM, self._sample)
        signal.signal(signal.SIGUSR1, self._toggle)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        used_s, step = time.thread_time() - self._last_s, ""
        while frame is not None and not step:
            path = frame.f_code.co_filename
            step = _step_of(path.rpartition("/site-packages/")[2].rpartition("/assistant/")[2])
            frame = frame.f_back
        self._seconds[step or "loop and rest"] += used_s
        self._last_s = time.thread_time()

    def _toggle(self, *_: object) -> None:
        is_begun, sign = bool(self._last_s), 1.0 if self._last_s else -1.0
        every = (ctypes.c_long * 4)(0, 0 if is_begun else _SAMPLE_NS, 0, 0 if is_begun else _SAMPLE_NS)
        self._last_s = time.thread_time()  # before the timer: a sample may interrupt this
        self._c.timer_settime(self._timer, 0, every, None)
        names = {str(thread.native_id): thread.name for thread in threading.enumerate()}
        for task in Path("/proc/self/task").iterdir():
            if (name := names.get(task.name, "native")) != "MainThread":
                used_s = int((task / "schedstat").read_text().split()[0]) / 1e9
                self._seconds[_step_of(name) or "loop and rest"] += sign * used_s
        if is_begun:
            self._path.write_bytes(orjson.dumps(self._seconds))


if __name__ == "__main__":
    Profile(Path(orjson.loads(sys.stdin.readline())))
    run(main())
