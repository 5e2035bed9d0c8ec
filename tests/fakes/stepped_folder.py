"""A folder on a disk whose clock a test moves."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from assistant.domain.clock import Clock
from assistant.stores.blobs import FolderBlobs


class SteppedFolder(FolderBlobs):
    def __init__(self, folder: Path, *, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock

    async def now(self, prefix: str) -> datetime:
        return self.clock.now()

    async def add(self, key: str, content: bytes) -> None:
        is_new = await self.get(key) is None
        await super().add(key, content)
        if is_new:
            date_file(self._folder / key, self.clock)


def date_file(path: Path, clock: Clock) -> None:
    """Date a file as the disk does that has this clock."""
    at_s = clock.now().timestamp()
    os.utime(path, (at_s, at_s))
