"""Where a container's response is cut into parts: anywhere, as the real service does, but repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator

_MOST_PARTS = 3


class ResponseCutter:
    """Cuts each piece that a container sends at seeded byte positions, inside UTF-8 characters too."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 : test data, not a secret

    def cut(self, piece: bytes) -> Iterator[bytes]:
        """Yield the piece in one to three parts, none empty."""
        count = min(self._random.randint(0, _MOST_PARTS - 1), len(piece) - 1)
        positions = sorted(self._random.sample(range(1, len(piece)), count)) if count > 0 else []
        for start, end in zip([0, *positions], [*positions, len(piece)], strict=True):
            yield piece[start:end]
