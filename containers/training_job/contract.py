"""Reads and writes what SageMaker's contract prescribes for a training program: folders, hyperparameters,
sets.

https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html: hyperparameters in
``input/config/hyperparameters.json``, the set in ``input/data/training``, the base model in
``input/data/model``, checkpoints below ``checkpoints`` (kept in S3), the result in ``model``, the reason of a
failure in ``output/failure``. Nothing is fetched: the job has no network.

``train.py`` starts ``train_lora`` or ``neuron/train_neuron``; all of them import this module by its bare
name. It runs on Python 3.10 too.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

WHOLE = "whole"
"""Empty file that ``WholeCheckpoints`` adds to a checkpoint after everything else."""
TASK = "task"
"""Hyperparameter that chooses what is learned: ``answers``, ``preference`` or ``domain``."""
LICENCES = ("base_licence", "set_licence")
"""Hyperparameters of every task: SPDX names, for the card."""
_SDK_PREFIX = "sagemaker_"
"""SageMaker's SDK adds hyperparameters of its own (``sagemaker_region``)."""
_Fields = TypeVar("_Fields")


class TrainingError(Exception):
    """Its text says what is wrong and what to do; it becomes the job's failure reason."""


class Places:
    """Folders of the contract, below ``/opt/ml`` or another root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hyperparameters = root / "input/config/hyperparameters.json"
        self.training = root / "input/data/training"
        self.base = root / "input/data/model"
        self.checkpoints = root / "checkpoints"
        self.model = root / "model"


def given_hyperparameters(path: Path) -> dict[str, str]:
    """Return the hyperparameters as texts, SageMaker's only type: ``{"epochs": "2.0"}``; empty without the
    file.

    Those of the SDK are left out. Some clients send each value as JSON, so quotes around it are removed.
    """
    given: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {name: str(text).strip('"') for name, text in given.items() if not name.startswith(_SDK_PREFIX)}


def read_hyperparameters(path: Path, kind: type[_Fields], *, over_0: Sequence[str]) -> _Fields:
    """Return an instance of the dataclass ``kind``, whose fields all have defaults, with what was given.

    A value is converted to the type of its field's default. The fields ``over_0`` must be greater than 0.
    Raises TrainingError naming the parameter.
    """
    types = {field.name: type(field.default) for field in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, text in given_hyperparameters(path).items():
        if name in (TASK, *LICENCES):
            continue
        if name not in types:
            raise TrainingError(f"Unknown hyperparameter {name}. Known are {', '.join(types)}.")
        try:
            values[name] = types[name](text)
        except ValueError:
            raise TrainingError(f"{name} = {text} is no {types[name].__name__}.") from None
    hyperparameters = kind(**values)
    for name in over_0:
        if getattr(hyperparameters, name) <= 0:
            raise TrainingError(f"{name} = {getattr(hyperparameters, name)} must be over 0.")
    return hyperparameters


def read_splits(folder: Path, kind: str) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the set's version (SHA-256 of its manifest) with its training and its validating examples.

    ``kind`` (``sft``, ``preference``) begins the files' names: ``sft.train.jsonl``, ``sft.validation.jsonl``.
    The manifest holds their hashes: ``{"files": {"sft.train.jsonl": "<sha256>"}}``. Raises TrainingError
    where a file is another one, or empty.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise TrainingError(f"{folder} has no manifest.json. Give a set that `assistant learn` wrote.")
    raw = path.read_bytes()
    expected: Mapping[str, str] = json.loads(raw)["files"]
    for name in (f"{kind}.train.jsonl", f"{kind}.validation.jsonl"):
        digest = (
            hashlib.sha256((folder / name).read_bytes()).hexdigest() if (folder / name).exists() else None
        )
        if digest is None or digest != expected.get(name):
            raise TrainingError(f"{name} is not the one of the manifest. Export the set anew.")
    train, validation = (
        [json.loads(line) for line in (folder / f"{kind}.{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation")
    )
    if not train or not validation:
        raise TrainingError(
            f"The set has {len(train)} training and {len(validation)} validating examples; both need one."
        )
    return hashlib.sha256(raw).hexdigest(), train, validation


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint (``checkpoint-150``: after step 150), None without one. Removes
    those without the file ``whole``, which a killed job left half written."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / WHOLE).exists():
            whole.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path)
    return max(whole)[1] if whole else None


def digest_of(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a folder's files: the version of a model or a
    corpus."""
    digest = hashlib.sha256()
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        content = hashlib.sha256()  # Python 3.10, which AWS's image for Trainium has, knows no file_digest
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                content.update(piece)
        digest.update(f"{path.relative_to(folder)} {content.hexdigest()}\n".encode())
    return digest.hexdigest()


def card_of(
    places: Places, task: str, training_set: str, wanted: Any, packages: Sequence[str], **measured: Any
) -> dict[str, Any]:
    """Return ``training.json``, the card beside the adapter: data, weights, licences, hyperparameters,
    versions.

    ``assistant models package`` reads it. ``training_set``: the set's version. ``wanted``: the task's
    hyperparameters, a dataclass. ``packages``: names whose versions are recorded. ``measured``: what the task
    adds (``steps=120``).
    """
    given = given_hyperparameters(places.hyperparameters)
    manifest = places.training / "manifest.json"
    return {
        "schema_version": 1,
        "task": task,
        "training_set": training_set,
        "set": json.loads(manifest.read_text()) if manifest.is_file() else None,
        "base_model": digest_of(places.base),
        "licences": {
            "base": given.get(LICENCES[0], "unknown"),
            "set": given.get(LICENCES[1], "proprietary"),
        },
        "hyperparameters": asdict(wanted),
        "packages": {name: version(name) for name in packages} | {"python": platform.python_version()},
        **measured,
    }
