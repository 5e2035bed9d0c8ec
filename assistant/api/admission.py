"""Bounds on answers in progress, checked before any model call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from assistant.domain.errors import OverloadedError

_RETRY_AFTER_S = 2.0


class Admission:
    """Counts one tenant's answers in progress in this process, in all and by agent."""

    def __init__(self, *, streams: int, streams_per_agent: int) -> None:
        self._streams = streams
        self._streams_per_agent = streams_per_agent
        self._active = 0
        self._active_of: Counter[str] = Counter()

    @property
    def active(self) -> int:
        return self._active

    def enter(self, agent: str) -> Callable[[], None]:
        """Take a place and return what gives it back (once, however often it is called).

        Raises OverloadedError.
        """
        if self._active_of[agent] >= self._streams_per_agent:
            raise OverloadedError(
                f"{self._streams_per_agent} of your answers are being written; wait for one of them.",
                retry_after_s=_RETRY_AFTER_S,
            )
        if self._active >= self._streams:
            raise OverloadedError(
                "Too many answers are being written; try again.", retry_after_s=_RETRY_AFTER_S
            )
        self._active += 1
        self._active_of[agent] += 1
        held = True

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                self._active -= 1
                self._active_of[agent] -= 1
                if not self._active_of[agent]:
                    del self._active_of[agent]

        return leave
