"""Ports, and operating-system processes: how one is identified, started, found and stopped."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import psutil
from pydantic import BaseModel, ConfigDict

from assistant.domain.errors import LocalRuntimeError
from assistant.private_files import make_private_folder
from assistant.settings.process import inherited_environment

HOST = "127.0.0.1"
_OWN_RANGE = range(20_000, 32_000)
"""Below what Linux (from 32768) and macOS (from 49152) give to outgoing connections: a port chosen
here is not taken by one while its process is not started yet."""
_ATTEMPTS = 200


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
    """Whether a person asked for them in this command: then they stand over what runs already."""

    def choose(self, recorded: Mapping[str, int]) -> dict[str, int]:
        """Return a port for every name: as recorded (something runs), else as wished.

        Raises LocalRuntimeError if there is no free one.
        """
        chosen = dict(recorded)
        for name, wish in self.by_name.items():
            if name not in chosen or (self.asked_for and wish != 0):
                chosen[name] = wish or choose_free(taken=set(chosen.values()))
        return chosen


def choose_free(*, taken: Collection[int] = ()) -> int:
    """Return a port that nobody listens on. Raises LocalRuntimeError if there is none."""
    for _ in range(_ATTEMPTS):
        port = random.choice(_OWN_RANGE)  # noqa: S311 - nothing secret about a port
        if port not in taken and is_free(port):
            return port
    raise LocalRuntimeError(f"No free port found from {_OWN_RANGE.start} to {_OWN_RANGE.stop}.")


def refuse_taken(port: int, *, name: str, chosen: bool) -> None:
    """Raise LocalRuntimeError if another program listens on the port; the message says what to do.

    ``chosen`` says whether a person may choose the port.
    """
    if is_free(port):
        return
    advice = "choose other ports with --port" if chosen else "try again after assistant local down"
    raise LocalRuntimeError(
        f"Port {port}, which the {name} needs, is in use{_by_whom(port)}; end that program or {advice}."
    )


def _by_whom(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp4")
    except psutil.AccessDenied:  # macOS shows other programs' sockets only to root
        return ""
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.Error:
                return ""
    return ""


# One operating-system process: what identifies it, how it is started, found and stopped.


MARK = "ASSISTANT_SUPERVISED_BY"
"""Variable in a started process's environment: the registry it belongs to. By it a process that the
registry lost is still found."""
_SAME_START_S = 2.0
"""Start times are wall-clock times: a clock that is set moves them a little. A recycled pid is later."""
_POLL_S = 0.02


class ProcessIdentity(BaseModel):
    """A pid, and when that process started (seconds since the epoch): a recycled pid is another process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that is there. Raises psutil.NoSuchProcess."""
        return cls(pid=pid, started_at=psutil.Process(pid).create_time())

    @classmethod
    def own(cls) -> ProcessIdentity:
        return cls.of(os.getpid())

    def is_alive(self) -> bool:
        """Return whether this very process still runs; one that only waits to be reaped does not."""
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
    """Only what is set for it; the rest is inherited."""
    port: int | None
    fixed_port: bool = False
    """Whether a person chose the port: then a clash is theirs to solve, else another is chosen."""
    after: tuple[str, ...] = ()
    """Names of those that must be ready before this one, where they are started with it."""
    reads: tuple[Path, ...] = ()
    """Files whose content the process reads once, at its start."""

    def settings_hash(self) -> str:
        """Return the SHA-256 (hex) over all that decides how the process behaves."""
        digest = hashlib.sha256(orjson.dumps([self.arguments, self.environment], option=orjson.OPT_SORT_KEYS))
        for path in self.reads:
            digest.update(orjson.dumps([path.name, hashlib.sha256(path.read_bytes()).hexdigest()]))
        return digest.hexdigest()


def spawn(plan: ProcessPlan, *, log_path: Path, registry_path: Path) -> int:
    """Start the process in a session of its own, so that the terminal's Ctrl-C does not reach it.

    Its output is appended to ``log_path``. Returns the pid. Raises OSError.
    """
    make_private_folder(log_path.parent)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # Not subprocess.Popen: that object warns when a process outlives it, which is the purpose here.
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
    """Return how an own child ended (below zero: by that signal), or None while it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if ended else None


def find_marked(registry_path: Path) -> list[ProcessIdentity]:
    """Return the living processes that were started for this registry, wherever it has them written."""
    found: list[ProcessIdentity] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(registry_path):
                found.append(ProcessIdentity.of(process.pid))
    return [identity for identity in found if identity.is_alive()]


def stop_all(identities: Iterable[ProcessIdentity], *, timeout_s: float) -> None:
    """Send SIGTERM to all, wait for all together, and kill the process group of what is left.

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
