"""One OpenSearch node on this machine: assembled, or by Docker Compose; started, found again and stopped."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.domain.errors import LocalRuntimeError
from assistant.local.processes import (
    HOST,
    ProcessIdentity,
    ProcessPlan,
    choose_free,
    reap,
    refuse_taken,
    spawn,
    stop_all,
)
from assistant.private_files import FOLDER_MODE, write_private
from assistant.settings.process import inherited_environment
from tools.opensearch.artifacts import Distribution, Say

_PLACES = ("/usr/lib/jvm", "/opt", "/opt/java", "/Library/Java/JavaVirtualMachines")
_ASK_TIMEOUT_S = 20.0


def find_java(at_least: int) -> Path:
    """Return the home of the first Java that is new enough: JAVA_HOME's, the path's, the usual places'.

    Raises LocalRuntimeError saying what was looked for and how to get it.
    """
    seen: list[str] = []
    for home in _candidates():
        release = _release(home)
        if release is not None and release >= at_least:
            return home
        seen.append(f"{home} ({'no Java' if release is None else f'Java {release}'})")
    found = f"found only {', '.join(seen)}" if seen else "found none"
    raise LocalRuntimeError(
        f"OpenSearch needs Java {at_least} or later; {found}. Install one (Debian: apt-get install "
        f"openjdk-{at_least}-jre-headless, or a Temurin JDK) or set JAVA_HOME to it."
    )


def _candidates() -> Iterator[Path]:
    homes: list[Path] = []
    if named := os.environ.get("JAVA_HOME"):
        homes.append(Path(named))
    if found := shutil.which("java"):
        homes.append(Path(found).resolve().parents[1])
    for place in map(Path, _PLACES):
        if place.is_dir():
            homes += [entry.resolve() for entry in sorted(place.iterdir(), reverse=True)]
    for home in dict.fromkeys(homes):
        for inner in (home, home / "Contents" / "Home"):  # the second as macOS has it
            if (inner / "bin" / "java").is_file():
                yield inner
                break


def _release(home: Path) -> int | None:
    """Return the major release, from the file that every JDK has, or else from Java itself."""
    try:
        said = (home / "release").read_text(encoding="utf-8")
    except OSError:
        try:
            ran = subprocess.run(
                [home / "bin" / "java", "-version"],
                capture_output=True,
                text=True,
                timeout=_ASK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        said = ran.stderr
    match = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', said)
    return int(match.group(1)) if match else None


# Who runs the node: OpenSearch refuses root, so root starts it as an account without rights.


_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the node; ``user_id`` is absent where it is our own."""

    user_id: int | None = None
    group_id: int | None = None

    @classmethod
    def for_node(cls) -> Account:
        """Return our own account, or for root the machine's unprivileged one. Raises LocalRuntimeError."""
        if os.geteuid() != 0:
            return cls()
        try:
            entry = pwd.getpwnam(_UNPRIVILEGED)
        except KeyError:
            raise LocalRuntimeError(
                f"OpenSearch does not run as root, and there is no user {_UNPRIVILEGED} to run it as: "
                "start it as another user."
            ) from None
        return cls(user_id=entry.pw_uid, group_id=entry.pw_gid)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return the command in front of what is to run as this account. Raises LocalRuntimeError."""
        if self.user_id is None:
            return ()
        tool = shutil.which("setpriv")
        if tool is None:
            raise LocalRuntimeError("OpenSearch does not run as root, and setpriv (util-linux) is missing.")
        return (tool, f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups")

    def give(self, folder: Path) -> None:
        """Make the account the owner of a folder and all that is in it."""
        if self.user_id is None or self.group_id is None:
            return
        for path in (folder, *folder.rglob("*")):
            os.chown(path, self.user_id, self.group_id, follow_symlinks=False)


def reachable_place(wanted: Path, account: Account) -> Path:
    """Return the wanted folder, or where another account cannot enter it, one of the same name for good
    below the folder for temporary files.

    Raises LocalRuntimeError when somebody else made that folder.
    """
    wanted = wanted.resolve()
    if account.user_id is None or _others_may_enter(wanted):
        return wanted
    mark = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"assistant-opensearch-{mark}"
    place.mkdir(mode=0o755, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid not in (os.geteuid(), account.user_id):
        raise LocalRuntimeError(f"{place} belongs to somebody else; remove it.")
    return place


def _others_may_enter(folder: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents) if parent.exists())


# The node by Docker Compose, where Docker works.


COMPOSE_FILE = Path(__file__).parents[2] / "containers" / "opensearch" / "compose.yaml"
_DOCKER_ASK_TIMEOUT_S = 10.0
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
        return all(
            self._run(("docker", *words), timeout_s=_DOCKER_ASK_TIMEOUT_S) is not None for words in asked
        )

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


# One assembled node: started, waited for, found again, and ended.


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
