"""The code of functions: an archive of our code and one of locked dependencies, both built without Docker.

Dependencies are a layer of their own: they are 211 MB unpacked (AWS allows 250 MB, layers included) and 86 MB
packed, and change with the lock only, while our code is 0.3 MB and changes with every commit.
``python -m stacks.function_package`` fetches and packs them, once a lock; a synth uses no network
and says so when they are not there.

An archive holds sorted names and one time, and is named by the hash of what it is made from, so that two
synths are the same. No bytecode is packed: the Python that builds need not be the one that runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from assistant.domain.errors import ConfigurationError

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "functions"
PYTHON = "3.13"
"""The newest that this package supports; on Lambda until 2029-06-30 (Lambda runtimes, Developer Guide)."""
_PLATFORM = "x86_64-manylinux_2_28"
"""Amazon Linux 2023, on which Lambda runs Python 3.13, has glibc 2.34."""
_FORMAT = "1"
"""Increase it when the way archives are built changes."""
_LAYER_ROOT = "python"
"""Lambda puts this folder of a layer on the import path."""
_NEVER_RUN = frozenset({"bin", "__pycache__"})
_OF_INSTALLERS = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
_NO_FUNCTION_RUNS = frozenset(
    {
        "assistant/evaluation",
        "assistant/model_server",
        "assistant/cli",
        "assistant/laptop",
        "assistant/options/*/commands",
        "assistant/options/*/stack",
        "assistant/options/*/view",
        "assistant/service/console",
        "assistant/terminal",
        "template_checks",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """``path`` is a zip file; ``hash`` identifies its content."""

    path: Path
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDependencies:
    """One lock of ``requirements/`` as a layer."""

    lock: str
    python: str = PYTHON

    def hash(self) -> str:
        lock = (ROOT / "requirements" / f"{self.lock}.txt").read_bytes()
        made_by = f"{_FORMAT}\0{self.python}\0{_PLATFORM}\0{self.lock}\0".encode()
        return hashlib.sha256(made_by + lock).hexdigest()

    def for_this_python(self) -> FunctionDependencies:
        """Return the same lock for the Python that runs here: Lambda's wheels may not import in it."""
        return replace(self, python=f"{sys.version_info.major}.{sys.version_info.minor}")

    def archive(self) -> Archive:
        """Return the archive of the dependencies. Raises ConfigurationError when they were not fetched."""
        archive = self._archive()
        if not archive.path.exists():
            raise ConfigurationError(
                f"The functions' dependencies for requirements/{self.lock}.txt are not there. Fetch them "
                "once, which needs the package index: python -m stacks.function_package"
            )
        return archive

    def fetch(self) -> Archive:
        """Fetch and pack the dependencies if they are missing. Raises ConfigurationError with the installer's
        message."""
        archive = self._archive()
        if not archive.path.exists():
            BUILD.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=BUILD, prefix=f".{self.lock}-"))
            try:
                self._install(folder)
                _write_archive(archive.path, _installed(folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return archive

    def _archive(self) -> Archive:
        hashed = self.hash()
        name = f"{self.lock}-{self.python}-{hashed[:16]}.zip"
        return Archive(path=BUILD / name, hash=hashed)

    def _install(self, into: Path) -> None:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-config"]
        command += ["--python-platform", _PLATFORM, "--python-version", self.python]
        command += ["--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"]
        command += ["--target", str(into), "--requirement", str(ROOT / "requirements" / f"{self.lock}.txt")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ConfigurationError(
                f"requirements/{self.lock}.txt cannot be installed for Python {self.python} on {_PLATFORM}: "
                f"{done.stderr.strip()[-2000:]}"
            )


FUNCTIONS = FunctionDependencies(lock="functions")
"""Dependencies of all functions but the probe."""
PROBE = FunctionDependencies(lock="probe")
"""Dependencies of the probe, which signs a token and asks a question."""


@cache
def code_archive() -> Archive:
    """Return an archive of ``assistant/`` and ``lambdas/``, without modules that no function runs."""
    files = sorted(_code(), key=lambda file: file[0])
    digest = hashlib.sha256(_FORMAT.encode())
    for name, path in files:
        digest.update(f"\0{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    hashed = digest.hexdigest()
    archive = Archive(path=BUILD / f"code-{hashed[:16]}.zip", hash=hashed)
    if not archive.path.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        _write_archive(archive.path, files)
    return archive


def _code() -> Iterator[tuple[str, Path]]:
    for room in ("assistant", "lambdas"):
        for folder, folders, names in os.walk(ROOT / room):
            below = Path(folder).relative_to(ROOT).as_posix()
            folders[:] = [
                name
                for name in folders
                if name not in _NEVER_RUN
                and not any(fnmatchcase(f"{below}/{name}", left_out) for left_out in _NO_FUNCTION_RUNS)
            ]
            yield from ((f"{below}/{name}", Path(folder) / name) for name in names)


def _installed(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        by_installer = parts[0].endswith(".dist-info") and path.name in _OF_INSTALLERS
        unused = _NEVER_RUN.intersection(parts) or path.suffix in (".pyc", ".pyi") or parts[0] == ".lock"
        if path.is_file() and not by_installer and not unused:
            yield "/".join((_LAYER_ROOT, *parts)), path


def _write_archive(path: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Write the archive atomically."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, source in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, source.read_bytes())
    Path(draft).chmod(0o644)
    Path(draft).replace(path)


def main(arguments: Sequence[str]) -> None:
    """Fetch the dependencies; with ``--this-python-too`` for the running Python too, to import them here."""
    wanted = [FUNCTIONS, PROBE]
    if "--this-python-too" in arguments:
        wanted += [dependencies.for_this_python() for dependencies in (FUNCTIONS, PROBE)]
    try:
        for dependencies in wanted:
            archive = dependencies.fetch()
            sys.stdout.write(f"{archive.path.relative_to(ROOT)} {archive.path.stat().st_size / 1e6:.1f} MB\n")
    except ConfigurationError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main(sys.argv[1:])
