"""Uploads of one tenant in a folder: ``<key>/upload.json``, ``content``, and then ``result.json``."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from assistant.domain.errors import DependencyError
from assistant.domain.uploads import UploadResult
from assistant.process.private_files import make_private_folder, replace_private
from assistant.stores.documents_ports import COUNTED_FOR, KEPT_FOR, IngestionQueue, Upload

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class FileUploads:
    """``Uploads`` below ``folder``. A finished one is put into ``queue``, whose messages are keys."""

    folder: Path
    queue: IngestionQueue

    async def store(self, upload: Upload, parts: AsyncIterable[bytes | bytearray]) -> None:
        place = self.folder / upload.key
        await _in_thread(partial(self._create, upload))
        size_bytes = 0
        try:
            async for part in parts:
                size_bytes = await _in_thread(partial(_append, place / "content", part))
            upload.require_whole(size_bytes)
        except BaseException:
            await _in_thread(partial(shutil.rmtree, place, ignore_errors=True))
            raise
        await self.queue.send_many([upload.key])
        await _in_thread(partial(replace_private, place / "complete", b""))

    async def get(self, key: str) -> Upload | None:
        content = await _in_thread(partial(_read, self.folder / key / "upload.json"))
        return None if content is None else Upload.model_validate_json(content)

    async def unread_first(self) -> Mapping[str, int]:
        return await _in_thread(self._unread_first)

    async def fetch(self, upload: Upload, into: Path) -> bool:
        content = self.folder / upload.key / "content"
        if not content.exists():
            return False
        await _in_thread(partial(shutil.copyfile, content, into))
        return True

    async def put_result(self, upload: Upload, result: UploadResult) -> None:
        await _in_thread(partial(self._put_result, upload, result))

    async def result(self, key: str) -> UploadResult | None:
        content = await _in_thread(partial(_read, self.folder / key / "result.json"))
        return None if content is None else UploadResult.model_validate_json(content)

    def _create(self, upload: Upload) -> None:
        self._sweep((self.folder / upload.key).parent)
        place = self.folder / upload.key
        make_private_folder(place)
        replace_private(place / "content", b"")
        replace_private(place / "upload.json", upload.model_dump_json().encode())

    def _sweep(self, person: Path) -> None:
        """Delete uploads that are older than KEPT_FOR: read ones, and those that a killed process left."""
        oldest_s = time.time() - KEPT_FOR.total_seconds()
        for place in person.iterdir() if person.exists() else ():
            is_unread = (place / "complete").exists() and not (place / "result.json").exists()
            if place.stat().st_mtime < oldest_s and not is_unread:
                shutil.rmtree(place, ignore_errors=True)

    def _unread_first(self) -> Mapping[str, int]:
        oldest_s, sources = time.time() - COUNTED_FOR.total_seconds(), Counter[str]()
        for path in self.folder.glob("*/*/upload.json"):
            is_read = (path.parent / "result.json").exists()
            if not is_read and ((path.parent / "complete").exists() or path.stat().st_mtime > oldest_s):
                upload = Upload.model_validate_json(path.read_bytes())
                sources[upload.source] += upload.first_load
        return +sources

    def _put_result(self, upload: Upload, result: UploadResult) -> None:
        place = self.folder / upload.key
        replace_private(place / "result.json", result.model_dump_json().encode(), synced=True)
        (place / "content").unlink(missing_ok=True)


async def _in_thread(work: Callable[[], Value]) -> Value:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise DependencyError(f"The store of uploads failed: {error.strerror}. Retry.") from error


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _append(content: Path, part: bytes | bytearray) -> int:
    """Return the size of the file with the part at its end."""
    with content.open("ab") as file:
        file.write(part)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()
