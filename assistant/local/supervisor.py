"""Who needs which local process: reuse what runs, start what is missing, stop what nobody needs.

Commands share processes through the registry. Each writes down what it needs for as long as it lives; a
process is stopped when the last that needs it ends, unless ``assistant local up`` keeps it. A command
that was killed is noticed by the next one: what only it needed is stopped or taken over. All that runs
under one state folder runs with the settings of the newest command.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from assistant.domain.errors import LocalRuntimeError
from assistant.local.interruption import SignalExit, uninterrupted
from assistant.local.processes import PortWishes, ProcessIdentity, ProcessPlan, find_marked, stop_all
from assistant.local.registry import Registry, Running, Use
from assistant.local.starting import Starter
from assistant.settings.process import LocalSettings

_RETRY_S = 0.2
_RELEASE_LOCK_S = 15.0
"""A command that ends waits no longer for one that starts; the next to end stops what is left."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What ``down`` ended."""

    names: tuple[str, ...]
    users: tuple[str, ...]
    """Commands that were still using it."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Processes that ran before this command came."""

    users: tuple[str, ...]
    """Commands that use or keep them, each with where it was started."""


@dataclass(frozen=True, slots=True)
class Supervisor:
    """The processes of one state folder."""

    registry: Registry
    settings: LocalSettings
    starter: Starter
    wishes: PortWishes
    plans: Callable[[Mapping[str, int]], Mapping[str, ProcessPlan]]
    """Every process there is, by name, given each one's port."""
    say: Callable[[str], None]
    """Tells a person why they wait."""

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
        """Stop everything that was started for this state folder, also what the registry lost."""
        with self._opened() as running:
            names = tuple(running.processes)
            self._stop(running, names)
            stop_all(find_marked(self.registry.path), timeout_s=self.settings.stop_timeout_s)
            running.pinned = []
            self.registry.write(running)
            return Stopped(names, tuple(use.command for use in running.uses))

    def clean(self) -> Running:
        """Stop what killed commands left and return what is there, at once if another command starts."""
        try:
            with self._opened(timeout_s=0.0, quiet=True) as running:
                self._stop(running, running.unneeded())
                self.registry.write(running)
                return running
        except LocalRuntimeError:
            running = self.registry.read() or Running()
            running.drop_dead()
            return running

    def is_running(self, name: str) -> bool:
        """Return whether the process lives; if it seems not to, after commands that restart it ended."""
        running = self.registry.read()
        if running is not None and name in running.processes and running.processes[name].identity.is_alive():
            return True
        with self._opened(quiet=True) as settled:
            return name in settled.processes

    def is_kept(self, name: str) -> bool:
        """Return whether the process goes on when this command's only use of it ends."""
        running = self.registry.read() or Running()
        others = [use for use in running.uses if name in use.needs and use.identity != ProcessIdentity.own()]
        return name in running.pinned or bool(others)

    def joined(self, name: str) -> Joined | None:
        """Return who has the process running now, before this command uses it; None when nobody has."""
        running = self.registry.read() or Running()
        running.drop_dead()
        if name not in running.processes:
            return None
        others = [use for use in running.uses if name in use.needs]
        commands = [f"{use.command} (process {use.identity.pid}, in {use.folder})" for use in others]
        return Joined((*commands, *(["assistant local up"] if name in running.pinned else [])))

    def tend(self) -> None:
        """What a command that stays does every second or so: reap ended children, bound the logs."""
        self.starter.reap()
        self.starter.trim_logs()

    def _start_for(self, needs: tuple[str, ...], *, use: Use | None) -> Mapping[str, int]:
        until_s = time.monotonic() + self.settings.lock_timeout_s
        told = False
        while (outcome := self._try_start(needs, use=use)).blocker is not None:
            if time.monotonic() > until_s:
                raise LocalRuntimeError(
                    f"{outcome.blocker} still uses the local processes with other settings; end it first."
                )
            if not told:
                self.say(f"waiting for {outcome.blocker}, which uses the local processes with other settings")
                told = True
            time.sleep(_RETRY_S)
        return outcome.ports

    def _try_start(self, needs: tuple[str, ...], *, use: Use | None) -> _Outcome:
        with self._opened() as running:
            ports = self.wishes.choose(running.ports)
            plans = self.plans(ports)
            outdated = _outdated(running, plans)
            blocker = _blocker(running, outdated)
            if blocker is not None:
                return _Outcome(ports, f"{blocker.command} (process {blocker.identity.pid})")
            running.ports = ports
            wanted = set(needs).union(running.needed().intersection(running.processes))
            self._stop(running, [*outdated.union(running.unneeded().keys() - set(needs))])
            missing = wanted - running.processes.keys()
            self.starter.start({name: plans[name] for name in plans if name in missing}, running=running)
            if use is None:
                running.pinned = sorted(needs)
            else:
                running.uses.append(use)
            self.registry.write(running)
            return _Outcome(ports, None)

    def _release(self, use: Use | None) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, KeyboardInterrupt | SignalExit):
            self.say("stopping the local processes")
        try:
            with uninterrupted(), self._opened(timeout_s=_RELEASE_LOCK_S, quiet=True) as running:
                running.uses = [one for one in running.uses if one != use]
                self._stop(running, running.unneeded())
                if error is not None:  # a signal may have come between a start and its entry
                    known = {one.identity.pid for one in running.processes.values()}
                    strays = [one for one in find_marked(self.registry.path) if one.pid not in known]
                    stop_all(strays, timeout_s=self.settings.stop_timeout_s)
                self.registry.write(running)
        except LocalRuntimeError:
            self.say("another command is starting processes; it will stop those that are not needed")

    def _stop(self, running: Running, names: Sequence[str] | Mapping[str, object]) -> None:
        stopping = [running.processes.pop(name) for name in list(names)]
        stop_all([one.identity for one in stopping], timeout_s=self.settings.stop_timeout_s)
        self.starter.reap()

    @contextmanager
    def _opened(self, *, timeout_s: float | None = None, quiet: bool = False) -> Generator[Running]:
        with self.registry.locked(
            timeout_s=self.settings.lock_timeout_s if timeout_s is None else timeout_s,
            on_wait=(lambda: None) if quiet else self._say_waiting,
        ):
            running = self.registry.read()
            if running is None:
                running = self._recover()
            running.drop_dead()
            if not running.processes:  # also after the machine was started anew
                running.ports, running.pinned = {}, []
            yield running

    def _say_waiting(self) -> None:
        self.say("waiting for another assistant command that starts or stops processes")

    def _recover(self) -> Running:
        stop_all(find_marked(self.registry.path), timeout_s=self.settings.stop_timeout_s)
        aside = self.registry.set_aside()
        self.say(
            f"{self.registry.path} could not be understood: kept as {aside.name}, and what ran is stopped"
        )
        return Running()


@dataclass(frozen=True, slots=True)
class _Outcome:
    ports: Mapping[str, int]
    blocker: str | None


def _outdated(running: Running, plans: Mapping[str, ProcessPlan]) -> set[str]:
    return {
        name
        for name, one in running.processes.items()
        if name not in plans or not one.ready or one.settings_hash != plans[name].settings_hash()
    }


def _blocker(running: Running, outdated: set[str]) -> Use | None:
    return next((use for use in running.uses if not use.yields and outdated.intersection(use.needs)), None)
