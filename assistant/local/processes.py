"""Shares local processes between commands: starts what is missing, several at once, and stops what no command
needs.

Each command writes what it needs into ``STATE/running.json``, the registry, while it runs. A process stops
when the last command that needs it ends, unless ``assistant tenant up`` keeps it. The next command notices a
killed one, and stops or takes over its processes. All processes of a state folder run with the settings of
the newest command.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

import orjson
import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import LocalRuntimeError
from assistant.private_files import FILE_MODE, keep_private, make_private_folder, replace_private
from assistant.settings.process import LocalSettings, inherited_environment

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
    marked: list[ProcessIdentity] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(registry_path):
                marked.append(ProcessIdentity.of(process.pid))
    return [identity for identity in marked if identity.is_alive()]


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
        replace_private(self.path, running.model_dump_json(indent=1).encode())

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
    """Let the first SIGINT (Ctrl-C), SIGTERM or SIGHUP (a closed terminal) unwind the command.

    Later ones are ignored: the command is ending, and each of its steps has a time limit. SIGQUIT
    (Ctrl-\\) and SIGKILL end it at once; the next command stops what it leaves running.
    """
    for number in _ENDING:
        signal.signal(number, _unwind)


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


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    for each in _ENDING:
        signal.signal(each, _ignore)
    raise KeyboardInterrupt if number == signal.SIGINT else SignalExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: started processes would inherit that."""


# --- the supervisor --------------------------------------------------------------------------------------


_GATEWAY = "gateway"
_RETRY_S = 0.2
_RELEASE_LOCK_S = 15.0
"""A command that ends waits this long for one that starts processes; the next one to end stops the rest."""
_NAMED_SETTINGS = 3
"""So many differing settings of a process are named."""
_MIB = 1024 * 1024
_TAIL_BYTES = 16_384
_REASON_FIELDS = ("detail", "error", "event", "msg", "message")
"""Fields of our JSON log lines that say what happened, the most precise first."""
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Stopped:
    """What ``down`` stopped."""

    names: tuple[str, ...]
    users: tuple[str, ...]
    """Commands that were still using it."""


