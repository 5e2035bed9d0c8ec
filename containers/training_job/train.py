"""Fine-tunes a language model on a training set, by LoRA: the entry of a SageMaker training job.

By SageMaker's contract (https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo.html):
hyperparameters in ``input/config/hyperparameters.json``, the set in ``input/data/training``, the base model
in ``input/data/model``, checkpoints below ``checkpoints`` (kept in S3), the result in ``model``, the reason
of a failure in ``output/failure``. Nothing is fetched: the job has no network.

The set is one that ``assistant learn export`` wrote: its manifest is checked before a step is made. A job
that was ended goes on from its last whole checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, set_seed
from trl import SFTConfig, SFTTrainer

WHOLE = "whole"
"""File in a checkpoint that was written to its end."""
PACKAGES = ("torch", "transformers", "trl", "peft")


class TrainingError(Exception):
    """What is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """SageMaker gives all of them as texts. Unknown ones are refused."""

    epochs: float = 2.0
    max_steps: int = -1
    """-1: as the epochs say."""
    learning_rate: float = 1e-4
    batch_size: int = 4
    gradient_accumulation: int = 4
    max_length: int = 2048
    """Tokens of prompt and completion; a longer example is left out, never cut."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    warmup_share: float = 0.03
    save_steps: int = 50
    seed: int = 1

    @classmethod
    def read(cls, path: Path) -> Hyperparameters:
        """Raises TrainingError naming the parameter."""
        given: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        kinds = {one.name: type(one.default) for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in given.items():
            if name.startswith("sagemaker_"):
                continue  # the SDK's own
            if name not in kinds:
                raise TrainingError(f"Unknown hyperparameter {name}. Known are {', '.join(kinds)}.")
            try:
                values[name] = kinds[name](str(text).strip('"'))
            except ValueError:
                raise TrainingError(f"{name} = {text} is no {kinds[name].__name__}.") from None
        made = cls(**values)
        for name in ("epochs", "learning_rate", "batch_size", "max_length", "lora_rank", "save_steps"):
            if getattr(made, name) <= 0:
                raise TrainingError(f"{name} = {getattr(made, name)} must be over 0.")
        return made


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the contract, below ``/opt/ml`` or another root."""

    root: Path

    @property
    def hyperparameters(self) -> Path:
        return self.root / "input/config/hyperparameters.json"

    @property
    def training(self) -> Path:
        return self.root / "input/data/training"

    @property
    def base(self) -> Path:
        return self.root / "input/data/model"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def model(self) -> Path:
        return self.root / "model"


def read_set(folder: Path) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the set's version with its training and validating examples. Raises TrainingError."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise TrainingError(f"{folder} has no manifest.json. Give a set that `assistant learn export` wrote.")
    raw = path.read_bytes()
    expected: Mapping[str, str] = json.loads(raw)["files"]
    for name in ("sft.train.jsonl", "sft.validation.jsonl"):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest() if (folder / name).exists() else None
        if found != expected.get(name):
            raise TrainingError(f"{name} is not the one of the manifest. Export the set anew.")
    train, validation = (
        [json.loads(line) for line in (folder / f"sft.{split}.jsonl").read_text().splitlines()]
        for split in ("train", "validation")
    )
    if not train or not validation:
        raise TrainingError(
            f"The set has {len(train)} training and {len(validation)} validating examples; both need one."
        )
    return hashlib.sha256(raw).hexdigest(), train, validation


def as_dataset(examples: list[dict[str, Any]], tokenizer: Any, *, max_length: int) -> tuple[Dataset, int]:
    """Return prompts with completions, and how many examples were too long."""
    rows = [{"prompt": one["prompt"], "completion": one["completion"]} for one in examples]
    fitting = [row for row in rows if _tokens(row, tokenizer) <= max_length]
    return Dataset.from_list(fitting), len(rows) - len(fitting)


def _tokens(row: Mapping[str, Any], tokenizer: Any) -> int:
    conversation = row["prompt"] + row["completion"]
    return len(tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False))


