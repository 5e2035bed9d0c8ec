"""Tunes a language model by an adapter (LoRA), on sets that ``assistant learn export`` wrote.

Task ``answers`` learns texts that people stand behind (SFT). Task ``preference`` learns pairs (DPO,
https://arxiv.org/abs/2305.18290): such a text, and the draft that it replaced. There the base model is its
own reference: the adapter is switched off for it, so there is no second model in memory.

A job that was ended goes on from its last whole checkpoint, and on CPU makes the same bytes as one that was
not.
"""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from contract import (
    TASK,
    WHOLE,
    Places,
    TrainingError,
    card_of,
    given_hyperparameters,
    last_whole_checkpoint,
    read_hyperparameters,
    read_splits,
)
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoConfig, AutoTokenizer, TrainerCallback, TrainerControl, TrainerState, set_seed
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

_OVER_0 = ("epochs", "learning_rate", "batch_size", "max_length", "lora_rank", "save_steps")
PACKAGES = ("torch", "transformers", "trl", "peft")
MERGED = "merged"
"""Folder of the whole model beside the adapter, with the hyperparameter ``merge``."""


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
    lora_from_layer: int = 0
    """Layers below keep their weights: less to compute backwards."""
    bfloat16: int = 0
    """1: compute in bfloat16 on CPU too. A GPU that knows it always does."""
    warmup_share: float = 0.03
    save_steps: int = 50
    seed: int = 1
    merge: int = 0
    """1: also write the whole model, in the base's type of numbers."""


@dataclass(frozen=True, slots=True)
class PreferenceHyperparameters(Hyperparameters):
    """Of the task ``preference``. Its steps are smaller than those of ``answers``."""

    learning_rate: float = 2e-5
    beta: float = 0.1
    """How much departing from the base model costs."""
    sft_weight: float = 0.0
    """Of the chosen text's own loss beside DPO's: over 0 the model also learns to write it."""


def train(places: Places) -> Mapping[str, Any]:
    """Train the task, write the adapter and its card, and return the card. Raises TrainingError."""
    if given_hyperparameters(places.hyperparameters).get(TASK, "answers") == "preference":
        return _train_preference(places)
    job = LoraJob(places, "answers", Hyperparameters, split="sft", columns=("prompt", "completion"))
    arguments = SFTConfig(**job.arguments(), completion_only_loss=True, packing=False)
    return job.run(SFTTrainer(args=arguments, **job.for_trainer()))


def _train_preference(places: Places) -> Mapping[str, Any]:
    columns = ("prompt", "chosen", "rejected")
    job = LoraJob(places, "preference", PreferenceHyperparameters, split="preference", columns=columns)
    wanted: Any = job.wanted
    losses = {"sigmoid": 1.0} | ({"sft": wanted.sft_weight} if wanted.sft_weight else {})
    arguments = DPOConfig(
        **job.arguments(), beta=wanted.beta, loss_type=list(losses), loss_weights=list(losses.values())
    )
    return job.run(DPOTrainer(args=arguments, **job.for_trainer()))


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


