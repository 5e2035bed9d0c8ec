"""How long a step of a model server takes: measured by the reader, or estimated from data sheets."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import Instance, LlmManifest, memory_of, usable_bytes
from assistant.tenant.toml_file import StrictModel, read_strict


class Timings(StrictModel):
    """A server that computes a step at a time: one token of each answer, and parts of prompts."""

    source: str
    """Server and date of a measurement, or the terms of an estimate."""
    slots: int = Field(ge=1)
    """Answers that are written at once."""
    kv_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers that its memory holds; None: every slot has room for the longest."""
    step_tokens: int = Field(ge=1)
    """Most tokens of one step: those of answers first, then of prompts."""
    request_s: float = Field(ge=0)
    """Added to each request, whatever its length."""
    write_step_s: tuple[float, ...] = Field(min_length=1)
    """Seconds of a step in which 1, 2, … answers get a token; more are extrapolated from the last two."""
    write_context_s: float = Field(ge=0)
    """Added for each token that an answer's next token looks back at."""
    read_token_s: float = Field(gt=0)
    """Added for each token of a prompt that is read."""
    read_context_s: float = Field(ge=0)
    """Added for each token that a prompt's token looks back at."""

    def step_s(self) -> list[float]:
        """Return seconds of a step that writes 0 to ``slots`` tokens, without context."""
        steps = [0.0, *self.write_step_s]
        slope = max(0.0, steps[-1] - steps[-2]) if len(steps) > 2 else 0.0
        return steps + [steps[-1] + slope * more for more in range(1, self.slots + 2 - len(steps))]


def load_timings(path: Path) -> Timings:
    """Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Timings)


_DEVICES: dict[str, tuple[float, float]] = {
    # family: bytes a second and floating-point operations a second (bfloat16, dense) of one core or GPU.
    # AWS Neuron documentation, Inferentia2 and Trainium Architecture: 820 GiB/s and 190 TFLOPS for two cores.
    # NVIDIA's data sheets: L4 300 GB/s and 121 TFLOPS, L40S 864 GB/s and 362 (read 2026-11-23). Of the A10G,
    # made for AWS, only the bandwidth was found (600 GB/s, as of the A10); its 70 TFLOPS are not confirmed.
    "inf2": (440e9, 95e12),
    "trn1": (440e9, 95e12),
    "g5": (600e9, 70e12),
    "g6": (300e9, 121e12),
    "g6e": (864e9, 362e12),
}
_BANDWIDTH_SHARE, _COMPUTE_SHARE = 0.6, 0.4
"""Assumed, not measured: what a serving engine gets out of a data sheet's figures."""
_VLLM_STEP_TOKENS = 2048
"""vLLM's default of ``max_num_batched_tokens`` for serving."""


def estimated_timings(manifest: LlmManifest, instance: Instance) -> Timings:
    """Return the roofline of a model on an accelerator: weights and cache are read once a step.

    Raises ConfigurationError for a processor, whose speed no data sheet tells.
    """
    family = instance.name.split(".")[1]
    if family not in _DEVICES:
        raise ConfigurationError(
            f"{instance.name}: no timings of {manifest.name} are known there. Measure its model server with "
            "a load generator, write the times into a file (docs/capacity.md), and plan with --timings FILE."
        )
    bandwidth = _DEVICES[family][0] * _BANDWIDTH_SHARE * manifest.tensor_parallel
    flops = _DEVICES[family][1] * _COMPUTE_SHARE * manifest.tensor_parallel
    token_bytes = memory_of(manifest).cache / (manifest.batch_size * manifest.sequence_length)
    free_bytes = usable_bytes(manifest, instance) - manifest.weights_bytes
    in_parts = instance.accelerator == "gpu"  # Neuron reads a prompt whole, while answers wait
    return Timings(
        source=f"estimate: {family}'s data sheet, {_BANDWIDTH_SHARE:.0%} of its bandwidth and "
        f"{_COMPUTE_SHARE:.0%} of its arithmetic",
        slots=manifest.batch_size,
        kv_tokens=int(free_bytes / token_bytes),
        step_tokens=_VLLM_STEP_TOKENS if in_parts else manifest.sequence_length + manifest.batch_size,
        request_s=0.0,
        write_step_s=(manifest.weights_bytes / bandwidth,),
        write_context_s=token_bytes / bandwidth,
        read_token_s=2 * manifest.parameters / flops,
        read_context_s=0.0,
    )
