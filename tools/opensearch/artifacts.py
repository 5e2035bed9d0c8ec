"""The files of a node: fetched once, checked by SHA-256, unpacked once."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from assistant.domain.errors import LocalRuntimeError

MANIFEST = Path(__file__).with_name("manifest.toml")
_ATTEMPTS = 4
_READ_TIMEOUT_S = 30.0
_FETCH_TIMEOUT_S = 540.0
_LOCK_TIMEOUT_S = 600.0
_CHUNK_BYTES = 1 << 20
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

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.name}:{self.version}:{self.packaging}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a node is made of."""

    version: str
    java: int
    artifacts: tuple[Artifact, ...]

    @classmethod
    def read(cls, path: Path = MANIFEST) -> Manifest:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        artifacts = tuple(
            Artifact(*entry["coordinates"].split(":"), sha256=entry["sha256"], folder=entry["folder"])
            for entry in data["artifact"]
        )
        return cls(version=data["version"], java=data["java"], artifacts=artifacts)


@dataclass(frozen=True, slots=True)
class Distribution:
    """The unpacked node under ``folder``, and the files it came from."""

    folder: Path
    repository: str | None = None
    """Address of a Maven repository to fetch from; without it the machine's own ``mvn`` is asked, which
    knows where this machine gets its packages."""
    manifest: Manifest = field(default_factory=Manifest.read)

    @property
    def home(self) -> Path:
        """Where the node is, once ``ensure`` returned."""
        return self.folder / f"node-{self._mark()}"

    def ensure(self, say: Say) -> Path:
        """Fetch and unpack what is missing, and return the node's folder.

        Two processes at once do it once. Raises LocalRuntimeError saying what to do.
        """
        if self.home.is_dir():
            return self.home
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "assembly.lock", timeout=_LOCK_TIMEOUT_S):
                if not self.home.is_dir():
                    self._assemble(say)
        except Timeout:
            raise LocalRuntimeError(
                "Another process has been assembling OpenSearch for 10 minutes."
            ) from None
        return self.home

    def _assemble(self, say: Say) -> None:
        half = self.folder / "unpacking"
        shutil.rmtree(half, ignore_errors=True)
        for artifact in self.manifest.artifacts:
            unpack(self._fetched(artifact, say), half / artifact.folder)
        half.rename(self.home)

    def _fetched(self, artifact: Artifact, say: Say) -> Path:
        kept = self.folder / "files" / artifact.file_name
        if kept.is_file() and sha256_of(kept) == artifact.sha256:
            return kept
        kept.parent.mkdir(parents=True, exist_ok=True)
        say(f"fetching {artifact.file_name}")
        if self.repository:
            download(f"{self.repository.rstrip('/')}/{artifact.path}", kept)
        else:
            fetch_by_maven(artifact, kept, local_repository=self.folder / "maven")
        found = sha256_of(kept)
        if found != artifact.sha256:
            kept.unlink()
            raise LocalRuntimeError(
                f"{artifact.file_name} has the SHA-256 {found}, not {artifact.sha256} as pinned in "
                f"{MANIFEST.name}: it was thrown away. Ask whoever runs the Maven repository."
            )
        return kept

    def _mark(self) -> str:
        """Return the version and a digest of the pins: other pins are another folder."""
        pins = "\n".join(artifact.sha256 for artifact in self.manifest.artifacts)
        return f"{self.manifest.version}-{hashlib.sha256(pins.encode()).hexdigest()[:8]}"


def download(address: str, target: Path) -> None:
    """Fetch a file, going on where an attempt broke off. Raises LocalRuntimeError after four attempts."""
    part = target.with_suffix(".part")
    reason = ""
    for _ in range(_ATTEMPTS):
        try:
            _download_rest(address, part)
        except (OSError, urllib.error.URLError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
        else:
            part.replace(target)
            return
    raise LocalRuntimeError(f"{target.name} could not be fetched from the Maven repository: {reason}.")


def _download_rest(address: str, part: Path) -> None:
    have_bytes = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address)  # noqa: S310 : the address is the machine's own setting
    if have_bytes:
        request.add_header("Range", f"bytes={have_bytes}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_READ_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # it was whole already, or is another file by now: the checksum decides
            return
        raise
    with answer:
        goes_on = answer.status == 206
        expected = answer.headers.get("Content-Length")
        with part.open("ab" if goes_on else "wb") as file:
            before = file.tell()
            shutil.copyfileobj(answer, file, _CHUNK_BYTES)
            if expected is not None and file.tell() - before != int(expected):
                raise OSError(f"the connection ended after {file.tell()} bytes")


def fetch_by_maven(artifact: Artifact, target: Path, *, local_repository: Path) -> None:
    """Let the machine's ``mvn`` fetch a file, by its own settings. Raises LocalRuntimeError."""
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalRuntimeError(
            "OpenSearch is assembled from packages that Maven keeps: install Maven (Debian: apt-get install "
            "maven), or set MAVEN_REPOSITORY to the address of your Maven repository or of a mirror."
        )
    command = [maven, "--batch-mode", "--quiet", f"-Dmaven.repo.local={local_repository}", _GOAL]
    command += [f"-Dartifact={artifact.coordinates}", "-Dtransitive=false"]
    reason = ""
    for _ in range(_ATTEMPTS):  # Maven goes on with half a file by itself
        try:
            ran = subprocess.run(
                command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            reason = f"no end after {_FETCH_TIMEOUT_S:.0f} s"
            continue
        if ran.returncode == 0:
            (local_repository / artifact.path).replace(target)
            return
        reason = _first_error(ran.stdout + ran.stderr)
    raise LocalRuntimeError(f"Maven could not fetch {artifact.coordinates}: {reason}")


def _first_error(output: str) -> str:
    lines: Sequence[str] = [line for line in output.splitlines() if "[ERROR]" in line]
    return lines[0] if lines else "it said nothing"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip, keeping which files may be run; a distribution's one outer folder is left out."""
    with zipfile.ZipFile(archive) as zipped:
        outer = {name.split("/", 1)[0] for name in zipped.namelist()}
        inner_only = len(outer) == 1 and any("/" in name for name in zipped.namelist())
        for entry in zipped.infolist():
            name = entry.filename.split("/", 1)[1] if inner_only else entry.filename
            target = (folder / name).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise LocalRuntimeError(f"{archive.name} would write outside its folder.")
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with zipped.open(entry) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755 if entry.external_attr >> 16 & 0o111 else 0o644)
    for inner in (folder, *folder.rglob("*")):
        if inner.is_dir():
            inner.chmod(0o755)  # whatever the umask: the node may run as another account


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
