"""Ports, operating-system processes, signals that end a command, and ``STATE/running.json``, the registry of
the local processes."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

import orjson
import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import LocalRuntimeError
from assistant.private_files import FILE_MODE, keep_private, make_private_folder, write_private
from assistant.settings.process import inherited_environment

HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Below the ports of outgoing connections (Linux from 32768, macOS from 49152): none of them takes a port
between the choice and the start of its process."""
_PORT_ATTEMPTS = 200
MARK = "ASSISTANT_SUPERVISED_BY"
"""Variable in a started process's environment: the path of its registry. It finds processes that running.json
does not list."""
_SAME_START_S = 2.0
"""Start times are wall-clock times: a clock change moves them a little. A reused pid differs by more."""
_POLL_S = 0.02


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


@dataclass(frozen=True, slots=True)
class PortWishes:
    """Which process wants which port; 0 is any free one."""

    by_name: Mapping[str, int]
    asked_for: bool = False
    """Whether a person chose the ports in this command: then they override the recorded ones."""

    def choose(self, recorded: Mapping[str, int]) -> dict[str, int]:
        """Return a port for every name: the recorded one, else the wished one.

        Raises LocalRuntimeError if there is no free one.
        """
        chosen = dict(recorded)
        for name, wish in self.by_name.items():
            if name not in chosen or (self.asked_for and wish != 0):
                chosen[name] = wish or choose_free(taken=set(chosen.values()))
        return chosen


def choose_free(*, taken: Collection[int] = ()) -> int:
    """Return a port that no server listens on. Raises LocalRuntimeError if there is none."""
    for _ in range(_PORT_ATTEMPTS):
        port = random.choice(_PORTS)  # noqa: S311 - a port is no secret
        if port not in taken and is_free(port):
            return port
    raise LocalRuntimeError(f"No free port found from {_PORTS.start} to {_PORTS.stop}.")


def refuse_taken(port: int, *, name: str, chosen: bool) -> None:
    """Raise LocalRuntimeError if another program listens on the port; the message says what to do.

    ``chosen``: whether a person may choose the port.
    """
    if is_free(port):
        return
    advice = "choose other ports with --port" if chosen else "try again after assistant tenant down"
    raise LocalRuntimeError(
        f"Port {port}, which the {name} needs, is in use{_by_whom(port)}; end that program or {advice}."
    )


def _by_whom(port: int) -> str:
    with suppress(psutil.Error):  # macOS shows other programs' sockets only to root
        for connection in psutil.net_connections("tcp4"):
            if connection.laddr and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProcessIdentity(_Model):
    """A pid and the start of its process (seconds since the epoch): a reused pid is another process."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that exists. Raises psutil.NoSuchProcess."""
        return cls(pid=pid, started_at=psutil.Process(pid).create_time())

    @classmethod
    def own(cls) -> ProcessIdentity:
        return cls.of(os.getpid())

    def is_alive(self) -> bool:
        """Return whether this same process still runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < _SAME_START_S
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """How one of the local processes is started."""

    name: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    """Its own variables; it inherits the rest."""
    port: int | None
    fixed_port: bool = False
    """Whether a person chose the port: then they resolve a conflict, else another port is chosen."""
    after: tuple[str, ...] = ()
    """Names of those that must be ready first, where they are started with it."""
    reads: tuple[Path, ...] = ()
    """Files that the process reads only at its start."""

    def settings(self) -> dict[str, str]:
        """Return what decides how the process behaves: variable or file = SHA-256 (hex) of its content."""
        contents = {"command": orjson.dumps(self.arguments)}
        contents |= {name: value.encode() for name, value in self.environment.items()}
        contents |= {path.name: path.read_bytes() for path in self.reads}
        return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def spawn(plan: ProcessPlan, *, log_path: Path, registry_path: Path) -> int:
    """Start the process in a session of its own, so that the terminal's Ctrl-C does not reach it.

    Its output is appended to ``log_path``. Returns the pid. Raises OSError.
    """
    make_private_folder(log_path.parent)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not subprocess.Popen: it warns when a process outlives it, as these are meant to.
    return os.posix_spawn(
        plan.arguments[0],
        plan.arguments,
        inherited_environment() | plan.environment | {MARK: str(registry_path)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log_path), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def reap(pid: int) -> int | None:
    """Return the exit status of an own child (negative: the signal that ended it), or None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if ended else None


def find_marked(registry_path: Path) -> list[ProcessIdentity]:
    """Return the living processes that were started for this registry, listed in it or not."""
    found: list[ProcessIdentity] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(registry_path):
                found.append(ProcessIdentity.of(process.pid))
    return [identity for identity in found if identity.is_alive()]


