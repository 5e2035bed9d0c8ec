"""One assembled node: started, waited for, found again, and ended."""

from __future__ import annotations

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.cli.opensearch.account import Account, reachable_place
from assistant.cli.opensearch.artifacts import Distribution, Say
from assistant.cli.opensearch.java import find_java
from assistant.cli.ports import HOST, choose_free, refuse_taken
from assistant.cli.processes import ProcessIdentity, ProcessPlan, reap, spawn, stop_all
from assistant.domain.errors import LocalRuntimeError
from assistant.private_files import FOLDER_MODE, write_private

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 30.0
_LOCK_TIMEOUT_S = 780.0
_POLL_S = 0.2
_ANSWER_TIMEOUT_S = 5.0


class RunningNode(BaseModel):
    """Content of ``node.json``, the pid file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: ProcessIdentity
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True, slots=True)
class LocalNode:
    """The node whose data, logs and pid file stand under ``state_dir``; one at a time."""

    state_dir: Path
    distribution: Distribution
    port: int = 9200
    """0 chooses a free one."""
    heap_mib: int = 768

    def up(self, say: Say) -> RunningNode:
        """Start the node unless it runs, and return once it is healthy.

        Raises LocalRuntimeError: no Java, port in use, not healthy within START_TIMEOUT_S.
        """
        with self._locked():
            running = self.running()
            if running is None:
                running = self._start(say)
            try:
                await_health(running, log=self.log)
            except LocalRuntimeError:
                self._end(running)
                raise
            return running

    def down(self) -> bool:
        """End the node, by force when it does not go; data and logs stay. Return whether one ran."""
        with self._locked():
            running = self.running()
            if running is not None:
                self._end(running)
            return running is not None

    def running(self) -> RunningNode | None:
        """Return the node of this folder while its process lives."""
        try:
            kept = RunningNode.model_validate_json(self._pid_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return kept if kept.identity.is_alive() else None

    @property
    def log(self) -> Path:
        return self.state_dir / "opensearch.log"

    @property
    def _pid_file(self) -> Path:
        return self.state_dir / "node.json"

    @contextmanager
    def _locked(self) -> Generator[None]:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.state_dir / "node.lock", timeout=_LOCK_TIMEOUT_S):
                yield
        except Timeout:
            raise LocalRuntimeError("Another command has been starting OpenSearch for minutes.") from None

    def _start(self, say: Say) -> RunningNode:
        java = find_java(self.distribution.manifest.java)
        if self.port:
            refuse_taken(self.port, name="OpenSearch node", chosen=False)
        account = Account.for_node()
        place = reachable_place(self.distribution.folder, account)
        home = Distribution(place, self.distribution.repository, self.distribution.manifest).ensure(say)
        files = _NodeFiles(reachable_place(self.state_dir / "files", account))
        port = self.port or choose_free()
        files.write(home, port=port, account=account)
        say(f"starting OpenSearch {self.distribution.manifest.version}")
        plan = ProcessPlan(
            name="opensearch",
            arguments=(*account.prefix, str(home / "bin" / "opensearch")),
            environment={
                "OPENSEARCH_JAVA_HOME": str(java),
                "OPENSEARCH_PATH_CONF": str(files.config),
                "OPENSEARCH_JAVA_OPTS": f"-Xms{self.heap_mib}m -Xmx{self.heap_mib}m",
                "OPENSEARCH_TMPDIR": str(files.scratch),
            },
            port=port,
        )
        pid = spawn(plan, log_path=self.log, registry_path=self._pid_file)
        running = RunningNode(identity=ProcessIdentity.of(pid), port=port)
        write_private(self._pid_file, running.model_dump_json().encode())
        return running

    def _end(self, running: RunningNode) -> None:
        stop_all([running.identity], timeout_s=STOP_TIMEOUT_S)
        reap(running.identity.pid)
        self._pid_file.unlink(missing_ok=True)


class _NodeFiles:
    """Configuration, data, logs and scratch files of the node, owned by the account that runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        self.scratch = folder / "scratch"

    def write(self, home: Path, *, port: int, account: Account) -> None:
        """Make the folders and the configuration anew; data stays."""
        shutil.rmtree(self.config, ignore_errors=True)
        shutil.copytree(home / "config", self.config)
        for folder in (self.scratch, self.folder / "data", self.folder / "logs"):
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)  # also one of an older release: text of documents stands in it
        settings = {
            "cluster.name": "assistant-local",
            "node.name": "assistant",
            "discovery.type": "single-node",
            "network.host": HOST,
            "http.port": str(port),
            "transport.port": str(choose_free()),
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            # a developer's disk is often fuller than the 85 % at which a data node takes no more
            "cluster.routing.allocation.disk.threshold_enabled": "false",
        }
        lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
        (self.config / "opensearch.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = self.config / "jvm.options"
        kept = [line for line in options.read_text(encoding="utf-8").splitlines() if "logs/" not in line]
        options.write_text("\n".join(kept).replace("=data", f"={self.scratch}") + "\n", encoding="utf-8")
        account.give(self.folder)


def await_health(running: RunningNode, *, log: Path, timeout_s: float = START_TIMEOUT_S) -> None:
    """Return once the node answers that it is healthy. Raises LocalRuntimeError when it ends or is late."""
    until_s = time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        if _is_healthy(running.url):
            return
        if not running.identity.is_alive():
            raise LocalRuntimeError(f"OpenSearch ended while it started: {_last_error(log)} (see {log}).")
        time.sleep(_POLL_S)
    raise LocalRuntimeError(f"OpenSearch was not healthy within {timeout_s:.0f} s; see {log}.")


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(  # noqa: S310 : our own address
            f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s", timeout=_ANSWER_TIMEOUT_S
        ) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return False


def _last_error(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return "it wrote no log"
    errors = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (errors or lines or ["its log is empty"])[-1][:300]
