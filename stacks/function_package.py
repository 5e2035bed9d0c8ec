"""The code of functions: an archive of our code and one of locked dependencies, both built without Docker.

Dependencies are a layer of their own: they are 211 MB unpacked (AWS allows 250 MB, layers included) and 86 MB
packed, and change with the lock only, while our code is 0.3 MB and changes with every commit.
``python -m stacks.function_package`` fetches and packs them, once for each change of a lock. A synth uses no
network, and fails with that command when they are missing.

Archives are ``build/functions/code-<hash>.zip`` and ``build/functions/functions-3.13-<hash>.zip``. Entries
are sorted and have one fixed time, and the hash is that of the inputs, so that two synths give equal
templates. No bytecode is packed: the Python that builds need not be the one that runs.
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
"""Part of each hash. Increase it when the way archives are built changes."""
_LAYER_ROOT = "python"
"""Lambda puts this folder of a layer on the import path."""
_NEVER_RUN = frozenset({"bin", "__pycache__"})
"""Folders that are packed nowhere."""
_INSTALLER_FILES = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
"""Files of a ``.dist-info`` folder, which may differ between two installations of the same packages."""
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
"""Folders of our code that are left out, as patterns of ``fnmatch``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """``path`` is a zip file; ``hash`` identifies what it was made of."""

    path: Path
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionDependencies:
    """The packages of a lock, ``requirements/<lock>.txt``, as a layer for one version of Python.

    ``fetch`` makes the archive, over the network; ``archive`` finds it.
    """

    lock: str
    python: str = PYTHON

    def hash(self) -> str:
        """Return a SHA-256 of everything that decides the archive's content."""
        lock = (ROOT / "requirements" / f"{self.lock}.txt").read_bytes()
        settings = f"{_FORMAT}\0{self.python}\0{_PLATFORM}\0{self.lock}\0".encode()
        return hashlib.sha256(settings + lock).hexdigest()

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
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
        if completed.returncode != 0:
            raise ConfigurationError(
                f"requirements/{self.lock}.txt cannot be installed for Python {self.python} on {_PLATFORM}: "
                f"{completed.stderr.strip()[-2000:]}"
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
    """Yield name in the archive (``assistant/answer/find.py``) and path of each file of our code."""
    for package in ("assistant", "lambdas"):
        for folder, folders, names in os.walk(ROOT / package):
            parent = Path(folder).relative_to(ROOT).as_posix()
            folders[:] = [  # os.walk enters only those that stay
                name
                for name in folders
                if name not in _NEVER_RUN
                and not any(fnmatchcase(f"{parent}/{name}", pattern) for pattern in _NO_FUNCTION_RUNS)
            ]
            yield from ((f"{parent}/{name}", Path(folder) / name) for name in names)


def _installed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield name in the layer (``python/orjson/__init__.py``) and path of each installed file that can be
    run."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        by_installer = parts[0].endswith(".dist-info") and path.name in _INSTALLER_FILES
        unused = _NEVER_RUN.intersection(parts) or path.suffix in (".pyc", ".pyi") or parts[0] == ".lock"
        if path.is_file() and not by_installer and not unused:
            yield "/".join((_LAYER_ROOT, *parts)), path


def _write_archive(path: Path, files: Iterable[tuple[str, Path]]) -> None:
    """Write the archive atomically: as a draft beside it, which is then renamed."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, source.read_bytes())
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
