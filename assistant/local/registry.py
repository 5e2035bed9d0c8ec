"""``STATE/running.json``: the only registry of local processes, and of the commands that use them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import LocalRuntimeError
from assistant.local.processes import ProcessIdentity
from assistant.private_files import FILE_MODE, keep_private, write_private


class RunningProcess(BaseModel):
    """A process that was started, by its name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: ProcessIdentity
    port: int | None
    settings_hash: str
    ready: bool = False
    """False while its ready line is awaited; a command killed meanwhile leaves it so."""


class Use(BaseModel):
    """A command that needs processes, for as long as it lives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use_id: str
    identity: ProcessIdentity
    command: str
    needs: tuple[str, ...]
    folder: str = ""
    """Where it was started."""
    yields: bool = False
    """Whether its processes may be restarted under it with other settings."""


class Running(BaseModel):
    """Content of running.json."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    processes: dict[str, RunningProcess] = Field(default_factory=dict[str, RunningProcess])
    uses: list[Use] = Field(default_factory=list[Use])
    pinned: list[str] = Field(default_factory=list[str])
    """Names that ``assistant local up`` keeps running without a use."""
    ports: dict[str, int] = Field(default_factory=dict[str, int])
    """Chosen once for as long as anything runs, also of processes that are not started yet."""

    def drop_dead(self) -> None:
        """Forget processes and commands that are not there any more."""
        self.processes = {name: one for name, one in self.processes.items() if one.identity.is_alive()}
        self.uses = [use for use in self.uses if use.identity.is_alive()]

    def needed(self) -> set[str]:
        """Return the names that a living command needs or ``local up`` keeps."""
        return set(self.pinned).union(*(use.needs for use in self.uses))

    def unneeded(self) -> dict[str, RunningProcess]:
        needed = self.needed()
        return {name: one for name, one in self.processes.items() if name not in needed}


@dataclass(frozen=True, slots=True)
class Registry:
    """The file and its lock. The file is replaced as a whole, so reading needs no lock."""

    path: Path

    @classmethod
    def under(cls, state_dir: Path) -> Registry:
        return cls(state_dir.resolve() / "running.json")

    @contextmanager
    def locked(self, *, timeout_s: float, on_wait: Callable[[], None]) -> Generator[None]:
        """Hold the lock; ``on_wait`` is called once if another command holds it.

        Raises LocalRuntimeError after ``timeout_s``. The system frees the lock of a killed command.
        """
        keep_private(self.path.parent)
        lock = FileLock(self.path.with_suffix(".lock"), mode=FILE_MODE)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            on_wait()
            try:
                lock.acquire(timeout=timeout_s)
            except Timeout:
                raise LocalRuntimeError(
                    "Another assistant command has been starting or stopping processes for "
                    f"{timeout_s:.0f} s: end it, then try again."
                ) from None
        try:
            yield
        finally:
            lock.release()

    def read(self) -> Running | None:
        """Return the content, an empty one if there is no file, or None if it cannot be understood."""
        try:
            return Running.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Running()
        except ValidationError:
            return None

    def write(self, running: Running) -> None:
        """Replace the file at once. Raises OSError."""
        new = self.path.with_suffix(".new")
        write_private(new, running.model_dump_json(indent=1).encode())
        new.replace(self.path)

    def set_aside(self) -> Path:
        """Move a file that cannot be understood out of the way and return where it is."""
        aside = self.path.with_name(f"running.unreadable-{time.time_ns()}.json")
        self.path.replace(aside)
        return aside
