"""Bytes of one tenant by key: in a folder, or in buckets (``s3.py``)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from assistant.domain.errors import DependencyError
from assistant.process.private_files import make_private_folder, replace_private, write_private
from assistant.stores.ports import IngestionQueue

Value = TypeVar("Value")
_DIGEST_DIGITS = 32
"""Length of the digest at the end of a document's name (``documents.py``), which makes it unique. Older
releases named drafts by this digest alone, so ``_below`` looks for it."""


class DamagedBlobError(DependencyError):
    """The bytes are not those that were written."""


@dataclass(frozen=True, slots=True)
class BlobVersion:
    """One stored content of a key, or a delete marker."""

    key: str
    version: str
    """For ``Blobs.get``: S3's version id; in a folder a time in ns, empty for the newest content."""
    written_at: datetime
    deleted: bool = False
    """Whether it is a delete marker: it has no content. Never in a folder."""


class Blobs(Protocol):
    """Bytes of one tenant by key, like ``texts/00/ab.json``. A blob is whole or absent.

    All methods raise DependencyError. A prefix is a folder with its slash, or "".
    """

    @property
    def in_bucket(self) -> bool:
        """True for a bucket: access logs contain its keys, a lifecycle deletes what is old, and events start
        the function that reads a blob. False for a folder: people read its names, so they should be readable,
        and the stores delete and send events themselves."""
        ...

    async def now(self, prefix: str) -> datetime:
        """Return the store's own time, by which it dates what it writes. In a bucket that is the ``Date`` of
        a listing of the versions below ``prefix``; in a folder the time of a new file."""
        ...

    async def put(self, key: str, content: bytes, *, most: int = 1) -> None:
        """Write a blob, and keep the ``most`` newest contents of the key, this one included. A bucket ignores
        ``most`` and keeps each for as long as its lifecycle says."""
        ...

    async def add(self, key: str, content: bytes) -> None:
        """Write a blob, durable on return. Do nothing where the key has a blob."""
        ...

    async def store(self, key: str, parts: AsyncIterable[bytes | bytearray]) -> None:
        """Write a blob from parts as they come. Where ``parts`` raises, nothing is stored."""
        ...

    async def get(self, key: str, *, version: str = "") -> bytes | None:
        """Return the newest content, or that of a ``BlobVersion.version``; None where there is none. Raises
        DamagedBlobError."""
        ...

    async def read(self, key: str, *, start: int, most_bytes: int) -> bytes | None:
        """Return at most ``most_bytes`` from ``start``, which must be below the blob's size; None where there
        is no blob."""
        ...

    async def fetch(self, key: str, into: Path) -> bool:
        """Write the newest content to a file. Return False where there is none."""
        ...

    async def remove(self, key: str) -> None:
        """Delete the newest content of a key. An unknown key is no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[BlobVersion]:
        """Yield the newest version of each key with this prefix, in no order."""
        ...

    def begun(self, prefix: str) -> AsyncIterator[BlobVersion]:
        """Yield the blobs that ``store`` has begun and not ended, also those of killed processes, each with
        its key and the time of its begin."""
        ...

    def versions(self, prefix: str) -> AsyncIterator[BlobVersion]:
        """Yield all versions of each key with this prefix, or of this one key; those of a key newest first. A
        folder yields only the newest of each key for a prefix."""
        ...

    async def purge(self, prefix: str, *, of_key: bool = False) -> None:
        """Delete every version of the keys with this prefix, and drafts of killed writers. ``of_key``: delete
        only the versions of the key ``prefix``."""
        ...

    async def held(self, prefix: str) -> int:
        """Return how many versions and drafts ``purge`` would delete; a bucket counts at most 1,000."""
        ...


class FolderBlobs:
    """``Blobs`` below ``folder``. A file is written as a draft and renamed: a reader sees the old one or the
    new one. Names of the key ``texts/00/ab.json``::

        texts/00/ab.json                               the newest content
        texts/00/ab.01764309600000000000.before.json   a replaced content, with its time in ns: its version
        texts/00/.ab.json.9f86d081884c7d65             a draft of ``store``, with 16 random digits
    """

    in_bucket = False

    def __init__(
        self,
        folder: Path,
        *,
        what: str = "The folder",
        synced: bool = True,
        events: IngestionQueue | None = None,
    ) -> None:
        """``what`` begins the messages of errors. ``synced``: ``put`` is durable on return. ``events`` gets
        the folder of each blob that ``store`` wrote, as a bucket's event would start a function."""
        self._folder = folder
        self._what = what
        self._synced = synced
        self._events = events

    async def now(self, prefix: str) -> datetime:
        del prefix
        return await self._run(self._now)

    async def put(self, key: str, content: bytes, *, most: int = 1) -> None:
        await self._run(lambda: self._put(self._folder / key, content, most))

    async def add(self, key: str, content: bytes) -> None:
        def write(path: Path) -> None:
            if not path.exists():
                make_private_folder(path.parent)
                replace_private(path, content, synced=True)

        await self._run(lambda: write(self._folder / key))

    async def store(self, key: str, parts: AsyncIterable[bytes | bytearray]) -> None:
        path = self._folder / key
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            await self._run(lambda: _begin(draft))
            async for part in parts:
                await self._run(partial(_append, draft, part))
            await self._run(lambda: draft.replace(path))
        finally:
            draft.unlink(missing_ok=True)
        if self._events is not None:
            await self._events.send_many([key.rpartition("/")[0]])

    async def get(self, key: str, *, version: str = "") -> bytes | None:
        path = self._folder / key
        path = _before(path, version) if version else path
        return await self._run(lambda: _if_there(path.read_bytes))

    async def read(self, key: str, *, start: int, most_bytes: int) -> bytes | None:
        def read() -> bytes:
            with (self._folder / key).open("rb") as file:
                file.seek(start)
                return file.read(most_bytes)

        return await self._run(lambda: _if_there(read))

    async def fetch(self, key: str, into: Path) -> bool:
        copied = await self._run(lambda: _if_there(lambda: shutil.copyfile(self._folder / key, into)))
        return copied is not None

    async def remove(self, key: str) -> None:
        await self._run(lambda: (self._folder / key).unlink(missing_ok=True))

    async def list(self, prefix: str) -> AsyncIterator[BlobVersion]:
        for version in await self._run(lambda: [*self._list(prefix)]):
            yield version

    async def begun(self, prefix: str) -> AsyncIterator[BlobVersion]:
        for draft in await self._run(lambda: [*self._list(prefix, names=".*")]):
            folder, _, name = draft.key.rpartition("/")
            yield replace(draft, key=f"{folder}/{name.removeprefix('.').rpartition('.')[0]}")

    async def versions(self, prefix: str) -> AsyncIterator[BlobVersion]:
        is_folder = not prefix or prefix.endswith("/")
        versions = self._list(prefix) if is_folder else self._versions(prefix)
        for version in await self._run(lambda: [*versions]):
            yield version

    async def purge(self, prefix: str, *, of_key: bool = False) -> None:
        await self._run(lambda: self._purge(prefix, of_key=of_key))

    async def held(self, prefix: str) -> int:
        return await self._run(lambda: sum(1 for _ in self._below(prefix)))

    async def _run(self, work: Callable[[], Value]) -> Value:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise DependencyError(f"{self._what} failed: {error.strerror}. Retry.") from error

    def _now(self) -> datetime:
        """Return the time that the file system gives a new file."""
        make_private_folder(self._folder)
        with tempfile.TemporaryFile(dir=self._folder) as probe:
            return datetime.fromtimestamp(os.fstat(probe.fileno()).st_mtime_ns / 1e9, UTC)

    def _put(self, path: Path, content: bytes, most: int) -> None:
        make_private_folder(path.parent)
        if most > 1 and path.exists() and (before := path.read_bytes()) != content:
            replace_private(_before(path, f"{path.stat().st_mtime_ns:020}"), before)
            for old in sorted(_befores(path))[: 1 - most]:  # the new content is one of the ``most``
                old.unlink(missing_ok=True)
        replace_private(path, content, synced=self._synced)

    def _list(self, prefix: str, *, names: str = "[!.]*") -> Iterator[BlobVersion]:
        for path in (self._folder / prefix).rglob(names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    yield self._version_of(path, path.stat().st_mtime_ns)

    def _versions(self, key: str) -> Iterator[BlobVersion]:
        path = self._folder / key
        if path.exists():
            yield self._version_of(path, path.stat().st_mtime_ns)
        for before in sorted(_befores(path), reverse=True):
            version = before.name.removesuffix(f".before{path.suffix}").rpartition(".")[2]
            yield self._version_of(path, int(version), version=version)

    def _version_of(self, path: Path, at_ns: int, *, version: str = "") -> BlobVersion:
        key = path.relative_to(self._folder).as_posix()
        return BlobVersion(key, version, datetime.fromtimestamp(at_ns / 1e9, UTC))

    def _purge(self, prefix: str, *, of_key: bool) -> None:
        if of_key:
            (self._folder / prefix).unlink(missing_ok=True)
        elif prefix.endswith("/"):
            with suppress(FileNotFoundError):
                shutil.rmtree(self._folder / prefix)
        else:
            for path in self._below(prefix):
                path.unlink(missing_ok=True)

    def _below(self, prefix: str) -> Iterator[Path]:
        """Yield the files in the prefix's folder whose name begins with its last part, and drafts of them."""
        place, _, name = prefix.rpartition("/")
        folder, draft = self._folder / place, name.rstrip(".")[-_DIGEST_DIGITS:]
        for path in folder.iterdir() if folder.exists() else ():
            if path.name.startswith(name) or (path.name.startswith(".") and draft in path.name):
                yield path


def _before(path: Path, version: str) -> Path:
    """Return the file of a replaced content of ``path``."""
    return path.with_suffix(f".{version}.before{path.suffix}")


def _befores(path: Path) -> Iterator[Path]:
    """Yield the files of all replaced contents of ``path``; their names sort by time."""
    for file in path.parent.iterdir() if path.parent.exists() else ():
        if file.name.startswith(f"{path.stem}.") and file.name.endswith(f".before{path.suffix}"):
            yield file


def _if_there(work: Callable[[], Value]) -> Value | None:
    """Return what ``work`` returns, or None where its file does not exist."""
    try:
        return work()
    except FileNotFoundError:
        return None


def _begin(draft: Path) -> None:
    make_private_folder(draft.parent)
    write_private(draft, b"")


def _append(draft: Path, part: bytes | bytearray) -> None:
    with draft.open("ab") as file:
        file.write(part)
        file.flush()
        os.fsync(file.fileno())
