"""How a command ends by a signal: unwound, so that what it serves stops in order, and then at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalExit(SystemExit):
    """SIGTERM or SIGHUP came; the status is 128 plus the signal's number."""


@contextmanager
def ending_in_order() -> Generator[None]:
    """Let the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) unwind the block.

    Later ones are ignored: the command is ending, and each of its steps has a time limit. The process then
    ends without joining threads: one that the signal interrupted while it was made never ends by itself.
    """
    for number in _ENDING:
        signal.signal(number, _unwind)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as ending:
        if signal.getsignal(signal.SIGINT) is not _ignore:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        code = ending.code if isinstance(ending, SystemExit) else 128 + signal.SIGINT
        os._exit(code if isinstance(code, int) else 1)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, _ignore)
    raise KeyboardInterrupt if number == signal.SIGINT else SignalExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: started processes would inherit that."""