class LoraJob:
    """One job: reads set and base model when made, and runs the task's trainer. Raises TrainingError."""

    def __init__(
        self, places: Places, task: str, kind: type[Hyperparameters], *, split: str, columns: Sequence[str]
    ) -> None:
        """``split``: the set's files begin so. ``columns``: what of a line is trained on; all but the first
        follow the prompt."""
        self.places, self.task = places, task
        self.wanted = read_hyperparameters(places.hyperparameters, kind, over_0=_OVER_0)
        self._set_version, training, validating = read_splits(places.training, split)
        if not (places.base / "config.json").is_file():
            raise TrainingError(f"{places.base} has no config.json: give the folder of a Hugging Face model.")
        set_seed(self.wanted.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(places.base)
        self._columns, self._too_long = columns, 0
        self._validation = self._fitting(validating)
        self._training = self._fitting(training)
        if not len(self._training) or not len(self._validation):
            raise TrainingError(f"No example fits max_length = {self.wanted.max_length} tokens. Raise it.")
        places.checkpoints.mkdir(parents=True, exist_ok=True)
        self._checkpoints = WholeCheckpoints()

    def _fitting(self, examples: list[dict[str, Any]]) -> Dataset:
        rows = [{name: example[name] for name in self._columns} for example in examples]
        fitting = [row for row in rows if self._tokens(row) <= self.wanted.max_length]
        self._too_long = len(rows) - len(fitting)
        return Dataset.from_list(fitting)

    def _tokens(self, row: Mapping[str, Any]) -> int:
        prompt, *completions = (row[name] for name in self._columns)
        conversations = (prompt + completion for completion in completions)
        return max(
            len(self.tokenizer.apply_chat_template(one, tokenize=True, return_dict=False))
            for one in conversations
        )

    def for_trainer(self) -> Mapping[str, Any]:
        """Return what every trainer of trl takes beside its arguments."""
        frozen = "|".join(map(str, range(self.wanted.lora_from_layer)))
        return {
            "model": str(self.places.base),
            "train_dataset": self._training,
            "eval_dataset": self._validation,
            "processing_class": self.tokenizer,
            "peft_config": LoraConfig(
                r=self.wanted.lora_rank,
                lora_alpha=self.wanted.lora_alpha,
                lora_dropout=self.wanted.lora_dropout,
                target_modules="all-linear",
                exclude_modules=rf".*\.layers\.({frozen})\..*" if frozen else None,
                task_type="CAUSAL_LM",
            ),
            "callbacks": [self._checkpoints],
        }

    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments that every trainer of trl takes."""
        wanted, is_gpu = self.wanted, torch.cuda.is_available()
        return {
            "output_dir": str(self.places.checkpoints),
            "num_train_epochs": wanted.epochs,
            "max_steps": wanted.max_steps,
            "learning_rate": wanted.learning_rate,
            "per_device_train_batch_size": wanted.batch_size,
            "per_device_eval_batch_size": wanted.batch_size,
            "gradient_accumulation_steps": wanted.gradient_accumulation,
            "max_length": wanted.max_length,
            "warmup_steps": wanted.warmup_share,  # under 1 it is a share of all steps
            "bf16": torch.cuda.is_bf16_supported() if is_gpu else bool(wanted.bfloat16),
            "use_cpu": not is_gpu,
            "activation_checkpointing": is_gpu,
            "save_strategy": "steps",
            "save_steps": wanted.save_steps,
            "save_total_limit": 2,
            "eval_strategy": "no",
            "logging_steps": 5,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": wanted.seed,
            "data_seed": wanted.seed,
        }

    def run(self, trainer: Any) -> Mapping[str, Any]:
        """Train, write the adapter and its card, and return the card. Raises TrainingError."""
        places = self.places
        resumed = last_whole_checkpoint(places.checkpoints)
        kept = places.checkpoints / "before.json"
        before = json.loads(kept.read_text()) if resumed and kept.exists() else None
        if before is None:
            before = _measures(trainer)
            kept.write_text(json.dumps(before))
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
        if self._checkpoints.asked_to_end:
            raise TrainingError(
                "The job was asked to end. It goes on from its checkpoint when started again."
            )
        after = _measures(trainer)
        if not math.isfinite(after["loss"]):
            raise TrainingError(
                f"The validation loss is {after['loss']}. Lower learning_rate and train again."
            )
        trainer.save_model(str(places.model))
        self.tokenizer.save_pretrained(places.model)
        sizes = {"train": len(self._training), "validation": len(self._validation)}
        card = card_of(
            places,
            self.task,
            self._set_version,
            self.wanted,
            PACKAGES,
            examples={**sizes, "too_long": self._too_long},
            validation={"before": before, "after": after},
            steps=trainer.state.global_step,
            resumed_from=resumed.name if resumed else None,
            device="cuda" if torch.cuda.is_available() else "cpu",
        )
        (places.model / "training.json").write_text(json.dumps(card, indent=1) + "\n")
        if self.wanted.merge:
            merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
            merged.to(AutoConfig.from_pretrained(places.base).dtype or torch.float32)
            merged.save_pretrained(places.model / MERGED)
            self.tokenizer.save_pretrained(places.model / MERGED)
        return card


def _measures(trainer: Any) -> dict[str, float]:
    """Return the validation loss, and for preferences the share of pairs in people's order."""
    found = trainer.evaluate()
    names = {"eval_loss": "loss", "eval_rewards/accuracies": "pairs_in_order"}
    return {short: float(found[name]) for name, short in names.items() if name in found}