class WholeCheckpoints(TrainerCallback):
    """Marks a checkpoint that is whole, and ends the job in order when SageMaker asks for it."""

    def __init__(self) -> None:
        self.asked_to_end = False
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.asked_to_end = True

    def on_step_end(
        self, _arguments: Any, _state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.asked_to_end:
            control.should_save = control.should_training_stop = True
        return control

    def on_save(self, arguments: Any, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        folder = Path(arguments.output_dir) / f"checkpoint-{state.global_step}"
        (folder / WHOLE).write_text("")


def last_whole_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, after removing those that a killed job left half written."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / WHOLE).exists():
            whole.append((int(path.name.rpartition("-")[2]), path))
        else:
            shutil.rmtree(path)
    return max(whole)[1] if whole else None


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the adapter and its facts, and return the facts. Raises TrainingError."""
    wanted = Hyperparameters.read(places.hyperparameters)
    set_version, training, validating = read_set(places.training)
    if not (places.base / "config.json").is_file():
        raise TrainingError(f"{places.base} has no config.json: give the folder of a Hugging Face model.")
    set_seed(wanted.seed)
    tokenizer = AutoTokenizer.from_pretrained(places.base)
    train_set, too_long = as_dataset(training, tokenizer, max_length=wanted.max_length)
    validation_set, _ = as_dataset(validating, tokenizer, max_length=wanted.max_length)
    if not len(train_set) or not len(validation_set):
        raise TrainingError(f"No example fits max_length = {wanted.max_length} tokens. Raise it.")
    places.checkpoints.mkdir(parents=True, exist_ok=True)
    checkpoints = WholeCheckpoints()
    trainer = SFTTrainer(
        model=str(places.base),
        args=_arguments(wanted, places.checkpoints),
        train_dataset=train_set,
        eval_dataset=validation_set,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=wanted.lora_rank,
            lora_alpha=wanted.lora_alpha,
            lora_dropout=wanted.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[checkpoints],
    )
    resumed = last_whole_checkpoint(places.checkpoints)
    before = _kept_loss(places.checkpoints) if resumed else None
    if before is None:
        before = float(trainer.evaluate()["eval_loss"])
        (places.checkpoints / "loss_before.json").write_text(json.dumps(before))
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    if checkpoints.asked_to_end:
        raise TrainingError("The job was asked to end. It goes on from its checkpoint when started again.")
    after = float(trainer.evaluate()["eval_loss"])
    if not math.isfinite(after):
        raise TrainingError(f"The validation loss is {after}. Lower learning_rate and train again.")
    trainer.save_model(str(places.model))
    tokenizer.save_pretrained(places.model)
    facts = {
        "schema_version": 1,
        "training_set": set_version,
        "base_model": _digest(places.base),
        "hyperparameters": asdict(wanted),
        "examples": {"train": len(train_set), "validation": len(validation_set), "too_long": too_long},
        "validation_loss": {"before": before, "after": after},
        "steps": trainer.state.global_step,
        "resumed_from": resumed.name if resumed else None,
        "packages": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
    (places.model / "training.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _arguments(wanted: Hyperparameters, checkpoints: Path) -> SFTConfig:
    is_gpu = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(checkpoints),
        num_train_epochs=wanted.epochs,
        max_steps=wanted.max_steps,
        learning_rate=wanted.learning_rate,
        per_device_train_batch_size=wanted.batch_size,
        per_device_eval_batch_size=wanted.batch_size,
        gradient_accumulation_steps=wanted.gradient_accumulation,
        max_length=wanted.max_length,
        warmup_steps=wanted.warmup_share,  # under 1 it is a share of all steps
        completion_only_loss=True,
        packing=False,
        bf16=is_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not is_gpu,
        activation_checkpointing=is_gpu,
        save_strategy="steps",
        save_steps=wanted.save_steps,
        save_total_limit=2,
        eval_strategy="no",
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
        seed=wanted.seed,
        data_seed=wanted.seed,
    )


def _kept_loss(checkpoints: Path) -> float | None:
    path = checkpoints / "loss_before.json"
    return float(json.loads(path.read_text())) if path.exists() else None


def _digest(folder: Path) -> str:
    """Return a SHA-256 over the names and contents of a model's files."""
    digest = hashlib.sha256()
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def main() -> None:
    places = Places(Path(os.environ.get("TRAINING_ROOT", "/opt/ml")))
    try:
        facts = train(places)
    except TrainingError as error:
        output = places.root / "output"
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").write_text(str(error)[:1024])  # SageMaker shows so much of it
        sys.exit(str(error))
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
