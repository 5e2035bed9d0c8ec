"""Task ``answers``: tunes a language model on texts that people stand behind (SFT).

The set is one that ``assistant learn export`` wrote: its manifest is checked before a step is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contract import Places
from lora import Hyperparameters, LoraJob
from trl import SFTConfig, SFTTrainer


def train(places: Places) -> Mapping[str, Any]:
    """Train, write the adapter and its card, and return the card. Raises TrainingError."""
    job = LoraJob(places, "answers", Hyperparameters, split="sft", columns=("prompt", "completion"))
    arguments = SFTConfig(**job.arguments(), completion_only_loss=True, packing=False)
    return job.run(SFTTrainer(args=arguments, **job.for_trainer()))
