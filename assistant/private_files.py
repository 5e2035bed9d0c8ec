"""Files and folders of the state folder that only their owner may read: 0600 and 0700.

Documents, questions and answers stand in them, and other people may have accounts on the machine. A mode is
set when a file is made, not after; files of older releases are corrected when their folder is opened."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OTHERS = 0o077
"""The permissions of group and others."""
STATE_FOLDERS = ("tenants", "secrets", "logs", "issuer", "models", "evaluations")


def make_private_folder(folder: Path) -> None:
    """Make the folder and each parent that is missing, for their owner only. Raises OSError."""
    missing: list[Path] = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)


def make_private_file(path: Path) -> None:
    """Make the file, empty, unless it is there; then correct its mode and those of SQLite's files beside it.

    A file that is there is not opened: to close it again would let go of every lock that this process has on
    it, SQLite's among them. What stands in the way is left for the one who opens the file to report.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    for one in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        _narrow(one)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def keep_private(state_dir: Path) -> None:
    """Make the state folder for its owner only, or correct what an older release left readable in it.

    Only the folders that are ours by name: a person may have named a folder that holds other things too, and
    the OpenSearch node's files belong to another account. A folder of ours that is private is as this
    function left it, so that looking again costs a call a folder. Raises OSError.
    """
    make_private_folder(state_dir)
    for name in STATE_FOLDERS:
        folder = state_dir / name
        with suppress(OSError):  # not there, or another account's
            if folder.lstat().st_mode & OTHERS:
                _narrow_below(folder)
    for file in state_dir.glob("running.*"):
        _narrow(file)


def _narrow_below(folder: Path) -> None:
    """Correct what is in the folder, and the folder last: killed in between it is gone through again."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _narrow_below(Path(entry))
        elif not entry.is_symlink():
            _narrow(Path(entry))
    _narrow(folder)


def _narrow(path: Path) -> None:
    """Take away what others may do with a file or folder. One that is gone, or not ours, stays as it is."""
    with suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & OTHERS:
            path.chmod(mode & ~OTHERS)


# Secrets that a process makes for itself on first use: one file, read by its owner only.


def make_secret_file(path: Path, *, content: Callable[[], bytes]) -> None:
    """Write ``content()`` with mode 0600 unless the file is there; of two processes the first wins."""
    if path.exists():
        return
    make_private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content())
    try:
        os.link(draft, path)  # fails, unlike a rename, when another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
