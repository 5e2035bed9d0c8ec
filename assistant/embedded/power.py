"""The power switch of a tenant's model endpoints as a file."""

from __future__ import annotations

from pathlib import Path

import structlog

from assistant.domain.clock import Clock
from assistant.settings.deployed_names import CLOSED, ON

_REFRESH_S = 2.0
_MAX_BYTES = 64
_log = structlog.get_logger(__name__)


class FilePower:
    """``EndpointPower`` by the file ``path``: a word of ``power_words``; on where there is no file.

    The file is read at most every 2 s. Any other word is logged and means on; while the file cannot be
    read, the last state stands.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._paused = False
        self._read_at_s: float | None = None

    async def is_paused(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._read_at_s is None or now_s - self._read_at_s >= _REFRESH_S:
            self._read_at_s = now_s
            self._read()
        return self._paused

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                word = file.read(_MAX_BYTES).strip()
        except FileNotFoundError:
            word = ON.encode()
        except OSError as error:
            _log.warning("power_not_read", reason=type(error).__name__)
            return
        said = word.decode("utf-8", "replace")
        if said != ON and said not in CLOSED:
            _log.warning("power_not_understood")
        self._paused = said in CLOSED
