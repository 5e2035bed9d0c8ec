"""Tunes a language model by an adapter (LoRA), on sets that ``assistant learn export`` wrote.

Task ``answers`` learns texts that people approved, sent or marked good (SFT). Task ``preference`` learns
pairs (DPO, https://arxiv.org/abs/2305.18290): such a text, and the draft that it replaced. DPO's reference
model is the base model with the adapter switched off, so no second model is in memory.

An example of ``answers``: ``{"prompt": [{"role": "user", "content": "…"}], "completion": [{"role":
"assistant", "content": "…"}]}``; one of ``preference`` has ``prompt``, ``chosen`` and ``rejected``.

A job that was ended resumes from its last whole checkpoint. On CPU its result then has the same bytes as that
of a job that ran through.
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
"""Hyperparameters that must be greater than 0."""
PACKAGES = ("torch", "transformers", "trl", "peft")
"""Packages whose versions the card records."""
MERGED = "merged"
"""Folder of the whole model beside the adapter, with the hyperparameter ``merge``."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """Hyperparameters of the task ``answers``; SageMaker passes them by these names."""

    epochs: float = 2.0
    max_steps: int = -1
    """-1: as many as ``epochs`` takes."""
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
    merge: int = 0
    """1: also write the base model with the adapter merged in, in the base's dtype."""


@dataclass(frozen=True, slots=True)
class PreferenceHyperparameters(Hyperparameters):
    """Hyperparameters of the task ``preference``. Its learning rate is lower than that of ``answers``."""

    learning_rate: float = 2e-5
    beta: float = 0.1
    """DPO's beta: the higher, the closer the model stays to the base model."""


def train(places: Places) -> Mapping[str, Any]:
    """Train the task, write the adapter and its card, and return the card. ``train.py`` calls it.

    Raises TrainingError.
    """
    if given_hyperparameters(places.hyperparameters).get(TASK, "answers") == "preference":
        return _train_preference(places)
    job = LoraJob(places, "answers", Hyperparameters, split="sft", columns=("prompt", "completion"))
    arguments = SFTConfig(**job.arguments(), completion_only_loss=True, packing=False)
    return job.run(SFTTrainer(args=arguments, **job.for_trainer()))


def _train_preference(places: Places) -> Mapping[str, Any]:
    columns = ("prompt", "chosen", "rejected")
    job = LoraJob(places, "preference", PreferenceHyperparameters, split="preference", columns=columns)
    wanted: Any = job.wanted
    arguments = DPOConfig(**job.arguments(), beta=wanted.beta)
    return job.run(DPOTrainer(args=arguments, **job.for_trainer()))


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint that was written to its end, and stops the training on SIGTERM.

    SageMaker sends SIGTERM before it ends a job (a spot instance, a stop): after the current step a
    checkpoint is saved, and ``LoraJob.run`` fails with ``asked_to_end``.
    """

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
    """One job. ``__init__`` reads the set and the tokenizer, the caller makes a trainer of ``arguments()``
    and ``for_trainer()``, and ``run`` trains, measures and writes. Raises TrainingError.
    """

    def __init__(
        self, places: Places, task: str, kind: type[Hyperparameters], *, split: str, columns: Sequence[str]
    ) -> None:
        """``split`` begins the names of the set's files. ``columns``: keys of an example that are trained on:
        the prompt, then each text that follows it (``("prompt", "chosen", "rejected")``)."""
        self.places, self.task = places, task
        self.wanted = read_hyperparameters(places.hyperparameters, kind, over_0=_OVER_0)
        self._set_version, training, validating = read_splits(places.training, split)
        if not (places.base / "config.json").is_file():
            raise TrainingError(f"{places.base} has no config.json: give the folder of a Hugging Face model.")
        set_seed(self.wanted.seed)
        self.tokenizer = AutoTokenizer.from_pretrained(places.base)
        self._columns, self._too_long = columns, 0
        self._validation = self._fitting(validating)
        self._training = self._fitting(training)  # last: ``_too_long`` counts these
        if not len(self._training) or not len(self._validation):
            raise TrainingError(f"No example fits max_length = {self.wanted.max_length} tokens. Raise it.")
        places.checkpoints.mkdir(parents=True, exist_ok=True)
        self._checkpoints = WholeCheckpoints()

    def _fitting(self, examples: list[dict[str, Any]]) -> Dataset:
        """Return the examples within ``max_length``, and keep the number of the others in ``_too_long``."""
        rows = [{name: example[name] for name in self._columns} for example in examples]
        fitting = [row for row in rows if self._tokens(row) <= self.wanted.max_length]
        self._too_long = len(rows) - len(fitting)
        return Dataset.from_list(fitting)

    def _tokens(self, row: Mapping[str, Any]) -> int:
        """Return the tokens of the longest conversation: the prompt with each text that may follow it."""
        prompt, *completions = (row[name] for name in self._columns)
        conversations = (prompt + completion for completion in completions)
        return max(
            len(self.tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False))
            for conversation in conversations
        )

    def for_trainer(self) -> Mapping[str, Any]:
        """Return what the constructor of each trl trainer takes beside ``args``."""
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
                task_type="CAUSAL_LM",
            ),
            "callbacks": [self._checkpoints],
        }

    def arguments(self) -> Mapping[str, Any]:
        """Return the fields that ``SFTConfig`` and ``DPOConfig`` share."""
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
            "bf16": is_gpu and torch.cuda.is_bf16_supported(),
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
        """Train, write the adapter and its card, and return the card. Raises TrainingError.

        The validation loss before training is kept beside the checkpoints: a resumed job must not measure it
        anew, because its model is trained already.
        """
        places = self.places
        checkpoint = last_whole_checkpoint(places.checkpoints)
        before_file = places.checkpoints / "before.json"
        before = json.loads(before_file.read_text()) if checkpoint and before_file.exists() else None
        if before is None:
            before = _measures(trainer)
            before_file.write_text(json.dumps(before))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
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
            resumed_from=checkpoint.name if checkpoint else None,
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
    """Return ``{"loss": 1.2}``, the validation loss; for preferences also ``pairs_in_order``, the share of
    pairs in which the model prefers the chosen text."""
    metrics = trainer.evaluate()
    names = {"eval_loss": "loss", "eval_rewards/accuracies": "pairs_in_order"}
    return {name: float(metrics[metric]) for metric, name in names.items() if metric in metrics}
