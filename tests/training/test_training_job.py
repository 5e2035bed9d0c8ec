"""The training job on CPU, as SageMaker starts it: a small model, a few steps, an end in the middle.

``check-training`` runs it: torch is in an environment of its own (5.6 GB), so CI does not.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.options.models_lab.signals import Signals, write

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TRAINING_PYTHON", ROOT / "build/training/bin/python"))
LIMIT_S = 600
pytestmark = pytest.mark.timeout(2 * LIMIT_S)
ANSWERS = (
    "Keep the parcel closed and call the pharmacist on duty at ext. 4200.",
    "Ask the caller for the member number before you open the claim.",
    "The plan pays for one early refill a year; say so kindly.",
)


def exported(folder: Path) -> Path:
    """Return a set of 90 examples that the export wrote."""
    signals = Signals()
    for number in range(90):
        question = f"Case {number} {number * 7919 % 1000}: what do I tell caller {number * 104729 % 997}?"
        answer = f"{ANSWERS[number % 3]} Note it as case {number * 31 % 89} today."
        signals.sent(f"a{number}", answer, question, document=f"document-{number}")
    return write(asyncio.run(signals.sets()), folder)


class Job:
    """One training job below a folder that stands for /opt/ml."""

    def __init__(self, root: Path, **hyperparameters: Any) -> None:
        self.root = root
        config = root / "input/config"
        config.mkdir(parents=True)
        texts = {name: str(value) for name, value in hyperparameters.items()}
        (config / "hyperparameters.json").write_text(json.dumps(texts))
        data = root / "input/data"
        data.mkdir()
        exported(root / "sets").rename(data / "training")
        (root / "texts.jsonl").write_text("\n".join(map(json.dumps, ANSWERS)))
        command = [PYTHON, ROOT / "tests/training/make_tiny_model.py", data / "model", root / "texts.jsonl"]
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PYTHON, ROOT / "containers/training_job/train.py"],
            env={
                **os.environ,
                "TRAINING_ROOT": str(self.root),
                "CUDA_VISIBLE_DEVICES": "",
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self) -> subprocess.CompletedProcess[str]:
        process = self.start()
        out, err = process.communicate(timeout=LIMIT_S)
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def facts(self) -> Mapping[str, Any]:
        return json.loads((self.root / "model/training.json").read_text())

    def failure(self) -> str:
        return (self.root / "output/failure").read_text()


def until_exists(path: Path, process: subprocess.Popen[str]) -> None:
    ends_at = time.monotonic() + LIMIT_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < ends_at
        time.sleep(0.05)


STEPS = {
    "max_steps": 40,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "learning_rate": 0.02,
    "save_steps": 10,
}


def test_a_job_that_was_killed_goes_on_and_the_loss_falls(tmp_path: Path) -> None:
    job = Job(tmp_path, **STEPS, base_licence="MIT")
    first = job.start()
    until_exists(tmp_path / "checkpoints/checkpoint-10/whole", first)
    first.kill()
    first.communicate()
    torn = tmp_path / "checkpoints/checkpoint-99"
    torn.mkdir()
    ended = job.run()
    assert ended.returncode == 0, ended.stderr[-2000:]
    facts = job.facts()
    assert facts["resumed_from"] in {"checkpoint-10", "checkpoint-20", "checkpoint-30"}
    assert facts["steps"] == STEPS["max_steps"]
    manifest = (tmp_path / "input/data/training/manifest.json").read_bytes()
    assert facts["training_set"] == hashlib.sha256(manifest).hexdigest()
    assert facts["set"] == json.loads(manifest)
    assert facts["licences"] == {"base": "MIT", "set": "proprietary"}
    assert facts["validation"]["after"]["loss"] < 0.9 * facts["validation"]["before"]["loss"]
    assert (tmp_path / "model/adapter_model.safetensors").is_file()
    assert not torn.exists()


def test_a_job_that_is_asked_to_end_keeps_its_checkpoint(tmp_path: Path) -> None:
    job = Job(tmp_path, **{**STEPS, "max_steps": 4000})
    process = job.start()
    until_exists(tmp_path / "checkpoints/checkpoint-10/whole", process)
    process.terminate()
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "goes on from its checkpoint" in job.failure()
    assert list((tmp_path / "checkpoints").glob("checkpoint-*/whole"))


def same_base(first: Job, second: Job) -> None:
    base = second.root / "input/data/model"
    shutil.rmtree(base)  # two trained vocabularies differ
    shutil.copytree(first.root / "input/data/model", base)


@pytest.mark.parametrize("task", ["answers", "preference"])
def test_a_resumed_job_makes_the_bytes_of_one_that_was_not_killed(tmp_path: Path, task: str) -> None:
    steps = {**STEPS, "max_steps": 30, "task": task, "lora_dropout": 0.1, "learning_rate": 0.002}
    whole, killed = (Job(tmp_path / name, **steps) for name in ("whole", "killed"))
    same_base(whole, killed)
    ended = whole.run()
    assert ended.returncode == 0, ended.stderr[-2000:]
    process = killed.start()
    until_exists(tmp_path / "killed/checkpoints/checkpoint-10/whole", process)
    process.kill()
    process.communicate()
    assert killed.run().returncode == 0
    assert killed.facts()["resumed_from"] in {"checkpoint-10", "checkpoint-20"}
    assert whole.facts()["resumed_from"] is None
    weights = [(job.root / "model/adapter_model.safetensors").read_bytes() for job in (whole, killed)]
    assert weights[0] == weights[1]


def test_preferences_are_learned_and_the_whole_model_is_written(tmp_path: Path) -> None:
    job = Job(tmp_path, **{**STEPS, "learning_rate": 0.002}, task="preference", merge=1)
    ended = job.run()
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = job.facts()["validation"]
    assert found["after"]["loss"] < 0.9 * found["before"]["loss"]
    assert found["after"]["pairs_in_order"] >= 0.9
    assert (tmp_path / "model/merged/model.safetensors").is_file()
    assert (tmp_path / "model/merged/tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lora_rnak": 4}, "Unknown hyperparameter lora_rnak"),
        ({"batch_size": "many"}, "batch_size = many is no int"),
        ({"max_length": 3}, "No example fits max_length = 3"),
        ({"task": "domain"}, "domain is none of answers, preference here: continued pre-training"),
    ],
)
def test_a_wrong_hyperparameter_is_named(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    job = Job(tmp_path, **wrong)
    assert job.run().returncode == 1
    assert words in job.failure()


def test_a_set_that_was_changed_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path, **STEPS)
    with (tmp_path / "input/data/training/sft.train.jsonl").open("a") as file:
        file.write("{}\n")
    assert job.run().returncode == 1
    assert "sft.train.jsonl is not the one of the manifest" in job.failure()
