"""Live systems on a laptop: the record of reads in SQLite, switches and secrets in files."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import ConfigurationError
from assistant.domain.live import LiveRead, LiveReadPage, LiveReadQuery, place_of
from assistant.embedded.answers import records_file
from assistant.live.ports import SwitchUnreadableError, is_on_by
from assistant.private_files import make_private_folder, write_private
from assistant.settings.deployed_names import OFF, ON

_REFRESH_S = 2.0
_WORD_BYTES = 64
_LARGEST_SECRET_BYTES = 64 * 1024
_log = structlog.get_logger(__name__)


class SqliteLiveReads:
    """``LiveReads`` in the file ``path`` of the records."""

    def __init__(self, path: Path) -> None:
        self._file = records_file(path)

    async def close(self) -> None:
        await self._file.close()

    async def record(self, read: LiveRead) -> None:
        await self._file.execute(
            "INSERT INTO live_reads (at, body) VALUES (?, ?)", (_instant(read.at), read.model_dump_json())
        )

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        at, _, read_id = (query.after or _instant(query.since)).partition("#")
        conditions = ["(at, json_extract(body, '$.read_id')) > (?, ?)", "at < ?"]
        values: list[object] = [at, read_id, _instant(query.until)]
        for name, wanted in (("subject", query.subject), ("agent", query.agent)):
            if wanted is not None:
                conditions.append(f"json_extract(body, '$.{name}') = ?")
                values.append(wanted)
        rows = await self._file.query(
            f"SELECT body FROM live_reads WHERE {' AND '.join(conditions)}"  # noqa: S608 (our own words)
            " ORDER BY at, json_extract(body, '$.read_id') LIMIT ?",
            (*values, query.limit + 1),
        )
        found = [LiveRead.model_validate_json(body) for (body,) in rows]
        page = tuple(found[: query.limit])
        return LiveReadPage(page, place_of(page[-1]) if len(found) > query.limit else None)


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


class FileSwitches:
    """``SystemSwitches`` by a file for each system in ``folder``, with ``on`` or ``off``; no file means on.

    A file is read at most every 2 s. Any word but ``on`` is off (``is_on_by``). While a file cannot be read,
    the last state is kept; before the first reading the system may not be called.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._known: dict[str, tuple[bool, float]] = {}

    async def is_on(self, system: str) -> bool:
        known = self._known.get(system)
        now_s = self._clock.monotonic_s()
        if known is None or now_s - known[1] >= _REFRESH_S:
            known = (self._read(system, None if known is None else known[0]), now_s)
            self._known[system] = known
        return known[0]

    def _read(self, system: str, last: bool | None) -> bool:
        """Return the present state, or the last one. Raises SwitchUnreadableError where there is none."""
        word = None
        try:
            with (self._folder / system).open("rb") as file:
                word = file.read(_WORD_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.error("switch_not_read", system=system, reason=type(error).__name__)
            if last is None:
                raise SwitchUnreadableError(f"The switch of {system} cannot be read: {error}.") from None
            return last
        return is_on_by(word)


def set_switch(folder: Path, system: str, *, on: bool) -> None:
    """Switch a system on or off. Raises OSError."""
    make_private_folder(folder)
    write_private(folder / system, (ON if on else OFF).encode())


async def file_secret(path: Path) -> bytes:
    """Return what the file holds, without white space around it. Raises ConfigurationError."""

    def read() -> bytes:
        with path.open("rb") as file:
            return file.read(_LARGEST_SECRET_BYTES).strip()

    try:
        secret = await asyncio.to_thread(read)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    if not secret:
        raise ConfigurationError(f"{path} is empty.")
    return secret
