"""A supervisor over stand-in processes, as each test and each process of a test builds it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from assistant.local.processes import PortWishes, ProcessPlan, Registry, Running, Supervisor
from assistant.settings.process import LocalSettings

STAND_IN = Path(__file__).with_name("stand_in.py")
HOLD = Path(__file__).with_name("hold.py")


@dataclass
class Local:
    """What a test chooses about the local processes ``a`` and ``b`` (``b`` starts after ``a``)."""

    state_dir: Path
    modes: dict[str, str] = field(default_factory=dict[str, str])
    version: str = "1"
    wishes: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})
    asked_for: bool = False
    settings: LocalSettings = field(
        default_factory=lambda: LocalSettings(min_free_mib=0, start_timeout_s=60, stop_timeout_s=2)
    )
    said: list[str] = field(default_factory=list[str])
    started: list[str] = field(default_factory=list[str])

    @property
    def go(self) -> Path:
        """The file for which processes in mode ``slow`` wait."""
        return self.state_dir / "go"

    @property
    def registry(self) -> Registry:
        return Registry.under(self.state_dir)

    def supervisor(self, *, say: Callable[[str], None] | None = None) -> Supervisor:
        return Supervisor(
            registry=self.registry,
            settings=self.settings,
            wishes=PortWishes(self.wishes, asked_for=self.asked_for),
            plans=self.plans,
            say=say or self.said.append,
            on_ready=lambda name, _seconds: self.started.append(name),
        )

    def plans(self, ports: Mapping[str, int]) -> dict[str, ProcessPlan]:
        return {
            name: ProcessPlan(
                name=name,
                arguments=(sys.executable, str(STAND_IN), str(ports[name]), self.modes.get(name, "ready")),
                environment={"VERSION": self.version, "STAND_IN_GO": str(self.go)},
                port=ports[name],
                fixed_port=True,
                after=("a",) if name == "b" else (),
            )
            for name in self.wishes
        }


def eventually(condition: Callable[[], bool], *, within_s: float = 60.0) -> None:
    """Poll until the condition holds; fail after the bound."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "the condition did not come true in time"
        time.sleep(0.02)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Command:
    """A ``hold.py`` that runs in its own process."""

    def __init__(self, local: Local, *names: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                str(HOLD),
                str(local.state_dir),
                local.version,
                local.modes.get("a", "ready"),
                *names,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_line(self, text: str) -> str:
        """Return the first line that holds ``text``; the test's own time-out is the bound."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        raise AssertionError(f"the command ended without saying {text!r}")

    def end(self) -> int:
        """Let the command go on to its end and return its status."""
        self.process.communicate("\n", timeout=60)
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)


def running(registry: Registry) -> Running:
    found = registry.read()
    assert found is not None
    return found
