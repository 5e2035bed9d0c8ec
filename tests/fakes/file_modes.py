"""Who may use the files of a folder."""

from __future__ import annotations

import stat
from pathlib import Path


def wider(folder: Path) -> list[str]:
    """Return the files and folders that anyone but their owner may use, the folder itself among them."""
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(folder)}"
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]
