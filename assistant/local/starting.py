"""Starts processes, several at once, and reads their logs for the ready line or the reason of a failure."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson

from assistant.domain.errors import LocalRuntimeError
from assistant.local import processes
from assistant.local.processes import ProcessIdentity, ProcessPlan, reap, spawn
from assistant.local.registry import Registry, Running, RunningProcess
from assistant.private_files import make_private_folder
from assistant.settings.process import LocalSettings

_TAIL_BYTES = 16_384
_REASON_FIELDS = ("detail", "error", "event", "msg", "message")
"""Where our JSON log lines say what happened, most telling first."""
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """Standard output and error of one process, appended over its restarts."""

    path: Path

    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def trim(self, *, limit_bytes: int) -> None:
        """Drop the older half of a log over the limit. The writer appends, so it goes on at the end."""
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
        for line in self._lines(since_bytes):
            found = _parse(line)
            if found is not None and found.get("ready") is True:
                return found
        return None

    def last_reason(self, *, since_bytes: int = 0) -> str:
        """Return the last line written after ``since_bytes`` in words, or "no output"."""
        start = max(since_bytes, self.size_bytes() - _TAIL_BYTES)
        for line in reversed(self._lines(start)):
            if line.strip():
                return _in_words(line)[:_LONGEST_REASON]
        return "no output"

    def _lines(self, since_bytes: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since_bytes)
            return file.read().decode("utf-8", errors="replace").splitlines()


def _parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _in_words(line: str) -> str:
    found = _parse(line)
    if found is None:
        return line.strip()
    return str(next((found[field] for field in _REASON_FIELDS if found.get(field)), line)).strip()


# From a plan to a process that says it is ready, several at once.


_POLL_S = 0.02
_MIB = 1024 * 1024


@dataclass(slots=True)
class _Starting:
    plan: ProcessPlan
    pid: int
    log: ProcessLog
    log_start_bytes: int
    began_s: float


@dataclass(slots=True)
class Starter:
    """Starts what is missing and writes each process into the registry the moment it exists."""

    registry: Registry
    settings: LocalSettings
    logs_dir: Path
    on_ready: Callable[[str, float], None]
    """Called with a process's name and the seconds it took."""
    _children: list[int] = field(default_factory=list[int])
    """Pids that this command started and that have not ended."""

    def log_of(self, name: str) -> ProcessLog:
        return ProcessLog(self.logs_dir / f"{name}.log")

    def start(self, plans: Mapping[str, ProcessPlan], *, running: Running) -> None:
        """Start the plans, each after those of them it names, and return when all are ready.

        Call it with the registry's lock held. Raises LocalRuntimeError with the reason in one sentence;
        what was started until then stays in ``running`` for the caller to stop.
        """
        self._check_before(plans)
        self.trim_logs()
        waiting = dict(plans)
        starting: dict[str, _Starting] = {}
        while waiting or starting:
            not_ready = waiting.keys() | starting.keys()
            for name in [name for name, plan in waiting.items() if not_ready.isdisjoint(plan.after)]:
                starting[name] = self._spawn(waiting.pop(name), running=running)
            for name in [name for name, one in starting.items() if self._is_ready(one)]:
                self._note_ready(starting.pop(name), running=running)
            time.sleep(_POLL_S)

    def reap(self) -> None:
        """Let ended children of this command go, so that none stays as a zombie while it serves."""
        self._children = [child for child in self._children if reap(child) is None]

    def trim_logs(self) -> None:
        """Drop the older half of every log that is over its limit."""
        for path in self.logs_dir.glob("*.log"):
            ProcessLog(path).trim(limit_bytes=self.settings.log_limit_mib * _MIB)

    def _check_before(self, plans: Mapping[str, ProcessPlan]) -> None:
        if not plans:
            return
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
        log = self.log_of(plan.name)
        start = log.size_bytes()
        pid = spawn(plan, log_path=log.path, registry_path=self.registry.path)
        self._children.append(pid)
        running.processes[plan.name] = RunningProcess(
            identity=ProcessIdentity.of(pid), port=plan.port, settings_hash=plan.settings_hash()
        )
        self.registry.write(running)
        return _Starting(plan, pid, log, start, time.monotonic())

    def _is_ready(self, one: _Starting) -> bool:
        line = one.log.ready_line(since_bytes=one.log_start_bytes)
        if line is not None:
            return True
        status = reap(one.pid)
        if status is not None:
            raise self._failure(one, status=status)
        if time.monotonic() - one.began_s > self.settings.start_timeout_s:
            raise LocalRuntimeError(
                f"The {one.plan.name} process was not ready after {self.settings.start_timeout_s:.0f} s "
                f"(last line of its log: {self._reason(one)}); see {one.log.path}."
            )
        return False

    def _note_ready(self, one: _Starting, *, running: Running) -> None:
        name = one.plan.name
        running.processes[name] = running.processes[name].model_copy(update={"ready": True})
        self.registry.write(running)
        self.on_ready(name, time.monotonic() - one.began_s)

    def _failure(self, one: _Starting, *, status: int) -> LocalRuntimeError:
        reason = self._reason(one)
        missing = re.search(r"No module named '([\w.]+)'", reason)
        if missing:
            return LocalRuntimeError(
                f"The {one.plan.name} process cannot start: the Python package {missing[1]} is missing; "
                "install what requirements/local.txt and requirements/models.txt lock (make setup)."
            )
        return LocalRuntimeError(
            f"The {one.plan.name} process did not start (status {status}): "
            f"{reason.rstrip('.')}. See {one.log.path}."
        )

    def _reason(self, one: _Starting) -> str:
        return one.log.last_reason(since_bytes=one.log_start_bytes)
