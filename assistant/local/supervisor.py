"""Shares local processes between commands: starts what is missing, stops what no command needs.

Each command writes what it needs into the registry while it runs. A process stops when the last command that
needs it ends, unless ``assistant local up`` keeps it. The next command notices a killed one, and stops or
takes over its processes. All processes of a state folder run with the settings of the newest command.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.errors import LocalRuntimeError
from assistant.local.interruption import SignalExit, uninterrupted
from assistant.local.processes import (
    PortWishes,
    ProcessIdentity,
    ProcessPlan,
    Registry,
    Running,
    Use,
    find_marked,
    stop_all,
)
from assistant.local.starting import Starter
from assistant.settings.process import LocalSettings

_GATEWAY = "gateway"
_RETRY_S = 0.2
_RELEASE_LOCK_S = 15.0
"""A command that ends waits this long for one that starts processes; the next one to end stops the rest."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What ``down`` stopped."""

    names: tuple[str, ...]
    users: tuple[str, ...]
    """Commands that were still using it."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The processes of one state folder."""

    registry: Registry
    settings: LocalSettings
    starter: Starter
    wishes: PortWishes
    plans: Callable[[Mapping[str, int]], Mapping[str, ProcessPlan]]
    """Returns the plan of every process by name, given the ports by name."""
    say: Callable[[str], None]
    """Shows a person why they wait."""
    together: frozenset[str] = frozenset()
    """Processes that run whenever the gateway does: an index may become live that needs another model."""

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
        return [*commands, *(["assistant local up"] if name in running.pinned else [])]

    def _start_for(self, needs: tuple[str, ...], *, use: Use | None) -> Mapping[str, int]:
        until_s = time.monotonic() + self.settings.lock_timeout_s
        told = False
        while True:
            ports, blocker = self._try_start(needs, use=use)
            if blocker is None:
                return ports
            command = f"{blocker.command} (process {blocker.identity.pid})"
            if time.monotonic() > until_s:
                raise LocalRuntimeError(
                    f"{command} still uses the local processes with other settings; end it first."
                )
            if not told:
                self.say(f"waiting for {command}, which uses the local processes with other settings")
                told = True
            time.sleep(_RETRY_S)

    def _try_start(self, needs: tuple[str, ...], *, use: Use | None) -> tuple[Mapping[str, int], Use | None]:
        """Return the ports, and a command that needs other settings: then nothing was started."""
        with self._opened() as running:
            ports = self.wishes.choose(running.ports)
            plans = self.plans(ports)
            outdated = {
                name
                for name, one in running.processes.items()
                if name not in plans or not one.ready or one.settings_hash != plans[name].settings_hash()
            }
            for other in running.uses:
                if not other.yields and outdated.intersection(other.needs):
                    return ports, other
            running.ports = ports
            self._join(running)
            wanted = set(needs).union(running.needed().intersection(running.processes))
            self._stop(running, outdated | (running.processes.keys() - running.needed() - set(needs)))
            missing = wanted - running.processes.keys()
            self.starter.start({name: plans[name] for name in plans if name in missing}, running=running)
            if use is None:
                running.pinned = sorted(needs)
            else:
                running.uses.append(use)
            self.registry.write(running)
            return ports, None

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
        self.starter.reap()

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
