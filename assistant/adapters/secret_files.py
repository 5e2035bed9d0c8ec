"""Secrets that a process makes for itself on first use: one file, read by its owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from assistant.adapters.private_files import FILE_MODE, make_private_folder


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
