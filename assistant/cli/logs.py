"""The logs of local processes: bounded, and read for the ready line and for the reason of a failure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

_TAIL_BYTES = 16_384
_REASON_FIELDS = ("detail", "error", "event", "msg", "message")
"""Where our JSON log lines say what happened, most telling first."""
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """Standard output and error of one process, appended over its restarts."""

    path: Path

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def trim(self, *, limit_bytes: int) -> None:
        """Drop the older half of a log over the limit. The writer appends, so it goes on at the end."""
        size = self.size_bytes()
        if size <= limit_bytes:
            return
        with self.path.open("r+b") as file:
            file.seek(size - limit_bytes // 2)
            file.readline()
            kept = file.read()
            file.seek(0)
            file.write(kept)
            file.truncate()

    def ready_line(self, *, since_bytes: int) -> dict[str, Any] | None:
        """Return the line ``{"ready": true, …}`` written after ``since_bytes``, or None."""
        for line in self._lines(since_bytes):
            found = _parse(line)
            if found is not None and found.get("ready") is True:
                return found
        return None

    def last_reason(self, *, since_bytes: int = 0) -> str:
        """Return the last line written after ``since_bytes`` in words, or "no output"."""
        start = max(since_bytes, self.size_bytes() - _TAIL_BYTES)
        for line in reversed(self._lines(start)):
            if line.strip():
                return _in_words(line)[:_LONGEST_REASON]
        return "no output"

    def _lines(self, since_bytes: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since_bytes)
            return file.read().decode("utf-8", errors="replace").splitlines()


def _parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _in_words(line: str) -> str:
    found = _parse(line)
    if found is None:
        return line.strip()
    return str(next((found[field] for field in _REASON_FIELDS if found.get(field)), line)).strip()
