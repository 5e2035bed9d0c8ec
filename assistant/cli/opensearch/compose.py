"""The node by Docker Compose, where Docker works."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant.cli.opensearch.artifacts import Say
from assistant.cli.ports import HOST
from assistant.domain.errors import LocalRuntimeError
from assistant.settings.process import inherited_environment

COMPOSE_FILE = Path(__file__).parents[3] / "containers" / "opensearch" / "compose.yaml"
_ASK_TIMEOUT_S = 10.0
_START_TIMEOUT_S = 600.0
_HEALTHY_WITHIN_S = 180


@dataclass(frozen=True, slots=True)
class ComposedRunning:
    url: str


@dataclass(frozen=True, slots=True)
class ComposedNode:
    """The service of ``containers/opensearch/compose.yaml``."""

    port: int
    heap_mib: int
    version: str

    def works(self) -> bool:
        """Return whether there is a Docker engine with Compose that answers."""
        if shutil.which("docker") is None or not COMPOSE_FILE.is_file():
            return False
        asked = (("info",), ("compose", "version"))
        return all(self._run(("docker", *words), timeout_s=_ASK_TIMEOUT_S) is not None for words in asked)

    def up(self, say: Say) -> ComposedRunning:
        """Start the container unless it runs, and return once it is healthy. Raises LocalRuntimeError."""
        say(f"starting OpenSearch {self.version} by Docker Compose")
        words = ("up", "--detach", "--wait", "--wait-timeout", str(_HEALTHY_WITHIN_S))
        if self._compose(*words) is None:
            raise LocalRuntimeError(
                f"Docker Compose did not bring OpenSearch up; docker compose -f {COMPOSE_FILE} logs says why."
            )
        return ComposedRunning(f"http://{HOST}:{self.port}")

    def down(self) -> bool:
        """End the container and keep its data. Return whether one ran. Raises LocalRuntimeError."""
        ran = self.running() is not None
        if self._compose("down", "--timeout", "30") is None:
            raise LocalRuntimeError("Docker Compose could not end OpenSearch.")
        return ran

    def running(self) -> ComposedRunning | None:
        listed = self._compose("ps", "--status", "running", "--quiet")
        return ComposedRunning(f"http://{HOST}:{self.port}") if listed else None

    def _compose(self, *words: str) -> str | None:
        command = ("docker", "compose", "--file", str(COMPOSE_FILE), *words)
        return self._run(command, timeout_s=_START_TIMEOUT_S)

    def _run(self, command: Sequence[str], *, timeout_s: float) -> str | None:
        """Return what the command printed, or None when it failed."""
        environment = inherited_environment() | {
            "OPENSEARCH_VERSION": self.version,
            "OPENSEARCH_PORT": str(self.port),
            "OPENSEARCH_HEAP_MIB": str(self.heap_mib),
        }
        try:
            ran = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return ran.stdout if ran.returncode == 0 else None
