"""A process with this folder on its ``PYTHONPATH`` has a wall clock that is off by ``SHIFTED_CLOCK_S``.

Python imports a module of this name before all others, so nothing can have taken the real clock before.
Monotonic time, on which waits and leases are, is no wall clock and stays as it is.
"""

from __future__ import annotations

import datetime as datetimes
import os
import time
from typing import Any

_SHIFT_S = float(os.environ["SHIFTED_CLOCK_S"])
_real_time, _real_time_ns, _RealDatetime = time.time, time.time_ns, datetimes.datetime


class _AnyDatetime(type):
    """Real datetimes are instances too: arithmetic and C code make those."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _RealDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealDatetime)


class _ShiftedDatetime(_RealDatetime, metaclass=_AnyDatetime):
    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        return _RealDatetime(*arguments, **keywords)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _RealDatetime.now(tz) + datetimes.timedelta(seconds=_SHIFT_S)

    @classmethod
    def utcnow(cls) -> Any:
        return _RealDatetime.now(datetimes.UTC).replace(tzinfo=None) + datetimes.timedelta(seconds=_SHIFT_S)


time.time = lambda: _real_time() + _SHIFT_S
time.time_ns = lambda: _real_time_ns() + int(_SHIFT_S * 1e9)
datetimes.datetime = _ShiftedDatetime
