"""The files of a node: fetched once from Maven's packages, checked by SHA-256, unpacked once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assistant.domain.errors import LocalRuntimeError

MANIFEST = Path(__file__).with_name("manifest.toml")
_ATTEMPTS = 4
_FETCH_TIMEOUT_S = 540.0
_LOCK_TIMEOUT_S = 600.0
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:get"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file, by its Maven coordinates."""

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
        """Return its path below a repository's address."""
        return f"{self.group.replace('.', '/')}/{self.name}/{self.version}/{self.file_name}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The version of OpenSearch, the oldest Java release that runs it, and its files."""

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
    """The unpacked node under ``folder``, and the files that it was made from."""

    folder: Path
    manifest: Manifest = field(default_factory=Manifest.read)

    @property
    def home(self) -> Path:
        """The node's folder: its name has the version and a digest of the pins, so other pins are another."""
        pins = "\n".join(artifact.sha256 for artifact in self.manifest.artifacts)
        return self.folder / f"node-{self.manifest.version}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"

    def ensure(self, say: Say) -> Path:
        """Fetch and unpack the files unless they are there, and return the node's folder.

        A second process waits for the first. Raises LocalRuntimeError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "assembly.lock", timeout=_LOCK_TIMEOUT_S):
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
        kept = self.folder / "files" / artifact.file_name
        if kept.is_file() and _sha256_of(kept) == artifact.sha256:
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        say(f"fetching {artifact.file_name}")
        failed: str | None = None
        for _ in range(_ATTEMPTS):
            failed = _fetch_by_maven(artifact, kept, local_repository=self.folder / "maven")
            if failed is None:
                break
        else:
            kept.unlink(missing_ok=True)
            raise LocalRuntimeError(f"{kept.name} could not be fetched from the Maven repository: {failed}.")
        digest = _sha256_of(kept)
        if digest != artifact.sha256:
            kept.unlink()
            raise LocalRuntimeError(
                f"{artifact.file_name} has the SHA-256 {digest}, not {artifact.sha256} as pinned in "
                f"{MANIFEST.name}: it was deleted. Ask whoever runs the Maven repository."
            )
        return kept


def _fetch_by_maven(artifact: Artifact, target: Path, *, local_repository: Path) -> str | None:
    """Let the machine's ``mvn`` fetch a file, by its own settings; return what failed. Maven resumes a
    partial download itself. Raises LocalRuntimeError where it is not installed."""
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
    """Unpack a zip without its single outer folder; executable files stay executable."""
    with zipfile.ZipFile(archive) as zipped:
        outer = {name.split("/", 1)[0] for name in zipped.namelist()}
        inner_only = len(outer) == 1 and any("/" in name for name in zipped.namelist())
        for entry in zipped.infolist():
            entry.filename = entry.filename.split("/", 1)[1] if inner_only else entry.filename
            if entry.filename:
                target = Path(zipped.extract(entry, folder))  # it takes ".." out of names
                if not entry.is_dir():
                    target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
    for inner in (folder, *folder.rglob("*")):
        if inner.is_dir():
            inner.chmod(0o755)  # whatever the umask: the node may run as another account


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
