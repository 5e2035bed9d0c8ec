"""Takes raw capture out of the quarantine: a clean copy is written, then every raw version is deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from assistant.domain.clock import Clock
from assistant.learning.redaction import redacted

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RawCapture:
    key: str
    written_at: datetime


class CaptureStore(Protocol):
    """Quarantine and clean capture of one tenant. All of it raises DependencyError."""

    async def read_raw(self, key: str) -> bytes | None:
        """Return the newest raw content; None when there is none any more."""
        ...

    async def put_clean(self, key: str, content: bytes) -> None: ...

    async def delete_raw(self, key: str) -> None:
        """Delete every version of the raw object, and the markers of deletions. Nothing there is no error."""
        ...

    def raw_objects(self) -> AsyncIterator[RawCapture]:
        """Yield every raw object that is there, in no order; each by its oldest version."""
        ...


class RedactCapture:
    """May be done any number of times with the same object: its clean copy has the same key and content.

    An object of which nothing is kept (passages alone) has no clean copy.
    """

    def __init__(self, store: CaptureStore, *, passages_percent: int) -> None:
        self._store = store
        self._passages_percent = passages_percent

    async def __call__(self, key: str) -> None:
        raw = await self._store.read_raw(key)
        if raw is not None:
            clean = await asyncio.to_thread(
                lambda: b"".join(redacted(raw, passages_percent=self._passages_percent))
            )
            if clean:
                await self._store.put_clean(key, clean)
            _log.info("capture_redacted", key=key, raw_bytes=len(raw), clean_bytes=len(clean))
        # Also without a newest version: older ones may stand under a marker.
        await self._store.delete_raw(key)


class SweepQuarantine:
    """Redacts what should be gone: its event was lost, or its function failed each time."""

    def __init__(self, store: CaptureStore, *, redact: RedactCapture, clock: Clock, overdue_after_s: float):
        self._store = store
        self._redact = redact
        self._clock = clock
        self._overdue_after_s = overdue_after_s

    async def __call__(self) -> float:
        """Return the age in seconds of the oldest raw object that is left; 0 when there is none.

        Raises DependencyError when the quarantine cannot be listed; one object that fails stops no other.
        """
        oldest_s = 0.0
        async for found in self._store.raw_objects():
            age_s = (self._clock.now() - found.written_at).total_seconds()
            if age_s > self._overdue_after_s and await self._redacted(found.key):
                continue
            oldest_s = max(oldest_s, age_s)
        return oldest_s

    async def _redacted(self, key: str) -> bool:
        try:
            await self._redact(key)
        except Exception:  # noqa: BLE001 (the edge of one object: the others shall not stay with it)
            _log.exception("overdue_capture_not_redacted", key=key)
            return False
        _log.warning("overdue_capture_redacted", key=key)
        return True
