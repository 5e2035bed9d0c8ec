"""How commands of one state folder share its site: one file with its address, and two locks.

Who holds ``site.lock`` serves, and writes ``site.json``. Who only uses the site holds a shared lock on
``site.users``, for which the one that serves waits before it stops. The operating system frees the locks of a
command that was killed, so that a file without its lock says nothing.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.process.private_files import FILE_MODE, keep_private, make_private_file, replace_private

_POLL_S = 0.05


class Address(BaseModel):
    """Content of ``site.json``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: str = ""
    """Empty while it starts or stops, as are the next two."""
    issuer: str = ""
    systems: dict[str, str] = Field(default_factory=dict[str, str])
    command: str
    pid: int
    folder: str
    """In which the command was started."""
    started_at: float
    """Seconds since the epoch."""
    options: dict[str, str]
    digest: str
    """As ``Layout`` gives them."""
    stays: bool
    """Whether it serves until a signal, and follows changed files."""

    @property
    def who(self) -> str:
        return f"{self.command} (process {self.pid}, in {self.folder})"


@dataclass(slots=True)
class SharedSite:
    """The site of one state folder, as a command sees it."""

    folder: Path
    _lock: FileLock = field(init=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.folder / "site.lock", mode=FILE_MODE)

    @property
    def _file(self) -> Path:
        return self.folder / "site.json"

    def take(self) -> bool:
        """Become the one that serves; False where another command does."""
        keep_private(self.folder)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        self._file.unlink(missing_ok=True)
        return True

    def publish(self, address: Address) -> None:
        """Tell other commands where it serves."""
        replace_private(self._file, address.model_dump_json(indent=1).encode())

    def release(self) -> None:
        """Serve no longer."""
        self._file.unlink(missing_ok=True)
        self._lock.release()

    def read(self) -> Address | None:
        """Return where another command serves; None where none does, or not yet, or no longer."""
        address = self.holder()
        return address if address is not None and address.service else None

    def holder(self) -> Address | None:
        """Return the command that serves, starts to or is ending; None without one."""
        try:
            address = Address.model_validate_json(self._file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        # The lock alone is no proof: another command may just be looking whether it is free.
        return address if self.is_held() and psutil.pid_exists(address.pid) else None

    def serves(self, address: Address) -> bool:
        """Return whether that process still serves."""
        return (now := self.holder()) is not None and now.pid == address.pid

    @contextmanager
    def using(self, address: Address) -> Generator[bool]:
        """Keep the site from stopping inside the block; False where it has begun to stop."""
        with self._users(fcntl.LOCK_SH):
            yield self.read() == address

    def is_used(self) -> bool:
        """Return whether another command uses the site now."""
        try:
            with self._users(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    def await_users(self, on_wait: Callable[[], None]) -> None:
        """Return when no other command uses the site; ``on_wait`` is called once where one does."""
        if not self.is_used():
            return
        on_wait()
        with self._users(fcntl.LOCK_EX):
            return

    def stop(self, *, timeout_s: float) -> Address | None:
        """End the process that serves, by force after ``timeout_s``; return what it was, None without one."""
        if (address := self.holder()) is None:
            return None
        until_s = time.monotonic() + timeout_s
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(address.pid)
            process.terminate()
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > until_s:
                    process.kill()
                time.sleep(_POLL_S)
        return address

    def is_held(self) -> bool:
        """Return whether a command serves, or just looks whether another one does."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        self._lock.release()
        return False

    @contextmanager
    def _users(self, kind: int) -> Generator[None]:
        path = self.folder / "site.users"
        make_private_file(path)
        with path.open("rb") as file:
            fcntl.flock(file, kind)
            yield
