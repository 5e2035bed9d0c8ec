"""``make sbom``: what the wheel, the functions and the images are made of, as CycloneDX 1.6 in JSON.

It writes ``build/sbom/<name>.cdx.json`` for each name of ``locks``: ``wheel``, ``functions``, ``probe``, and
``image-orchestrator`` and so on for each folder of ``containers``.

cyclonedx-py reads the locks, npm sbom the console's. Licences come from the packages that are installed here;
those of the training job are not installed. An image's file names its base image, whose packages its
publisher lists.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_TOOL = ROOT / "build/cyclonedx/bin"
_LOCKS = {"wheel": "local", "functions": "functions", "probe": "probe"}
"""Lock of ``requirements/``, by the name of a file."""
_WITH_CONSOLE = frozenset({"wheel", "image-orchestrator"})
"""Files of what contains the console's bundled page."""
_OPTIONS = ("requirements", "--pyproject", "pyproject.toml", "--output-reproducible", "--no-validate")
_DEVELOPMENT = {"name": "cdx:npm:package:development", "value": "true"}
"""How npm marks a package that is needed to build or test only."""
# Program for the Python of _TOOL, where CycloneDX's library is installed.
_VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
sys.exit(error and str(error))
"""


def locks() -> dict[str, Path]:
    """Return the lock of packages by the name of a file. An image's is the one ``.txt`` that its Dockerfile
    copies (``COPY requirements/learning.txt …``)."""
    by_name = {name: ROOT / f"requirements/{lock}.txt" for name, lock in _LOCKS.items()}
    for definition in sorted(ROOT.glob("containers/*/Dockerfile")):
        (lock,) = re.findall(r"^COPY (\S+\.txt) ", definition.read_text(encoding="utf-8"), re.MULTILINE)
        by_name[f"image-{definition.parent.name}"] = ROOT / lock
    return by_name


def write(folder: Path, *, only: Sequence[str] = ()) -> None:
    """Write a file for each of ``locks``, or for ``only``. Raises CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    licences, console = dict(_licences()), _console()
    for name in only or locks():
        bom = json.loads(_run(_TOOL / "cyclonedx-py", *_OPTIONS, locks()[name]))
        bom["metadata"]["component"]["name"] += f"/{name}"
        for component in bom["components"]:
            package = _normal(component["name"]), component["version"]
            component.update({"licenses": [licences[package]]} if package in licences else {})
        bom["components"] += [*(console if name in _WITH_CONSOLE else ()), *_base(name)]
        text = json.dumps(bom, indent=1, sort_keys=True) + "\n"
        validate(text)
        (folder / f"{name}.cdx.json").write_text(text, encoding="utf-8")


def validate(text: str) -> None:
    """Raise CalledProcessError for a text that CycloneDX's schema refuses, and say why on standard error."""
    _run(_TOOL / "python", "-c", _VALIDATE, given=text)


def _run(*command: str | Path, given: str = "") -> str:
    """Run a command with the Node and the Python of this environment, ``given`` on stdin; return what it
    prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    return subprocess.check_output(command, cwd=ROOT, env=env, input=given, text=True)


def _console() -> list[dict[str, Any]]:
    """Return the packages that are bundled into the console's page."""
    npm = Path(sys.executable).parent / "npm"
    listed = json.loads(_run(npm, "sbom", "--sbom-format", "cyclonedx", "--package-lock-only"))["components"]
    # `--omit dev` would omit preact too, which a package for tests has as a peer dependency.
    return [package for package in listed if _DEVELOPMENT not in package.get("properties", ())]


def _base(name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the base image of an image, with its digest once it is locked; nothing for another file.

    The last line of a lock: ``registry/python:3.13-slim@sha256:…``, without a digest before ``make
    lock-images``.
    """
    if name.startswith("image-"):
        image_lock = ROOT / f"containers/{name.removeprefix('image-')}/base-image.lock"
        lock = image_lock if image_lock.exists() else ROOT / "containers/base-image.lock"
        reference, _, digest = lock.read_text(encoding="utf-8").splitlines()[-1].partition("@sha256:")
        base, _, tag = reference.rpartition(":")
        hashes = {"hashes": [{"alg": "SHA-256", "content": digest}]} if digest else {}
        yield {"type": "container", "bom-ref": "base-image", "name": base, "version": tag, **hashes}


def _licences() -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    """Yield (name, version) and CycloneDX's licence entry of each installed package that declares one in a
    line."""
    for package in metadata.distributions():
        fields = package.metadata.json
        classes = [name for name in fields.get("classifier", ()) if name.startswith("License")]
        name = " or ".join(classes) or str(fields.get("license", "")).strip()
        if expression := fields.get("license_expression"):
            yield (_normal(package.name), package.version), {"expression": expression}
        elif name and "\n" not in name:
            yield (_normal(package.name), package.version), {"license": {"name": name}}


def _normal(name: str) -> str:
    """Return a package's normalised name: ``Zope.Interface`` → ``zope-interface`` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    write(ROOT / "build/sbom")
