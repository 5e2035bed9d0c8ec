"""How often the client tries, and how long it waits in between."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of trying again. ``Patience(attempts=1)`` never does."""

    attempts: int = 4
    """Tries in a row that bring nothing; whatever an answer's stream brings begins the count anew."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    """A service that asks for a longer wait (``Retry-After``) has its error raised instead."""
    read_timeout_s: float = 30.0
    """Three heartbeats of a stream that never came (10 s each)."""
    whole_timeout_s: float = 110.0
    """For a whole answer in one body: the service's own longest deadline is 100 s."""

    def wait_s(self, failures: int, *, asked_s: float | None = None) -> float | None:
        """Return how long to wait after so many failures in a row; None to give up.

        Waits double from try to try; up to half of each is random, so that clients do not come back at once.
        """
        if failures >= self.attempts or (asked_s or 0.0) > self.longest_wait_s:
            return None
        doubled = min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s)
        return max(asked_s or 0.0, doubled * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret
