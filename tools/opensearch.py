"""``python -m tools.opensearch up|down|fetch``: one OpenSearch node on this machine, of Maven's
packages.

``fetch`` only gets the files: those of ``opensearch.toml`` are fetched once from a Maven repository, checked
by SHA-256 and unpacked once. By Docker instead: ``docker compose -f containers/opensearch/compose.yaml up
--wait``.

Below ``build/opensearch``: ``files`` (as fetched), ``maven`` (its local repository),
``node-<version>-<digest>`` (unpacked). Below ``.state/opensearch``: ``node.json`` (the running process),
``opensearch.log``, and ``files`` with configuration and data. ``ASSISTANT_OPENSEARCH_PORT`` and other
variables are fields of ``OpenSearchNodeSettings``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import SettingsConfigDict

from assistant.domain.errors import AssistantError, LocalRuntimeError
from assistant.laptop.layout import HOST
from assistant.laptop.site import refuse_taken
from assistant.process.private_files import FILE_MODE, FOLDER_MODE, make_private_folder, write_private
from assistant.process.settings import ProcessSettings, inherited_environment

MANIFEST = Path(__file__).with_name("opensearch.toml")
_ATTEMPTS = 4
"""Attempts to fetch one file; Maven resumes a partial download."""
_FETCH_TIMEOUT_S = 540.0
_UNPACKING_TIMEOUT_S = 600.0
"""How long a second process waits for one that fetches and unpacks."""
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
Say = Callable[[str], None]
"""Shows a line of progress."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file by its Maven coordinates: ``org.opensearch.plugin:opensearch-knn:3.3.0.0:zip``."""

    group: str
    name: str
    version: str
    packaging: str
    sha256: str
    folder: str
    """Where it is unpacked, below the node's own folder."""

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.{self.packaging}"

    @property
    def path(self) -> str:
        """Its path below a repository's address: ``org/opensearch/plugin/opensearch-knn/3.3.0.0/….zip``."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.file_name}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """``opensearch.toml``: the version of OpenSearch, the oldest Java release that runs it, and its files."""

    version: str
    java: int
    artifacts: tuple[Artifact, ...]

    @classmethod
    def read(cls) -> Manifest:
        data: dict[str, Any] = tomllib.loads(MANIFEST.read_text(encoding="utf-8"))
        artifacts = tuple(
            Artifact(*entry["coordinates"].split(":"), sha256=entry["sha256"], folder=entry["folder"])
            for entry in data["artifact"]
        )
        return cls(version=data["version"], java=data["java"], artifacts=artifacts)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The unpacked node below ``folder``, and the files that it is made of."""

    folder: Path
    manifest: Manifest = field(default_factory=Manifest.read)

    @property
    def home(self) -> Path:
        """The node's folder. Its name has the version and a digest of the pinned hashes, so that a changed
        pin gives another folder."""
        pins = "\n".join(artifact.sha256 for artifact in self.manifest.artifacts)
        return self.folder / f"node-{self.manifest.version}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"

    def ensure(self, say: Say) -> Path:
        """Fetch and unpack the files unless they are there, and return the node's folder.

        A second process waits for the first. Raises LocalRuntimeError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "assembly.lock", timeout=_UNPACKING_TIMEOUT_S):
                if not self.home.is_dir():
                    unpacking = self.folder / "unpacking"
                    shutil.rmtree(unpacking, ignore_errors=True)
                    for artifact in self.manifest.artifacts:
                        unpack(self._fetch(artifact, say), unpacking / artifact.folder)
                    unpacking.rename(self.home)
        except Timeout:
            reason = "Another process has been assembling OpenSearch for 10 minutes."
            raise LocalRuntimeError(reason) from None
        return self.home

    def _fetch(self, artifact: Artifact, say: Say) -> Path:
        """Return a file, fetched unless it is there with the pinned hash. Raises LocalRuntimeError."""
        file = self.folder / "files" / artifact.file_name
        if file.is_file() and _sha256_of(file) == artifact.sha256:
            return file
        file.parent.mkdir(parents=True, exist_ok=True)
        say(f"fetching {artifact.file_name}")
        failed: str | None = None
        for _ in range(_ATTEMPTS):
            failed = _fetch_by_maven(artifact, file, local_repository=self.folder / "maven")
            if failed is None:
                break
        else:
            file.unlink(missing_ok=True)
            raise LocalRuntimeError(f"{file.name} could not be fetched from the Maven repository: {failed}.")
        digest = _sha256_of(file)
        if digest != artifact.sha256:
            file.unlink()
            raise LocalRuntimeError(
                f"{artifact.file_name} has the SHA-256 {digest}, not {artifact.sha256} as pinned in "
                f"{MANIFEST.name}: it was deleted. Ask whoever runs the Maven repository."
            )
        return file


def _fetch_by_maven(artifact: Artifact, target: Path, *, local_repository: Path) -> str | None:
    """Let the machine's ``mvn`` fetch a file with its own settings (mirrors, proxies), and move it to
    ``target``.

    Return what failed; None if nothing did. Raises LocalRuntimeError where Maven is not installed.
    """
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalRuntimeError(
            "OpenSearch is assembled from packages that Maven keeps: install Maven (Debian: apt-get install "
            "maven). A mirror is named in its settings.xml."
        )
    coordinates = f"{artifact.group}:{artifact.name}:{artifact.version}:{artifact.packaging}"
    command = [maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={local_repository}", _GOAL]
    command += [f"-Dartifact={coordinates}", "-Dtransitive=false"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{coordinates}: mvn did not end within {_FETCH_TIMEOUT_S:.0f} s"
    if ran.returncode:
        errors = [line for line in (ran.stdout + ran.stderr).splitlines() if "[ERROR]" in line]
        return f"{coordinates}: {(errors or ['mvn printed no error'])[0]}"
    (local_repository / artifact.path).replace(target)
    return None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder, without the one outer folder that some have; executable files stay
    executable."""
    with zipfile.ZipFile(archive) as zipped:
        outer = {name.split("/", 1)[0] for name in zipped.namelist()}
        inner_only = len(outer) == 1 and any("/" in name for name in zipped.namelist())
        for entry in zipped.infolist():
            entry.filename = entry.filename.split("/", 1)[1] if inner_only else entry.filename
            if entry.filename:
                target = Path(zipped.extract(entry, folder))  # `extract` removes ".." from names
                if not entry.is_dir():
                    target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
    for inner in (folder, *folder.rglob("*")):
        if inner.is_dir():
            inner.chmod(0o755)  # whatever the umask: the node may run as another account


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_PLACES = ("/usr/lib/jvm", "/opt", "/opt/java", "/Library/Java/JavaVirtualMachines")
"""Folders in which Java homes are."""
_UNPRIVILEGED = "nobody"
"""Account that runs the node when root starts it."""
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0
_POLL_S = 0.2
_SAME_START_S = 2.0
"""Start times of one process may differ so much: they are wall-clock times, which a clock change moves."""
_HEALTH_TIMEOUT_S = 5.0


class RunningNode(BaseModel):
    """Content of ``node.json``, which names the process: ``{"pid": 4711, "started_at": 1764331200.5, "port":
    9200}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started_at: float
    """Seconds since the epoch. A process with this pid but another start is another process."""
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def process(self) -> psutil.Process | None:
        """Return the process while it runs (a zombie does not); else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


@dataclass(frozen=True, slots=True)
class LocalNode:
    """The node with its data, logs and pid file below ``state_dir``; one runs at a time.

    The node goes on after the command that starts it: a later ``down`` finds it by ``node.json``.
    """

    state_dir: Path
    distribution: Distribution
    port: int = 9200
    """0 chooses a free one."""
    heap_mib: int = 768

    def up(self, say: Say) -> str:
        """Start the node unless it runs, and return its URL once it is healthy.

        Raises LocalRuntimeError: no Java, port in use, not healthy within three minutes.
        """
        node = self._running()
        address = f"http://{HOST}:{self.port}"
        if node is None and self.port and _is_healthy(address):
            return address  # another node on the port, such as Docker's: it is used, and never stopped
        node = node or self._start(say)
        try:
            self._await_health(node)
        except LocalRuntimeError:
            self._end(node)
            raise
        return node.url

    def down(self) -> bool:
        """Stop the node, by force after 30 s; data and logs stay. Return whether one ran."""
        node = self._running()
        if node is not None:
            self._end(node)
        return node is not None

    def _running(self) -> RunningNode | None:
        """Return the node of the pid file while its process lives."""
        try:
            node = RunningNode.model_validate_json(self._pid_file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return node if node.process() is not None else None

    @property
    def _log(self) -> Path:
        return self.state_dir / "opensearch.log"

    @property
    def _pid_file(self) -> Path:
        return self.state_dir / "node.json"

    def _start(self, say: Say) -> RunningNode:
        """Start the process in a session of its own, and write the pid file. Raises LocalRuntimeError."""
        java = find_java(self.distribution.manifest.java)
        if self.port:
            refuse_taken(self.port, name="OpenSearch node")
        account = Account.for_node()
        folder = account.reachable(self.distribution.folder)
        home = Distribution(folder, self.distribution.manifest).ensure(say)
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
        """Stop the process, by force after 30 s, and remove the pid file."""
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
    """The account that runs the node, because OpenSearch refuses root. ``user_id`` is None for our own
    account."""

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
        """Make the account the owner of a folder and everything in it; our own account changes nothing."""
        if self.user_id is not None:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self.user_id, self.group_id, follow_symlinks=False)

    def reachable(self, wanted: Path) -> Path:
        """Return the folder ``wanted``, or one below the temporary folder where this account cannot enter it.

        Root's home, for example, is closed to ``nobody``. The same wanted folder always gets the same other
        one. Raises LocalRuntimeError when another user made it.
        """
        wanted = wanted.resolve()
        existing = [folder for folder in (wanted, *wanted.parents) if folder.exists()]
        if self.user_id is None or all(folder.stat().st_mode & 0o001 for folder in existing):
            return wanted
        digest = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
        other = Path(tempfile.gettempdir()) / f"assistant-opensearch-{digest}"
        other.mkdir(mode=0o755, exist_ok=True)
        if other.is_symlink() or other.stat().st_uid not in (os.geteuid(), self.user_id):
            raise LocalRuntimeError(f"{other} belongs to another user; remove it.")
        return other


def _write_files(folder: Path, home: Path, *, port: int) -> None:
    """Create the node's folders, and write its configuration anew; data stays."""
    config, scratch = folder / "config", folder / "scratch"
    shutil.rmtree(config, ignore_errors=True)
    shutil.copytree(home / "config", config)
    for subfolder in (scratch, folder / "data", folder / "logs"):
        subfolder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        subfolder.chmod(FOLDER_MODE)  # also of a folder that exists: it holds text of documents
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
    # The JVM writes no logs (options with logs/), and heap dumps (=data) into the scratch folder.
    options = config / "jvm.options"
    lines_kept = [line for line in options.read_text(encoding="utf-8").splitlines() if "logs/" not in line]
    options.write_text("\n".join(lines_kept).replace("=data", f"={scratch}") + "\n", encoding="utf-8")


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
    """Return the last line of a log that looks like an error, else its last line; at most 300 characters."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "ERROR" in line or "Exception" in line]
    return (errors or lines or ["its log is empty"])[-1][:300]


def find_java(at_least: int) -> Path:
    """Return the home of the first Java of release ``at_least`` or later: JAVA_HOME, then PATH, then usual
    folders.

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
    """Yield folders with a ``bin/java``, in the order in which they are tried."""
    from_variable, java = os.environ.get("JAVA_HOME"), shutil.which("java")
    homes = [Path(from_variable)] if from_variable else []
    homes += [Path(java).resolve().parents[1]] if java else []
    for place in _PLACES:
        homes += sorted(Path(place).glob("*"), reverse=True)
    # The second is where macOS keeps it.
    inner = (path for home in homes for path in (home, home / "Contents" / "Home"))
    return (home for home in inner if (home / "bin" / "java").is_file())


def _java_release(home: Path) -> int | None:
    """Return the major release by the ``release`` file of a Java home, which has ``JAVA_VERSION="21.0.4"``
    (or ``"1.8.0_412"``, release 8); None without one."""
    try:
        text = (home / "release").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r'JAVA_VERSION="(?:1\.)?(\d+)', text)
    return int(match.group(1)) if match else None


class OpenSearchNodeSettings(ProcessSettings):
    """The local OpenSearch node."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_OPENSEARCH_")

    port: int = Field(default=9200, ge=0, le=65535)
    """0 chooses a free one."""
    heap_mib: int = Field(default=768, ge=256)
    state_dir: Path = Path(".state/opensearch")
    """Data, log and pid file."""
    build_dir: Path = Path("build/opensearch")
    """What was fetched and unpacked; it may be kept between checkouts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("up", "down", "fetch"))
    action = parser.parse_args().action
    try:
        settings = OpenSearchNodeSettings.read()
        distribution = Distribution(settings.build_dir)
        if action == "fetch":
            distribution.ensure(_say)
            return
        node = LocalNode(settings.state_dir, distribution, port=settings.port, heap_mib=settings.heap_mib)
        if action == "up":
            print(f"OpenSearch answers at {node.up(_say)}")
        else:
            print("stopped" if node.down() else "nothing ran")
    except AssistantError as error:
        sys.exit(error.message)


def _say(text: str) -> None:
    print(f"· {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
