"""Signed images on a registry of this machine, by the real cosign: what passes, and what does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.terminal.publishing import unverified
from tests.stacks.synthesized import ROOT

PAGE = (ROOT / "docs/from-nothing.md").read_text(encoding="utf-8")
(SIGNS,) = re.findall(r"`(cosign sign [^`]+)`", PAGE)


def crane(*arguments: str | Path) -> str:
    done = subprocess.run(["crane", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Registry:
    host: str
    folder: Path

    def push(self, tag: str, *layers: str) -> str:
        """Push an image with a layer for each text, and return its name by digest."""
        name = f"{self.host}/care/orchestrator:{tag}"
        files = [self._layer(text) for text in layers]
        crane("append", "--oci-empty-base", *(part for file in files for part in ("-f", file)), "-t", name)
        return f"{self.host}/care/orchestrator@{crane('digest', name)}"

    def _layer(self, text: str) -> Path:
        content, layer = self.folder / "program", self.folder / f"{text}.tar"
        content.write_text(text)
        with tarfile.open(layer, "w") as archive:
            archive.add(content, "program")
        return layer


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    command = ["crane", "registry", "serve", "--address", "127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving on port" in line
        try:
            yield Registry(f"127.0.0.1:{line.split()[-1]}", tmp_path_factory.mktemp("layers"))
        finally:
            process.kill()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys: ``ours`` and ``theirs``."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        command = ["cosign", "generate-key-pair", "--output-key-prefix", name]
        environment = {**os.environ, "COSIGN_PASSWORD": "of a test"}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "of a test")


def sign(image: str, keys: Path, name: str = "ours") -> None:
    """Sign by the command of the page."""
    command = SIGNS.replace("awskms:///KEY_ARN", str(keys / f"{name}.key")).replace("IMAGE@DIGEST", image)
    subprocess.run(["bash", "-c", command], check=True, capture_output=True, timeout=60)


def refused(image: str, keys: Path, name: str = "ours.pub") -> str:
    """Return why an image is refused; empty where it passes."""
    return "\n".join(unverified([image], key=str(keys / name)))


def test_a_signed_image_passes(registry: Registry, keys: Path) -> None:
    image = registry.push("signed", "system", "program")
    sign(image, keys)
    assert refused(image, keys) == ""


def test_an_unsigned_image_is_refused(registry: Registry, keys: Path) -> None:
    image = registry.push("unsigned", "nobody's")
    assert "no signatures found" in refused(image, keys)


def test_an_image_that_another_key_signed_is_refused(registry: Registry, keys: Path) -> None:
    image = registry.push("strange", "theirs")
    sign(image, keys, "theirs")
    assert refused(image, keys, "theirs.pub") == ""
    assert f"no valid signature by {keys / 'ours.pub'}" in refused(image, keys)


def test_a_signature_is_in_no_transparency_log(registry: Registry, keys: Path) -> None:
    image = registry.push("private", "private")
    sign(image, keys)
    repository, _, digest = image.partition("@")
    (listed,) = json.loads(crane("manifest", f"{repository}:{digest.replace(':', '-')}"))["manifests"]
    (layer,) = json.loads(crane("manifest", f"{repository}@{listed['digest']}"))["layers"]
    material = json.loads(crane("blob", f"{repository}@{layer['digest']}"))["verificationMaterial"]
    assert not material.get("tlogEntries")
    assert not material.get("timestampVerificationData")
