"""One OpenSearch node on this machine: assembled, started, found again and stopped."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from assistant.domain.errors import LocalRuntimeError
from assistant.laptop.layout import HOST
from assistant.laptop.site import refuse_taken
from assistant.process.private_files import FILE_MODE, FOLDER_MODE, make_private_folder, write_private
from assistant.process.settings import inherited_environment
from tools.opensearch.artifacts import Distribution, Say

_PLACES = ("/usr/lib/jvm", "/opt", "/opt/java", "/Library/Java/JavaVirtualMachines")
_UNPRIVILEGED = "nobody"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0
_LOCK_TIMEOUT_S = 780.0
_POLL_S = 0.2
_SAME_START_S = 2.0
"""Start times are wall-clock times: a clock change moves them a little."""
_HEALTH_TIMEOUT_S = 5.0


class RunningNode(BaseModel):
    """Content of ``node.json``, the pid file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started_at: float
    """Seconds since the epoch: a reused pid is another process."""
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def process(self) -> psutil.Process | None:
        """Return the process while it runs; a zombie does not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


@dataclass(frozen=True, slots=True)
class LocalNode:
    """The assembled node. Its data, logs and pid file are under ``state_dir``; one runs at a time."""

    state_dir: Path
    distribution: Distribution
    port: int = 9200
    """0 chooses a free one."""
    heap_mib: int = 768

    def up(self, say: Say) -> str:
        """Start the node unless it runs, and return its URL once it is healthy.

        Raises LocalRuntimeError: no Java, port in use, not healthy within three minutes.
        """
        with self._locked():
            node = self._running()
            address = f"http://{HOST}:{self.port}"
            if node is None and self.port and _is_healthy(address):
                return address  # another one, such as Docker's
            node = node or self._start(say)
            try:
                self._await_health(node)
            except LocalRuntimeError:
                self._end(node)
                raise
            return node.url

    def down(self) -> bool:
        """Stop the node, by force after 30 s; data and logs stay. Return whether one ran."""
        with self._locked():
            node = self._running()
            if node is not None:
                self._end(node)
            return node is not None

    def running(self) -> str | None:
        """Return the URL of the node while its process lives."""
        return node.url if (node := self._running()) else None

    def _running(self) -> RunningNode | None:
        try:
            kept = RunningNode.model_validate_json(self._pid_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return kept if kept.process() is not None else None

    @property
    def _log(self) -> Path:
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
            refuse_taken(self.port, name="OpenSearch node")
        account = Account.for_node()
        place = account.reachable(self.distribution.folder)
        home = Distribution(place, self.distribution.manifest).ensure(say)
        files = account.reachable(self.state_dir / "files")
        port = self.port or free_port()
        _write_files(files, home, port=port)
        account.own(files)
        say(f"starting OpenSearch {self.distribution.manifest.version}")
        environment = {
            "OPENSEARCH_JAVA_HOME": str(java),
            "OPENSEARCH_PATH_CONF": str(files / "config"),
            "OPENSEARCH_JAVA_OPTS": f"-Xms{self.heap_mib}m -Xmx{self.heap_mib}m",
            "OPENSEARCH_TMPDIR": str(files / "scratch"),
        }
        make_private_folder(self._log.parent)
        with self._log.open("ab") as log:
            self._log.chmod(FILE_MODE)
            child = subprocess.Popen(
                (*account.prefix, str(home / "bin" / "opensearch")),
                env=inherited_environment() | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started_at = psutil.Process(child.pid).create_time()
        node = RunningNode(pid=child.pid, started_at=started_at, port=port)
        write_private(self._pid_file, node.model_dump_json().encode())
        return node

    def _end(self, node: RunningNode) -> None:
        if (process := node.process()) is not None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait()
        self._pid_file.unlink(missing_ok=True)

    def _await_health(self, node: RunningNode) -> None:
        """Return once the node is healthy. Raises LocalRuntimeError when it ended or is late."""
        until_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until_s:
            if _is_healthy(node.url):
                return
            if node.process() is None:
                reason = _last_error(self._log)
                raise LocalRuntimeError(f"OpenSearch ended while it started: {reason} (see {self._log}).")
            time.sleep(_POLL_S)
        raise LocalRuntimeError(
            f"OpenSearch was not healthy within {_START_TIMEOUT_S:.0f} s; see {self._log}."
        )


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the node: OpenSearch refuses root. ``user_id`` is None where it is our own."""

    user_id: int | None = None
    group_id: int = -1

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
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return the start of a command that runs as this account. Raises LocalRuntimeError."""
        if self.user_id is None:
            return ()
        tool = shutil.which("setpriv")
        if tool is None:
            raise LocalRuntimeError("OpenSearch does not run as root, and setpriv (util-linux) is missing.")
        return (tool, f"--reuid={self.user_id}", f"--regid={self.group_id}", "--clear-groups")

    def own(self, folder: Path) -> None:
        """Make the account the owner of a folder and all that is in it."""
        if self.user_id is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.user_id, self.group_id, follow_symlinks=False)

    def reachable(self, wanted: Path) -> Path:
        """Return the folder, or where this account cannot enter it, one below the temporary folder.

        The same wanted folder always gets the same one. Raises LocalRuntimeError when another user made it.
        """
        wanted = wanted.resolve()
        existing = [folder for folder in (wanted, *wanted.parents) if folder.exists()]
        if self.user_id is None or all(folder.stat().st_mode & 0o001 for folder in existing):
            return wanted
        mark = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
        place = Path(tempfile.gettempdir()) / f"assistant-opensearch-{mark}"
        place.mkdir(mode=0o755, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid not in (os.geteuid(), self.user_id):
            raise LocalRuntimeError(f"{place} belongs to another user; remove it.")
        return place


def _write_files(folder: Path, home: Path, *, port: int) -> None:
    """Create the node's folders, and write its configuration anew; data stays."""
    config, scratch = folder / "config", folder / "scratch"
    shutil.rmtree(config, ignore_errors=True)
    shutil.copytree(home / "config", config)
    for inner in (scratch, folder / "data", folder / "logs"):
        inner.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        inner.chmod(FOLDER_MODE)  # also one of an older release: it holds text of documents
    settings = {
        "cluster.name": "assistant-local",
        "node.name": "assistant",
        "discovery.type": "single-node",
        "network.host": HOST,
        "http.port": str(port),
        "transport.port": str(free_port()),
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        # a developer's disk is often fuller than the 85 % at which a data node takes no more
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    (config / "opensearch.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = config / "jvm.options"
    kept = [line for line in options.read_text(encoding="utf-8").splitlines() if "logs/" not in line]
    options.write_text("\n".join(kept).replace("=data", f"={scratch}") + "\n", encoding="utf-8")


def free_port() -> int:
    """Return a port that no server listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def _is_healthy(url: str) -> bool:
    health = f"{url}/_cluster/health?wait_for_status=yellow&timeout=1s"
    try:
        return httpx.get(health, timeout=_HEALTH_TIMEOUT_S, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _last_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (errors or lines or ["its log is empty"])[-1][:300]


def find_java(at_least: int) -> Path:
    """Return the home of the first Java that is new enough: JAVA_HOME, then PATH, then the usual places.

    Raises LocalRuntimeError, which lists what was found.
    """
    seen: list[str] = []
    for home in _java_homes():
        release = _java_release(home)
        if release is not None and release >= at_least:
            return home
        seen.append(f"{home} ({'no release file' if release is None else f'Java {release}'})")
    tried = f"found only {', '.join(seen)}" if seen else "found none"
    raise LocalRuntimeError(
        f"OpenSearch needs Java {at_least} or later; {tried}. Install one (Debian: apt-get install "
        f"openjdk-{at_least}-jre-headless, or a Temurin JDK), set JAVA_HOME to it, or run the node by "
        "Docker: docker compose -f containers/opensearch/compose.yaml up --wait."
    )


def _java_homes() -> Iterator[Path]:
    named, java = os.environ.get("JAVA_HOME"), shutil.which("java")
    homes = [Path(named)] if named else []
    homes += [Path(java).resolve().parents[1]] if java else []
    for place in _PLACES:
        homes += sorted(Path(place).glob("*"), reverse=True)
    inner = (one for home in homes for one in (home, home / "Contents" / "Home"))  # the second is macOS's
    return (home for home in inner if (home / "bin" / "java").is_file())


def _java_release(home: Path) -> int | None:
    """Return the major release by the ``release`` file of a Java home; None without one."""
    try:
        text = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None
