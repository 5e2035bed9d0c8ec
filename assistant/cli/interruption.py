"""How a command ends by a signal: unwound, so that what it serves stops in order."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalExit(SystemExit):
    """SIGTERM or SIGHUP came; the status is 128 plus the signal's number."""


def end_in_order_on_signals() -> None:
    """Let the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) unwind the command.

    Later ones are ignored: the command is ending, and each of its steps has a time limit. SIGQUIT
    (Ctrl-\\) and SIGKILL end it at once; the next command stops what it leaves running.
    """
    for number in _ENDING:
        signal.signal(number, _unwind)


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, _ignore)
    raise KeyboardInterrupt if number == signal.SIGINT else SignalExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: started processes would inherit that."""
