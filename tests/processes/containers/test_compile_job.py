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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import neuron_container
from tests.fakes.neuron_container import Architecture

ROOT = Path(__file__).parents[3]
ENTRY = ROOT / "containers/compile_job/compile.py"
LIMIT_S = 60


def python_of_the_image() -> str:
    """Return Python 3.10, which the serving image has, where it is in PATH; else our own."""
    found = shutil.which("python3.10")
    runs = found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0
    return found if found and runs else sys.executable


PYTHON = python_of_the_image()
TINY = Architecture(
    hidden=64, intermediate=128, layers=2, query_heads=4, kv_heads=2, head_size=16, vocabulary=256
)
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
        "weights_bytes": sum(neuron_container.size_of(*shape) for shape in TINY.shapes().values()),
        "cache_bytes": 8 * 256 * 2 * 2 * 16 * 2 * 2,
        "usable_bytes": 28.8e9,
        "instance": "ml.inf2.8xlarge",
        **changed,
    }


@dataclass(frozen=True)
class Job:
    root: Path
    command: Path
    """Folder with ``optimum-cli``."""

    def run(
        self, manifest: dict[str, Any], *, model: Architecture = TINY, spoil: Callable[[Path], object] = id
    ) -> subprocess.CompletedProcess[str]:
        spoil(model.write(self.root / "input/data/weights"))
        (self.root / "input/config").mkdir(parents=True)
        given = {"manifest": json.dumps(manifest)}
        (self.root / "input/config/hyperparameters.json").write_text(json.dumps(given))
        return subprocess.run(
            [PYTHON, ENTRY, self.root],
            env={
                "PATH": f"{self.command}{os.pathsep}{os.environ['PATH']}",
                neuron_container.VARIABLE: "trn1.2xlarge",
            },
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
    stand_in = ROOT / "tests/fakes/neuron_container.py"
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
    assert made["memory"].startswith("weights 0.0 GB + key-value cache 0.0 GB")


def test_what_it_compiled_is_served_on_inferentia_and_on_trainium(job: Job) -> None:
    """Compiled on Trainium for inf2: both are the target trn1 (decision record 0083)."""
    job.run(wanted())

    for instance in ("inf2.8xlarge", "trn1.2xlarge"):
        assert served(job, instance).returncode == 0, instance


def test_the_chat_template_is_the_one_beside_the_weights_and_not_the_tokenizers(job: Job) -> None:
    job.run(wanted())

    assert (job.artifact / "chat_template.jinja").read_text() == "{{ messages }}"


def remove(name: str) -> Callable[[Path], object]:
    return lambda weights: (weights / name).unlink()


@pytest.mark.parametrize(
    ("manifest", "model", "spoil", "said"),
    [
        (wanted(), TINY, remove("config.json"), "have no config.json"),
        (wanted(), TINY, remove("model.safetensors"), "The export ended with 1"),
        (wanted(), TINY, remove("generation_config.json"), "have generation_config.json. Put them beside"),
        (wanted(), replace(TINY, model_type="gpt2"), id, "gpt2 is not supported"),
        (
            wanted(),
            replace(TINY, model_type="mixtral"),
            id,
            "continuous_batching is False, the manifest says",
        ),
        (wanted(batch_size=1, cache_bytes=65536), TINY, id, "continuous_batching is False"),
        (wanted(), replace(TINY, dtype="float32"), id, "torch_dtype is float32, the manifest says bfloat16"),
        (wanted(), replace(TINY, layers=3), id, "config.json: 3 layers, 2 key-value heads of 16"),
        (wanted(), replace(TINY, kv_heads=4), id, "4 key-value heads"),
        (wanted(weights_bytes=100_000), TINY, id, "weights_bytes = 100000: write "),
        (
            wanted(usable_bytes=600_000),
            TINY,
            id,
            "key-value cache 0.0 GB = 0.0 GB does not fit 2 cores of ml.inf2.8xlarge, which give 0.0 GB",
        ),
        (wanted(accelerator="gpu"), TINY, id, "The export ended with 2"),
        (
            wanted(files=(*FILES, "merges.txt")),
            TINY,
            id,
            "Neither the export nor the weights have merges.txt",
        ),
    ],
)
def test_a_refusal_is_told_and_leaves_no_artifact_to_promote(
    job: Job, manifest: dict[str, Any], model: Architecture, spoil: Callable[[Path], object], said: str
) -> None:
    done = job.run(manifest, model=model, spoil=spoil)

    assert done.returncode == 1
    assert said in job.failure
    assert len(job.failure.encode()) <= 1024
    assert not (job.root / "model/artifact.json").exists()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda artifact: (artifact / "checkpoint/weights/tp1_sharded_checkpoint.safetensors").unlink(),
            "tp1",
        ),
        (lambda artifact: shutil.rmtree(artifact / "checkpoint"), "tp0"),
        (lambda artifact: (artifact / "model.pt").unlink(), "model.pt"),
        (lambda artifact: (artifact / "neuron_config.json").unlink(), "No cached version found"),
    ],
)
def test_the_stand_in_serves_no_artifact_with_a_file_missing(
    job: Job, spoil: Callable[[Path], object], said: str
) -> None:
    job.run(wanted())
    spoil(job.artifact)

    assert said in served(job, "inf2.8xlarge").stderr


@pytest.mark.parametrize(
    "numbers", [{"batch_size": 4}, {"sequence_length": 512}, {"tensor_parallel_size": 1}]
)
def test_the_stand_in_serves_no_other_numbers_than_were_compiled(job: Job, numbers: dict[str, int]) -> None:
    job.run(wanted())

    assert "is inconsistent with" in served(job, "inf2.8xlarge", **numbers).stderr


@pytest.mark.parametrize(
    ("instance", "said"), [("trn2.48xlarge", "cannot run on trn2"), ("g6e.2xlarge", "not a valid")]
)
def test_the_stand_in_serves_on_its_target_alone(job: Job, instance: str, said: str) -> None:
    job.run(wanted())

    assert said in served(job, instance).stderr


def served(job: Job, instance: str, **numbers: int) -> subprocess.CompletedProcess[str]:
    given = {"batch_size": 8, "sequence_length": 256, "tensor_parallel_size": 2, **numbers}
    return subprocess.run(
        [
            job.command / "optimum-cli",
            "neuron",
            "serve",
            f"--model={job.artifact}",
            *(f"--{name}={value}" for name, value in given.items()),
        ],
        env={"PATH": os.environ["PATH"], neuron_container.VARIABLE: instance},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_the_entry_is_written_for_the_images_python_and_its_standard_library() -> None:
    source = ENTRY.read_text()
    lines = source.splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}

    ast.parse(source, feature_version=(3, 10))
    assert imported <= sys.stdlib_module_names
