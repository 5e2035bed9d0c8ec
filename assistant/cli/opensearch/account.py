"""Who runs the node: OpenSearch refuses root, so root starts it as an account without rights."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.errors import LocalRuntimeError

_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the node; ``user_id`` is absent where it is our own."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def for_node(cls) -> Account:
        """Return our own account, or for root the machine's unprivileged one. Raises LocalRuntimeError."""
        if os.geteuid() != 0:
            return cls()
        try:
            entry = pwd.getpwnam(_UNPRIVILEGED)
        except KeyError:
            raise LocalRuntimeError(
                f"OpenSearch does not run as root, and there is no user {_UNPRIVILEGED} to run it as: "
                "start it as another user."
            ) from None
        return cls(user_id=entry.pw_uid, group_id=entry.pw_gid)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return the command in front of what is to run as this account. Raises LocalRuntimeError."""
        if self.user_id is None:
            return ()
        tool = shutil.which("setpriv")
        if tool is None:
            raise LocalRuntimeError("OpenSearch does not run as root, and setpriv (util-linux) is missing.")
        return (tool, f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups")

    def give(self, folder: Path) -> None:
        """Make the account the owner of a folder and all that is in it."""
        if self.user_id is None or self.group_id is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.user_id, self.group_id, follow_symlinks=False)


def reachable_place(wanted: Path, account: Account) -> Path:
    """Return the wanted folder, or where another account cannot enter it, one of the same name for good
    below the folder for temporary files.

    Raises LocalRuntimeError when somebody else made that folder.
    """
    wanted = wanted.resolve()
    if account.user_id is None or _others_may_enter(wanted):
        return wanted
    mark = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"assistant-opensearch-{mark}"
    place.mkdir(mode=0o755, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid not in (os.geteuid(), account.user_id):
        raise LocalRuntimeError(f"{place} belongs to somebody else; remove it.")
    return place


def _others_may_enter(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents) if parent.exists())
