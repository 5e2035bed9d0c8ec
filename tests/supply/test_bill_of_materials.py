"""The SBOMs: each locked package with version and hashes, licences, what a page bundles, the base image."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tools.bill_of_materials import ROOT, locks, validate, write

NAMES = sorted(locks())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sbom")
    write(made)
    return made


def components(folder: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((folder / f"{name}.cdx.json").read_bytes())["components"]


def hashes(component: dict[str, Any]) -> set[str]:
    references = [component, *component.get("externalReferences", ())]
    return {each["content"] for reference in references for each in reference.get("hashes", ())}


def locked(lock: Path) -> dict[tuple[str, str], set[str]]:
    """Return (name, version) = hashes of each package that a lock pins."""
    pinned: dict[tuple[str, str], set[str]] = {}
    package = ("", "")
    for line in lock.read_text(encoding="utf-8").splitlines():
        if head := re.match(r"([A-Za-z0-9._-]+)==(\S+)", line):
            package = head[1], head[2]
            pinned[package] = set()
        pinned.get(package, set()).update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return pinned


def test_there_is_a_file_for_the_wheel_the_functions_and_each_image() -> None:
    images = {f"image-{definition.parent.name}" for definition in ROOT.glob("containers/*/Dockerfile")}
    assert set(NAMES) == {"wheel", "functions", "probe"} | images
    assert len(images) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_each_locked_package_is_there_with_its_version_and_all_its_hashes(folder: Path, name: str) -> None:
    listed = {(each["name"], each["version"]): hashes(each) for each in components(folder, name)}
    pinned = locked(locks()[name])
    assert len(pinned) > 10
    assert {package: listed.get(package) for package in pinned} == pinned


@pytest.mark.parametrize("name", [name for name in NAMES if name != "image-training_job"])
def test_almost_every_package_has_its_licence(folder: Path, name: str) -> None:
    """What has none declares none, or is not installed here in this version."""
    libraries = [each for each in components(folder, name) if each["type"] == "library"]
    without = [each["name"] for each in libraries if not each.get("licenses")]
    assert len(without) <= len(libraries) / 8, without


@pytest.mark.parametrize("name", ["wheel", "image-orchestrator"])
def test_the_console_s_packages_are_in_what_holds_its_page(folder: Path, name: str) -> None:
    bundled = json.loads((ROOT / "package.json").read_bytes())["dependencies"]
    listed = {each["name"]: each for each in components(folder, name)}
    assert {package: listed[package]["version"] for package in bundled} == bundled
    assert all(listed[package]["licenses"] and hashes(listed[package]) for package in bundled)
    assert "typescript" not in listed


def test_an_image_names_its_base(folder: Path) -> None:
    bases = {name: components(folder, name)[-1]["name"] for name in NAMES if name.startswith("image-")}
    assert bases.pop("image-corpus_job").startswith("public.ecr.aws/emr-serverless/spark/")
    assert set(bases.values()) == {"docker.io/library/python"}


def test_a_file_that_is_not_cyclonedx_is_refused(folder: Path) -> None:
    text = (folder / "probe.cdx.json").read_text(encoding="utf-8")
    validate(text)
    bom = json.loads(text)
    del bom["components"][0]["name"]
    with pytest.raises(subprocess.CalledProcessError):
        validate(json.dumps(bom))
