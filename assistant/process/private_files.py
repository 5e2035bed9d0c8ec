"""Writes files and folders of the state folder that only their owner may read: modes 0600 and 0700.

They contain documents, questions and answers, and other people may have accounts on the machine. A file gets
its mode when it is created; ``keep_private`` corrects files of older releases when a command opens the state
folder."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from assistant.domain.errors import ConfigurationError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS = 0o077
"""The permissions of group and others."""
_LARGEST_SECRET_BYTES = 64 * 1024
"""Bytes of a secret's file that are read."""
STATE_FOLDERS = ("tenants", "secrets", "logs", "issuer", "models", "evaluations")
"""Folders below the state folder that this program makes."""


@contextmanager
def owner_only() -> Generator[None]:
    """Let only the owner read what the process writes inside the block: its stores and its engines' files."""
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make_private_folder(folder: Path) -> None:
    """Create the folder and each missing parent, for their owner only. Raises OSError."""
    missing: list[Path] = []  # the deepest first
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Create an empty file unless it exists; then correct its mode and those of SQLite's files beside it.

    An existing file is not opened: closing it would release every lock that this process has on it, including
    SQLite's. The caller that opens the file sees the errors.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    for suffix in ("", "-wal", "-shm"):
        _close_to_others(path.with_name(f"{path.name}{suffix}"))


def write_private(path: Path, content: bytes, *, mode: int = FILE_MODE) -> None:
    """Write a file with ``mode``, less the umask; by default only its owner may read it. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def replace_private(path: Path, content: bytes, *, synced: bool = False, mode: int = FILE_MODE) -> None:
    """Replace a file as a whole: a reader sees the old one or the new one. Raises OSError.

    ``synced``: the old or the new one, and from the return on the new one, also after a crash of the machine.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_private(draft, content, mode=mode)
        if synced:
            _sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    if synced:
        _sync(path.parent)


def _sync(path: Path) -> None:
    """Write a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_private(state_dir: Path) -> None:
    """Create the state folder for its owner only, or correct the modes that an older release left in it.

    Only STATE_FOLDERS and ``running.*`` are corrected: the state folder may contain other files, and the
    OpenSearch node's belong to another account. A folder that is private already is skipped with all that is
    in it. Raises OSError.
    """
    make_private_folder(state_dir)
    for name in STATE_FOLDERS:
        folder = state_dir / name
        with suppress(OSError):  # not there, or another account's
            if folder.lstat().st_mode & OTHERS:
                _close_below(folder)
    for file in state_dir.glob("running.*"):
        _close_to_others(file)


def _close_below(folder: Path) -> None:
    """Correct what is in the folder, and the folder last: if this is interrupted, the next start repeats
    it."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _close_below(Path(entry))
        elif not entry.is_symlink():
            _close_to_others(Path(entry))
    _close_to_others(folder)


def _close_to_others(path: Path) -> None:
    """Remove the permissions of group and others. A file that is missing or not ours is skipped."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            path.chmod(mode & ~OTHERS)


def make_secret_file(path: Path, *, content: Callable[[], bytes]) -> None:
    """Write ``content()`` with mode 0600 unless the file exists; of two processes the first wins."""
    if path.exists():
        return
    make_private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_private(draft, content())
    try:
        os.link(draft, path)  # unlike a rename it fails when another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()


async def file_secret(path: Path) -> bytes:
    """Return a file's content without white space around it. Raises ConfigurationError for a missing or empty
    one."""

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
