"""Tuning an embedding model on CPU: a small encoder, a few steps, an end in the middle, and serving it here.

``make check-training`` runs it: torch is in an environment of its own (5.6 GB), so CI does not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assistant.model_server.embedding import of_unit_length
from assistant.model_server.embedding_graph import PassageRunner, load_graph
from assistant.model_server.weights import locate_weights, read_tokenizer
from assistant.settings.process import ModelServerSettings
from assistant.text.language import language
from assistant.tuning.training_sets import build_pairs, export_of_pairs
from tests.fakes.answering import document
from tests.training.test_training_job import LIMIT_S, PYTHON, ROOT, Job, until_exists
from tests.unit.evaluation.results import question

pytestmark = pytest.mark.timeout(2 * LIMIT_S)
SYLLABLES = ("bal", "cor", "dem", "fin", "gol", "hap", "jur", "kel", "lom", "mar")
STEPS = {"task": "embedding", "max_steps": 60, "batch_size": 16, "learning_rate": 0.002, "save_steps": 20}
SHOWS_VECTORS = """
import json, sys
from pathlib import Path
from train_embedding import Encoder
encoder = Encoder(Path(sys.argv[1]), is_bfloat16=False)
print(json.dumps(encoder.embed_all(json.loads(sys.argv[2]), max_length=256).tolist()))
"""


def exported(folder: Path) -> Path:
    """Return a set of pairs that the export wrote: titles whose texts name the same thing otherwise."""
    documents = []
    for number in range(120):
        thing = "".join(SYLLABLES[int(digit)] for digit in f"{number * 37 % 1000:03d}")
        other = "".join(SYLLABLES[int(digit)] for digit in reversed(f"{number * 37 % 1000:03d}"))
        text = f"The {other} clerk notes it on form {number}. Then {other} goes back to its shelf."
        documents.append(document(f"d{number}", text, title=f"{thing} requests"))
    protected = (question("q1", question="Where is it?", documents=("d7",)),)
    sets = build_pairs(documents, approved={}, protected=protected, language=language("en"))
    exported = export_of_pairs(sets, tenant="clinic", index_version="1", questions_sha256="")
    return exported.write(folder)


class EmbeddingJob(Job):
    """One tuning job below a folder that stands for /opt/ml."""

    kind = "encoder"

    def exported(self, folder: Path) -> Path:
        return exported(folder)

    def texts(self, folder: Path) -> list[str]:
        rows = (folder / "passages.jsonl").read_text().splitlines()
        return [json.loads(row)["text"] for row in rows]


def torch_vectors(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    ended = subprocess.run(
        [PYTHON, "-c", SHOWS_VECTORS, folder, json.dumps(texts)],
        env={"PYTHONPATH": str(ROOT / "containers/training_job"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    return np.array(json.loads(ended.stdout.splitlines()[-1]))


def served_vectors(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    weights = locate_weights(ModelServerSettings(task="embedding", path=folder, artifacts_dir=folder))
    runner = PassageRunner(load_graph(weights.graph(), threads=1, precision="float32"), pooling="mean")
    tokenizer = read_tokenizer(folder / "tokenizer.json")
    return of_unit_length(np.stack([runner.embed(tokenizer.encode(text).ids) for text in texts]))


def test_a_killed_job_goes_on_its_loss_falls_and_its_model_is_served(tmp_path: Path) -> None:
    job = EmbeddingJob(tmp_path, **STEPS)
    first = job.start()
    until_exists(tmp_path / "checkpoints/checkpoint-20/whole", first)
    first.kill()
    first.communicate()
    (tmp_path / "checkpoints/checkpoint-99").mkdir()  # half written
    ended = job.run()
    assert ended.returncode == 0, ended.stderr[-2000:]
    facts: Mapping[str, Any] = job.facts()
    assert facts["resumed_from"] in {"checkpoint-20", "checkpoint-40", "checkpoint-60"}
    assert facts["steps"] == STEPS["max_steps"]
    assert facts["loss"]["last"] < 0.9 * facts["loss"]["first"]
    scores = facts["validation_ndcg_at_10"]
    assert scores[str(facts["mix"])] == max(scores.values()) > scores["0.0"]
    assert facts["held_out"] == ["d7"]
    texts = ["balcordem requests", "The medroc clerk notes it on form 3."]
    ours = served_vectors(tmp_path / "model", texts)
    cosines = (ours * torch_vectors(tmp_path / "model", texts)).sum(axis=1)
    assert cosines.min() >= 0.999
    moved = (ours * torch_vectors(tmp_path / "input/data/model", texts)).sum(axis=1)
    assert moved.max() < 0.999


def test_a_resumed_job_makes_the_weights_of_one_that_was_not_killed(tmp_path: Path) -> None:
    whole, killed = (EmbeddingJob(tmp_path / name, **STEPS) for name in ("whole", "killed"))
    base = killed.root / "input/data/model"
    shutil.rmtree(base)  # two trained vocabularies differ
    shutil.copytree(whole.root / "input/data/model", base)
    assert whole.run().returncode == 0
    process = killed.start()
    until_exists(tmp_path / "killed/checkpoints/checkpoint-20/whole", process)
    process.kill()
    process.communicate()
    assert killed.run().returncode == 0
    weights = [(job.root / "model/model.safetensors").read_bytes() for job in (whole, killed)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "embeding"}, "task = embeding is none of answers, preference, embedding here."),
        ({"lora_rank": 4}, "Unknown hyperparameter lora_rank"),
        ({"learning_rate": 1e-12, "max_steps": 1}, "No share of the tuned weights finds more"),
    ],
)
def test_what_cannot_be_tuned_is_named(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    job = EmbeddingJob(tmp_path, **{**STEPS, **wrong})
    assert job.run().returncode == 1
    assert words in job.failure()
