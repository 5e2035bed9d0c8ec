"""Fine-tunes a language model on a training set, by LoRA.

The set is one that ``assistant learn export`` wrote: its manifest is checked before a step is made. A job
that was ended goes on from its last whole checkpoint.
"""

from __future__ import annotations

import json
import math
import platform
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from contract import (
    WHOLE,
    Places,
    TrainingError,
    digest_of,
    last_whole_checkpoint,
    read_hyperparameters,
    read_splits,
)
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, set_seed
from trl import SFTConfig, SFTTrainer

_OVER_0 = ("epochs", "learning_rate", "batch_size", "max_length", "lora_rank", "save_steps")
PACKAGES = ("torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Of the task ``answers``."""

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


def as_dataset(examples: list[dict[str, Any]], tokenizer: Any, *, max_length: int) -> tuple[Dataset, int]:
    """Return prompts with completions, and how many examples were too long."""
    rows = [{"prompt": example["prompt"], "completion": example["completion"]} for example in examples]
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


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the adapter and its facts, and return the facts. Raises TrainingError."""
    wanted = read_hyperparameters(places.hyperparameters, Hyperparameters, over_0=_OVER_0)
    set_version, training, validating = read_splits(places.training, "sft")
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
        "base_model": digest_of(places.base),
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
