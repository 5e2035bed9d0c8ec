"""Which versions of an embedded index are kept, and which of them is live.

``<index>/versions.json`` names them; a version is a folder beside it. The file is replaced in one step, so a
reader sees the version before or the one after, never both. Without the file the version of the process's own
model is live, and the only one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from assistant.domain.documents import IndexModel
from assistant.domain.errors import ConflictError, DependencyError, SearchUnavailableError
from assistant.domain.public import PublicModel
from assistant.embedded.passage_rows import index_version
from assistant.private_files import FILE_MODE, make_private_folder, write_private

VERSIONS_FILE = "versions.json"
TURN_FILE = "turn.lock"
_TURN_POLL_S = 0.02


class VersionsRecord(PublicModel):
    live: str
    kept: tuple[str, ...]
    """The live version too."""


def read_versions(directory: Path) -> VersionsRecord | None:
    """Return the record of an index folder; None where there is none. Raises SearchUnavailableError."""
    path = directory / VERSIONS_FILE
    try:
        return VersionsRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise SearchUnavailableError(
            f"{path} cannot be read ({type(error).__name__}). Delete it: the index of the tenant's own model "
            "is then live, and the worker writes what it lacks."
        ) from None


class FileTurn:
    """``WriteTurn`` between the processes of one machine, and between the tasks of each.

    The lock of a process that was killed is free at once. ``late``: the message where it is not free in time.
    """

    def __init__(self, path: Path, *, late: str, waits_s: float = 60.0) -> None:
        self._path = path
        self._late = late
        self._waits_s = waits_s
        self._own = asyncio.Lock()
        self._file = FileLock(path, thread_local=False, mode=FILE_MODE)

    async def __aenter__(self) -> None:
        """Raises DependencyError when the turn is not free in time."""
        try:
            async with asyncio.timeout(self._waits_s):
                await self._own.acquire()
                try:
                    make_private_folder(self._path.parent)
                    while not self._try():  # noqa: ASYNC110 (other processes)
                        await asyncio.sleep(_TURN_POLL_S)
                except BaseException:
                    self._own.release()
                    raise
        except TimeoutError:
            raise DependencyError(self._late) from None

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self._file.release()
        self._own.release()

    def _try(self) -> bool:
        with suppress(Timeout):
            self._file.acquire(timeout=0)
            return True
        return False


class EmbeddedIndexVersions:
    """``IndexVersions`` of the index folder ``directory``. Changes of it need the tenant's write turn."""

    def __init__(self, directory: Path, *, own: IndexModel) -> None:
        """``own``: the model that the process's settings name."""
        self._directory = directory
        self._own = index_version(own)

    def name_of(self, model: IndexModel) -> str:
        return index_version(model)

    async def live(self) -> str:
        return (await asyncio.to_thread(self._read)).live

    async def kept(self) -> Sequence[str]:
        record = await asyncio.to_thread(self._read)
        return [record.live, *(name for name in record.kept if name != record.live)]

    async def adopt(self) -> None:
        """Begin anew with the process's own model where no kept version is of it: the settings were changed.

        The worker calls it before it opens the index, which then removes all other versions.
        """
        record = await asyncio.to_thread(self._read)
        if self._own not in record.kept:
            await asyncio.to_thread(self._write, VersionsRecord(live=self._own, kept=(self._own,)))

    async def create(self, model: IndexModel) -> None:
        record, name = await asyncio.to_thread(self._read), index_version(model)
        if name not in record.kept:
            kept = (*record.kept, name)
            await asyncio.to_thread(self._write, record.model_copy(update={"kept": kept}))

    async def switch(self, to: str, *, live: str) -> None:
        record = await asyncio.to_thread(self._read)
        if record.live != live or to not in record.kept:
            raise ConflictError(f"The live index is {record.live}, not {live}. Start again.")
        await asyncio.to_thread(self._write, record.model_copy(update={"live": to}))

    async def drop(self, name: str) -> None:
        record = await asyncio.to_thread(self._read)
        if record.live == name:
            raise ConflictError(f"The index {name} is live and cannot be dropped.")
        kept = tuple(one for one in record.kept if one != name)
        await asyncio.to_thread(self._write, record.model_copy(update={"kept": kept}))
        await asyncio.to_thread(shutil.rmtree, self._directory / name, ignore_errors=True)

    def _read(self) -> VersionsRecord:
        return read_versions(self._directory) or VersionsRecord(live=self._own, kept=(self._own,))

    def _write(self, record: VersionsRecord) -> None:
        """Replace the file, on the disk before it has its name. Raises SearchUnavailableError."""
        path, beside = self._directory / VERSIONS_FILE, self._directory / f".{VERSIONS_FILE}.new"
        try:
            make_private_folder(self._directory)
            write_private(beside, record.model_dump_json().encode())
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise SearchUnavailableError(f"Cannot write {path}: {error}. Nothing was switched.") from None