def _blocked_by(use: Use, differing: Mapping[str, Sequence[str]]) -> str:
    """Return a command that goes on, and the settings with which it uses processes that another needs."""
    named: list[str] = []
    for name, settings in differing.items():
        more = ("…",) if len(settings) > _NAMED_SETTINGS else ()
        named.append(f"{name} ({', '.join((*settings[:_NAMED_SETTINGS], *more))})")
    command = f"{use.command} (process {use.identity.pid})"
    return f"{command}, which uses local processes with other settings: {'; '.join(named)}"


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """Standard output and error of one process, appended over its restarts."""

    path: Path

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def trim(self, *, limit_bytes: int) -> None:
        """Drop the older half of a log over the limit. The process appends, so it continues at the end."""
        size = self.size_bytes()
        if size <= limit_bytes:
            return
        with self.path.open("r+b") as file:
            file.seek(size - limit_bytes // 2)
            file.readline()
            kept = file.read()
            file.seek(0)
            file.write(kept)
            file.truncate()

    def is_ready(self, *, since_bytes: int) -> bool:
        """Return whether the line ``{"ready": true, …}`` was written after ``since_bytes``."""
        return any(_fields(line).get("ready") is True for line in self._lines(since_bytes))

    def not_opened(self, *, since_bytes: int) -> Sequence[str]:
        """Return why tenants are left out whose files of settings are valid, from the lines after
        ``since_bytes``."""
        lines = map(_fields, self._lines(since_bytes))
        left_out = (line for line in lines if line.get("event") == "tenant_not_served")
        return [line["reason"] for line in left_out if line.get("at") == "opening"]

    def last_reason(self, *, since_bytes: int = 0) -> str:
        """Return the message of the last line written after ``since_bytes``, or "no output"."""
        start = max(since_bytes, self.size_bytes() - _TAIL_BYTES)
        for line in reversed(self._lines(start)):
            if line.strip():
                fields = _fields(line)
                reason = next((fields[name] for name in _REASON_FIELDS if fields.get(name)), line)
                return str(reason).strip()[:_LONGEST_REASON]
        return "no output"

    def _lines(self, since_bytes: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since_bytes)
            return file.read().decode("utf-8", errors="replace").splitlines()


def _fields(line: str) -> dict[str, Any]:
    """Return the fields of a log line; none where it is no JSON object."""
    try:
        return orjson.loads(line) if line.startswith("{") else {}
    except orjson.JSONDecodeError:
        return {}


@dataclass(slots=True)
class _Starting:
    plan: ProcessPlan
    pid: int
    log: ProcessLog
    log_start_bytes: int
    began_s: float


@dataclass(slots=True)
class Supervisor:
    """The processes of one state folder."""

    registry: Registry
    settings: LocalSettings
    wishes: PortWishes
    plans: Callable[[Mapping[str, int]], Mapping[str, ProcessPlan]]
    """Returns the plan of every process by name, given the ports by name."""
    say: Callable[[str], None]
    """Shows a person why they wait."""
    on_ready: Callable[[str, float], None]
    """Called with a process's name and the seconds it took to start."""
    together: frozenset[str] = frozenset()
    """Processes that run whenever the gateway does: an index may become live that needs another model."""
    _children: list[int] = field(default_factory=list[int])
    """Pids that this command started and that have not ended."""

    @contextmanager
    def using(
        self, needs: Sequence[str], *, command: str, yields: bool = False
    ) -> Generator[Mapping[str, int]]:
        """Have the named processes ready inside the block; yield the ports by name.

        ``yields`` lets a later command restart them with other settings. Raises LocalRuntimeError.
        """
        use = Use(
            use_id=uuid.uuid4().hex,
            identity=ProcessIdentity.of(os.getpid()),
            command=command,
            needs=tuple(needs),
            folder=str(Path.cwd()),
            yields=yields,
        )
        try:
            yield self._start_for(use.needs, use=use)
        finally:
            self._release(use)

    def up(self, names: Sequence[str]) -> Mapping[str, int]:
        """Start the named processes and keep them running. Returns the ports by name."""
        with ExitStack() as on_failure:
            on_failure.callback(self._release, None)
            ports = self._start_for(tuple(names), use=None)
            on_failure.pop_all()
        return ports

    def down(self) -> Stopped:
        """Stop everything that was started for this state folder, listed in the registry or not."""
        with self._opened() as running:
            names = tuple(running.processes)
            self._stop(running, names)
            stop_all(find_marked(self.registry.path), timeout_s=self.settings.stop_timeout_s)
            running.pinned = []
            self.registry.write(running)
            return Stopped(names, tuple(use.command for use in running.uses))

    def clean(self) -> Running:
        """Stop what no living command needs and return the rest; only read while another command starts."""
        try:
            with self._opened(timeout_s=0.0, quiet=True) as running:
                self._stop(running, running.processes.keys() - running.needed())
                self.registry.write(running)
                return running
        except LocalRuntimeError:
            return self.registry.read_living()

    def is_running(self, name: str) -> bool:
        """Return whether the process lives; if not, look again after commands that may restart it."""
        if name in self.registry.read_living().processes:
            return True
        with self._opened(quiet=True) as settled:
            return name in settled.processes

    def is_kept(self, name: str) -> bool:
        """Return whether the process continues when this command ends."""
        running = self.registry.read_living()
        identity = ProcessIdentity.of(os.getpid())
        return name in running.pinned or any(use.identity != identity for use in running.users(name))

    def users(self, name: str) -> list[str] | None:
        """Return the commands that use or keep a process, each with its folder; None if it does not run."""
        running = self.registry.read_living()
        if name not in running.processes:
            return None
        commands = [
            f"{use.command} (process {use.identity.pid}, in {use.folder})" for use in running.users(name)
        ]
        return [*commands, *(["assistant tenant up"] if name in running.pinned else [])]

    def _start_for(self, needs: tuple[str, ...], *, use: Use | None) -> Mapping[str, int]:
        until_s = time.monotonic() + self.settings.lock_timeout_s
        told = False
        while True:
            started = self._try_start(needs, use=use)
            if not isinstance(started, str):
                return started
            if time.monotonic() > until_s:
                raise LocalRuntimeError(f"Waited too long for {started}. End it first.")
            if not told:
                self.say(f"waiting for {started}")
                told = True
            time.sleep(_RETRY_S)

    def _try_start(self, needs: tuple[str, ...], *, use: Use | None) -> Mapping[str, int] | str:
        """Return the ports, or the command that needs other settings: then nothing was started."""
        with self._opened() as running:
            ports = self.wishes.choose(running.ports)
            plans = self.plans(ports)
            differing = {name: one.differences(plans.get(name)) for name, one in running.processes.items()}
            outdated = {name: settings for name, settings in differing.items() if settings}
            for other in running.uses:
                if not other.yields and (blocked := outdated.keys() & other.needs):
                    return _blocked_by(other, {name: outdated[name] for name in sorted(blocked)})
            running.ports = ports
            self._join(running)
            wanted = set(needs).union(running.needed().intersection(running.processes))
            self._stop(running, outdated.keys() | (running.processes.keys() - running.needed() - set(needs)))
            missing = wanted - running.processes.keys()
            self._start({name: plans[name] for name in plans if name in missing}, running=running)
            if use is None:
                running.pinned = sorted(needs)
            else:
                running.uses.append(use)
            self.registry.write(running)
            return ports

    def _join(self, running: Running) -> None:
        """Let each command that needs the gateway need ``together`` too, also those that began before."""

        def joined(needs: Iterable[str]) -> list[str]:
            return sorted({*needs, *(self.together if _GATEWAY in needs else ())})

        running.pinned = joined(running.pinned)
        running.uses = [use.model_copy(update={"needs": tuple(joined(use.needs))}) for use in running.uses]

    def _release(self, use: Use | None) -> None:
        try:
            self._stop_unneeded(use)
        except (KeyboardInterrupt, SignalExit):  # the first one, just before it would have been ignored
            self._stop_unneeded(use)
            raise

    def _stop_unneeded(self, use: Use | None) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, KeyboardInterrupt | SignalExit):
            self.say("stopping the local processes")
        try:
            with uninterrupted(), self._opened(timeout_s=_RELEASE_LOCK_S, quiet=True) as running:
                running.uses = [
                    listed for listed in running.uses if use is None or listed.use_id != use.use_id
                ]
                self._stop(running, running.processes.keys() - running.needed())
                if error is not None:  # a signal may have come between a start and its entry
                    known = {process.identity.pid for process in running.processes.values()}
                    unlisted = [one for one in find_marked(self.registry.path) if one.pid not in known]
                    stop_all(unlisted, timeout_s=self.settings.stop_timeout_s)
                self.registry.write(running)
        except LocalRuntimeError:
            self.say("another command is starting processes; it will stop those that are not needed")

    def _stop(self, running: Running, names: Iterable[str]) -> None:
        stopping = [running.processes.pop(name) for name in names]
        stop_all([process.identity for process in stopping], timeout_s=self.settings.stop_timeout_s)
        self._reap()

    def tend(self) -> None:
        """Take ended children off the process table, and cut long logs: a command that stays calls it."""
        self._reap()
        self._trim_logs()

    @contextmanager
    def _opened(self, *, timeout_s: float | None = None, quiet: bool = False) -> Generator[Running]:
        def say_waiting() -> None:
            if not quiet:
                self.say("waiting for another assistant command that starts or stops processes")

        timeout_s = self.settings.lock_timeout_s if timeout_s is None else timeout_s
        with self.registry.locked(timeout_s=timeout_s, on_wait=say_waiting):
            running = self.registry.read()
            if running is None:
                running = self._recover()
            running.drop_dead()
            if not running.processes:  # also after a restart of the machine
                running.ports, running.pinned = {}, []
            yield running

    def _recover(self) -> Running:
        stop_all(find_marked(self.registry.path), timeout_s=self.settings.stop_timeout_s)
        aside = self.registry.set_aside()
        self.say(f"{self.registry.path} is invalid: kept as {aside.name}, and its processes are stopped")
        return Running()

    # Starting

    @property
    def _logs_dir(self) -> Path:
        return self.registry.path.parent / "logs"

    def _start(self, plans: Mapping[str, ProcessPlan], *, running: Running) -> None:
        """Start the plans, each after those of them it names, and return when all are ready.

        Each is written into the registry as soon as it exists. Raises LocalRuntimeError with the reason in
        one sentence; processes started until then stay in ``running``, and the caller stops them.
        """
        if plans:
            self._check_disk_and_ports(plans)
        self._trim_logs()
        waiting = dict(plans)
        starting: dict[str, _Starting] = {}
        while waiting or starting:
            not_ready = waiting.keys() | starting.keys()
            for name in [name for name, plan in waiting.items() if not_ready.isdisjoint(plan.after)]:
                starting[name] = self._spawn(waiting.pop(name), running=running)
            for name in [name for name, one in starting.items() if self._is_ready(one)]:
                one = starting.pop(name)
                began_s, reasons = one.began_s, one.log.not_opened(since_bytes=one.log_start_bytes)
                for reason in dict.fromkeys(reasons):
                    self.say(reason)
                running.processes[name] = running.processes[name].model_copy(update={"ready": True})
                self.registry.write(running)
                self.on_ready(name, time.monotonic() - began_s)
            time.sleep(_POLL_S)

    def _reap(self) -> None:
        """Reap ended children of this command, so that none stays a zombie while it serves."""
        self._children = [child for child in self._children if reap(child) is None]

    def _trim_logs(self) -> None:
        """Drop the older half of every log that is over its limit."""
        for path in self._logs_dir.glob("*.log"):
            ProcessLog(path).trim(limit_bytes=self.settings.log_limit_mib * _MIB)

    def _check_disk_and_ports(self, plans: Mapping[str, ProcessPlan]) -> None:
        make_private_folder(self._logs_dir)
        free_mib = shutil.disk_usage(self._logs_dir).free // _MIB
        if free_mib < self.settings.min_free_mib:
            raise LocalRuntimeError(
                f"The disk of {self._logs_dir.parent} is full: {free_mib} MiB are free and "
                f"{self.settings.min_free_mib} MiB needed; make room or choose another folder with --state."
            )
        for plan in plans.values():
            if plan.port is not None:
                refuse_taken(plan.port, name=plan.name, chosen=plan.fixed_port)

    def _spawn(self, plan: ProcessPlan, *, running: Running) -> _Starting:
        log = ProcessLog(self._logs_dir / f"{plan.name}.log")
        start = log.size_bytes()
        pid = spawn(plan, log_path=log.path, registry_path=self.registry.path)
        self._children.append(pid)
        running.processes[plan.name] = RunningProcess(
            identity=ProcessIdentity.of(pid), port=plan.port, settings=plan.settings()
        )
        self.registry.write(running)
        return _Starting(plan, pid, log, start, time.monotonic())

    def _is_ready(self, one: _Starting) -> bool:
        if one.log.is_ready(since_bytes=one.log_start_bytes):
            return True
        status = reap(one.pid)
        late = time.monotonic() - one.began_s > self.settings.start_timeout_s
        if status is None and not late:
            return False
        name, log = one.plan.name, one.log.path
        reason = one.log.last_reason(since_bytes=one.log_start_bytes)
        if status is None:
            raise LocalRuntimeError(
                f"The {name} process was not ready after {self.settings.start_timeout_s:.0f} s "
                f"(last line of its log: {reason}); see {log}."
            )
        if missing := re.search(r"No module named '([\w.]+)'", reason):
            raise LocalRuntimeError(
                f"The {name} process cannot start: the Python package {missing[1]} is missing; "
                "install what requirements/local.txt and requirements/models.txt lock (make setup)."
            )
        raise LocalRuntimeError(
            f"The {name} process did not start (status {status}): {reason.rstrip('.')}. See {log}."
        )
