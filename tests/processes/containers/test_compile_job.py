"""The entry of the compile job, a process as SageMaker starts it, with a stand-in of the serving image."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stage.neuron_container import Weights

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "containers/compile_job/compile.py"
LIMIT_S = 60


def python_of_the_image() -> str:
    """Return Python 3.10, which the serving image has, where it is in PATH; else our own."""
    found = shutil.which("python3.10")
    runs = found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    return found if found and runs else sys.executable


PYTHON = python_of_the_image()
WEIGHTS = Weights()
FILES = (
    "config.json",
    "generation_config.json",
    "neuron_config.json",
    "model.pt",
    "checkpoint/weights/tp0_sharded_checkpoint.safetensors",
    "checkpoint/weights/tp1_sharded_checkpoint.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


def wanted(**changed: Any) -> dict[str, Any]:
    return {
        "name": "tiny-inf2",
        "files": FILES,
        "accelerator": "inf2",
        "dtype": "bfloat16",
        "batch_size": 8,
        "sequence_length": 256,
        "tensor_parallel": 2,
        "continuous_batching": True,
        "chat_template": "chat_template.jinja",
        **changed,
    }


@dataclass(frozen=True)
class Job:
    root: Path
    command: Path
    """Folder with ``optimum-cli``."""

    def run(
        self, manifest: dict[str, Any], *, model: Weights = WEIGHTS, spoil: Callable[[Path], object] = id
    ) -> subprocess.CompletedProcess[str]:
        spoil(model.write(self.root / "input/data/weights"))
        (self.root / "input/config").mkdir(parents=True)
        given = {"manifest": json.dumps(manifest)}
        (self.root / "input/config/hyperparameters.json").write_text(json.dumps(given))
        return subprocess.run(
            [PYTHON, ENTRY, self.root],
            env={"PATH": f"{self.command}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    @property
    def failure(self) -> str:
        return (self.root / "output/failure").read_text()

    @property
    def artifact(self) -> Path:
        return self.root / "model/artifact"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    command = tmp_path / "bin/optimum-cli"
    command.parent.mkdir()
    stand_in = ROOT / "tests/stage/neuron_container.py"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
    command.chmod(0o755)
    return Job(tmp_path / "ml", command.parent)


def test_the_artifact_has_the_manifests_files_and_hashes_that_anybody_can_repeat(job: Job) -> None:
    done = job.run(wanted())

    assert done.returncode == 0, done.stderr
    made = json.loads((job.root / "model/artifact.json").read_text())
    assert {
        path.relative_to(job.artifact).as_posix() for path in job.artifact.rglob("*") if path.is_file()
    } == {*FILES}
    assert made["files"] == {
        name: hashlib.sha256((job.artifact / name).read_bytes()).hexdigest() for name in FILES
    }
    shell = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    repeated = subprocess.run(
        ["sh", "-c", shell], cwd=job.artifact, capture_output=True, text=True, check=True
    ).stdout.split()[0]
    assert made["sha256"] == repeated
    assert made["left_out"] == ["special_tokens_map.json"]
    assert (job.artifact / "chat_template.jinja").read_text() == "{{ messages }}", "not the tokenizer's own"


def remove(name: str) -> Callable[[Path], object]:
    return lambda weights: (weights / name).unlink()


@pytest.mark.parametrize(
    ("manifest", "model", "spoil", "said"),
    [
        (wanted(), WEIGHTS, remove("config.json"), "have no config.json"),
        (wanted(), WEIGHTS, remove("model.safetensors"), "The export ended with 1"),
        (
            wanted(),
            Weights(),
            remove("generation_config.json"),
            "have generation_config.json. Put them beside",
        ),
        (wanted(), Weights(model_type="mixtral"), id, "continuous_batching is False, the manifest says"),
        (wanted(), Weights(dtype="float32"), id, "torch_dtype is float32, the manifest says bfloat16"),
        (
            wanted(files=(*FILES, "merges.txt")),
            Weights(),
            id,
            "Neither the export nor the weights have merges.txt",
        ),
    ],
)
def test_a_refusal_is_told_and_leaves_no_artifact_to_promote(
    job: Job, manifest: dict[str, Any], model: Weights, spoil: Callable[[Path], object], said: str
) -> None:
    done = job.run(manifest, model=model, spoil=spoil)

    assert done.returncode == 1
    assert said in job.failure
    assert len(job.failure.encode()) <= 1024
    assert not (job.root / "model/artifact.json").exists()


def test_the_entry_is_written_for_the_images_python_and_its_standard_library() -> None:
    source = ENTRY.read_text()
    lines = source.splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}

    ast.parse(source, feature_version=(3, 10))
    assert imported <= sys.stdlib_module_names
