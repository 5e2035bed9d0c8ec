"""Trains on Trainium, in AWS's own image: the task ``domain`` (continued pre-training).

The image is ``huggingface-pytorch-training-neuronx`` (images.lock.toml): Python 3.10, optimum-neuron 0.4.1,
trl 0.11.4, peft 0.17.0, transformers 4.55.4
(https://github.com/aws/deep-learning-containers, commit 09321b5e,
huggingface/pytorch/training/docker/2.8/py3/sdk2.26.0/Dockerfile.neuronx).
This file, ``train.py`` and ``contract.py`` come as the job's channel ``code``; one process a core.

That version can neither resume from a checkpoint nor validate, by its source
(https://github.com/huggingface/optimum-neuron/tree/v0.4.1, optimum/neuron/trainers/transformers.py). So there
is neither a spot instance nor a validation loss. Texts are packed into sequences of one length, because each
new shape is compiled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_xla.core.xla_model as xm
from contract import Places, TrainingError, card_of, digest_of, read_hyperparameters
from datasets import Dataset, load_dataset
from optimum.neuron import NeuronSFTConfig, NeuronSFTTrainer, NeuronTrainingArguments
from optimum.neuron.models.training import NeuronModelForCausalLM
from optimum.neuron.models.training.checkpointing import (
    consolidate_model_parallel_checkpoints_to_unified_checkpoint as consolidate,
)
from peft import LoraConfig
from transformers import AutoTokenizer

_OVER_0 = ("epochs", "learning_rate", "batch_size", "max_length", "lora_rank", "tensor_parallel")
"""Hyperparameters that must be greater than 0."""
PACKAGES = ("optimum-neuron", "torch", "torch-neuronx", "neuronx-cc", "transformers", "trl", "peft")
"""Packages whose versions the card records."""
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""Linear layers that get an adapter: those of attention and MLP, by their names in Llama and Qwen."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the task; SageMaker passes them by these names."""

    epochs: float = 1.0
    max_steps: int = -1
    """-1: as many as ``epochs`` takes."""
    learning_rate: float = 1e-4
    batch_size: int = 1
    gradient_accumulation: int = 8
    max_length: int = 2048
    """Tokens of a packed sequence."""
    lora_rank: int = 16
    lora_alpha: int = 32
    tensor_parallel: int = 2
    """Cores that share one copy of the model; the instance's cores are a multiple of it."""


def examples_of(places: Places) -> Dataset:
    """Return the texts of a corpus's Parquet files (column ``text``). Raises TrainingError."""
    files = sorted(str(path) for path in places.training.rglob("*.parquet"))
    if not files:
        raise TrainingError(f"{places.training} has no Parquet: give what the corpus job wrote.")
    texts = load_dataset("parquet", data_files=files, split="train")
    if "text" not in texts.column_names:
        raise TrainingError(f"The Parquet has no column text, but {', '.join(texts.column_names)}.")
    return texts.select_columns(["text"])


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the adapter and its card, and return the card. Raises TrainingError.

    Each core runs this in a process of its own (``torchrun``). All save their shards; after the rendezvous
    the process with RANK 0 alone joins them into the adapter below ``model``.
    """
    wanted = read_hyperparameters(places.hyperparameters, Hyperparameters, over_0=_OVER_0)
    examples = examples_of(places)
    tokenizer, shards = AutoTokenizer.from_pretrained(places.base), places.root / "shards"
    arguments = NeuronTrainingArguments(
        output_dir=str(shards),
        num_train_epochs=wanted.epochs,
        max_steps=wanted.max_steps,
        learning_rate=wanted.learning_rate,
        per_device_train_batch_size=wanted.batch_size,
        gradient_accumulation_steps=wanted.gradient_accumulation,
        tensor_parallel_size=wanted.tensor_parallel,
        bf16=True,
        save_strategy="no",
        report_to="none",
    )
    model = NeuronModelForCausalLM.from_pretrained(
        str(places.base),
        arguments.trn_config,
        torch_dtype=torch.bfloat16,
        attn_implementation="flash_attention_2",
    )
    trainer = NeuronSFTTrainer(
        args=NeuronSFTConfig(
            max_seq_length=wanted.max_length, packing=True, dataset_text_field="text", **arguments.to_dict()
        ),
        model=model,
        tokenizer=tokenizer,
        train_dataset=examples,
        peft_config=LoraConfig(
            r=wanted.lora_rank, lora_alpha=wanted.lora_alpha, target_modules=MODULES, task_type="CAUSAL_LM"
        ),
    )
    trainer.train()
    trainer.save_model(str(shards))
    xm.rendezvous("saved")
    measured = {"examples": {"train": len(examples)}, "steps": trainer.state.global_step, "device": "neuron"}
    card = card_of(places, "domain", digest_of(places.training), wanted, PACKAGES, **measured)
    if os.environ.get("RANK", "0") == "0":  # one process a core, and one result
        consolidate(shards, places.model)
        trainer.model.peft_config["default"].save_pretrained(str(places.model))
        tokenizer.save_pretrained(str(places.model))
        (places.model / "training.json").write_text(json.dumps(card, indent=1) + "\n")
    return card