def stop_all(identities: Iterable[ProcessIdentity], *, timeout_s: float) -> None:
    """Send SIGTERM to all, wait for all together, then kill the process groups that are left.

    Returns after ``timeout_s`` and two more seconds at most.
    """
    stopping = [identity for identity in identities if identity.is_alive()]
    for identity in stopping:
        with suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGTERM)
    left = _await_end(stopping, timeout_s=timeout_s)
    for identity in left:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(identity.pid, signal.SIGKILL)
    _await_end(left, timeout_s=2.0)


def _await_end(identities: Sequence[ProcessIdentity], *, timeout_s: float) -> list[ProcessIdentity]:
    until = time.monotonic() + timeout_s
    left = list(identities)
    while (left := [identity for identity in left if identity.is_alive()]) and time.monotonic() < until:
        time.sleep(_POLL_S)
    return left


class RunningProcess(_Model):
    """A process that was started."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # an older release kept one hash of all settings

    identity: ProcessIdentity
    port: int | None
    settings: dict[str, str] = Field(default_factory=dict[str, str])
    """As ``ProcessPlan.settings`` gave them."""
    ready: bool = False
    """False until its ready line; a command that is killed while it waits leaves it so."""

    def differences(self, plan: ProcessPlan | None) -> list[str]:
        """Return the settings that the plan would change, or why the process must not stay."""
        if plan is None:
            return ["no longer needed"]
        wanted = plan.settings()
        names = self.settings.keys() | wanted.keys()
        differing = sorted(name for name in names if self.settings.get(name) != wanted.get(name))
        return differing or ([] if self.ready else ["not ready"])


class Use(_Model):
    """A command that needs processes, while it runs."""

    use_id: str
    identity: ProcessIdentity
    command: str
    needs: tuple[str, ...]
    folder: str = ""
    """The folder in which it was started."""
    yields: bool = False
    """Whether another command may restart its processes with other settings."""


class Running(BaseModel):
    """Content of running.json."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    processes: dict[str, RunningProcess] = Field(default_factory=dict[str, RunningProcess])
    uses: list[Use] = Field(default_factory=list[Use])
    pinned: list[str] = Field(default_factory=list[str])
    """Names that ``assistant tenant up`` keeps running without a use."""
    ports: dict[str, int] = Field(default_factory=dict[str, int])
    """Fixed while any process runs, also for processes that are not started yet."""

    def drop_dead(self) -> None:
        """Forget processes and commands that ended."""
        self.processes = {name: one for name, one in self.processes.items() if one.identity.is_alive()}
        self.uses = [use for use in self.uses if use.identity.is_alive()]

    def needed(self) -> set[str]:
        """Return the names that a living command needs or ``tenant up`` keeps."""
        return set(self.pinned).union(*(use.needs for use in self.uses))

    def users(self, name: str) -> list[Use]:
        """Return the commands that need a process."""
        return [use for use in self.uses if name in use.needs]


@dataclass(frozen=True, slots=True)
class Registry:
    """running.json and its lock. The file is replaced as a whole, so reading needs no lock."""

    path: Path

    @classmethod
    def under(cls, state_dir: Path) -> Registry:
        return cls(state_dir.resolve() / "running.json")

    @contextmanager
    def locked(self, *, timeout_s: float, on_wait: Callable[[], None]) -> Generator[None]:
        """Hold the lock; call ``on_wait`` once if another command holds it.

        Raises LocalRuntimeError after ``timeout_s``. The operating system frees the lock of a killed command.
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
        """Return the content, an empty one if there is no file, or None if the file is invalid."""
        try:
            return Running.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return Running()
        except ValidationError:
            return None

    def read_living(self) -> Running:
        """Return the content without what ended; an empty one if the file is missing or invalid."""
        running = self.read() or Running()
        running.drop_dead()
        return running

    def write(self, running: Running) -> None:
        """Replace the file atomically. Raises OSError."""
        new = self.path.with_suffix(".new")
        write_private(new, running.model_dump_json(indent=1).encode())
        new.replace(self.path)

    def set_aside(self) -> Path:
        """Rename an invalid file and return its new path."""
        aside = self.path.with_name(f"running.unreadable-{time.time_ns()}.json")
        self.path.replace(aside)
        return aside


# --- signals ---------------------------------------------------------------------------------------------


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalExit(SystemExit):
    """SIGTERM or SIGHUP came; the status is 128 plus the signal's number."""


def end_in_order_on_signals() -> None:
    """Let SIGTERM and SIGHUP (a closed terminal) unwind the command as Ctrl-C does.

    SIGINT is set too: a shell ignores it for a command that it starts in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)


@contextmanager
def uninterrupted() -> Generator[None]:
    """Ignore signals while the block runs; the block must have a timeout of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _ignore) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    raise SignalExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: started processes would inherit that."""
