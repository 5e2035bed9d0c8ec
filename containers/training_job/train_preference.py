"""Task ``preference``: tunes a language model on pairs (DPO, https://arxiv.org/abs/2305.18290): a text that
people stand behind, and the draft that it replaced.

The set is one that ``assistant learn export`` wrote. The base model is its own reference: the adapter is
switched off for it, so there is no second model in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lora
from contract import Places
from trl import DPOConfig, DPOTrainer


@dataclass(frozen=True, slots=True)
class Hyperparameters(lora.Hyperparameters):
    """Of the task ``preference``. Its steps are smaller than those of ``answers``."""

    learning_rate: float = 2e-5
    beta: float = 0.1
    """How much departing from the base model costs."""
    sft_weight: float = 0.0
    """Of the chosen text's own loss beside DPO's: over 0 the model also learns to write it."""


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the adapter and its card, and return the card. Raises TrainingError."""
    columns = ("prompt", "chosen", "rejected")
    job = lora.LoraJob(places, "preference", Hyperparameters, split="preference", columns=columns)
    wanted: Any = job.wanted
    losses = {"sigmoid": 1.0} | ({"sft": wanted.sft_weight} if wanted.sft_weight else {})
    arguments = DPOConfig(
        **job.arguments(), beta=wanted.beta, loss_type=list(losses), loss_weights=list(losses.values())
    )
    return job.run(DPOTrainer(args=arguments, **job.for_trainer()))
