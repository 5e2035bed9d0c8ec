"""Whether a model artifact and an instance go together: accelerator, cores, memory of devices and host.

A refusal shows the sum. The bounds are the arithmetic's, not a promise: that a container starts is shown by
starting it.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.domain.errors import ConfigurationError
from assistant.settings.artifacts import Dtype, EmbeddingManifest, LlmManifest
from assistant.settings.instances import Instance

_GB = 1e9
_GIB = 2**30
_DEVICE_SHARE = 0.9
"""Of a device's memory for weights and cache; activations and the compiled program have the rest. vLLM's own
default (``gpu_memory_utilization``)."""
_HOST_RESERVE_BYTES = 4 * _GIB
"""Of the host's memory, for the system, the runtime and the container's own process."""
_SMALL_HOST_RESERVE_BYTES = 2 * _GIB
"""The same where our own server or Text Embeddings Inference serves a small model."""
_CACHE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4, "q4_1": 2}
"""Of one number of the key-value cache; quantized weights leave it at 16 bits."""


@dataclass(frozen=True, slots=True)
class MemorySum:
    """Bytes: of the weights, and of the key-value cache of all streams at their longest."""

    weights: int
    cache: int
    cache_factors: str
    """The cache's product, in words."""

    @property
    def total(self) -> int:
        return self.weights + self.cache

    def __str__(self) -> str:
        return (
            f"weights {self.weights / _GB:.1f} GB + key-value cache {self.cache / _GB:.1f} GB "
            f"({self.cache_factors}) = {self.total / _GB:.1f} GB"
        )


def memory_of(manifest: LlmManifest) -> MemorySum:
    """Return what the model needs on its devices. Where a model is spread over more cores than it has
    key-value heads, each core keeps one."""
    heads = max(manifest.kv_heads, manifest.tensor_parallel)
    size = _CACHE_BYTES[manifest.dtype]
    factors = {
        "batch": manifest.batch_size,
        "tokens": manifest.sequence_length,
        "layers": manifest.layers,
        "heads": heads,
        "head size": manifest.head_size,
        "keys and values": 2,
        "bytes": size,
    }
    product = 1
    for factor in factors.values():
        product *= factor
    words = " x ".join(f"{factor} {name}" for name, factor in factors.items())
    return MemorySum(weights=manifest.weights_bytes, cache=product, cache_factors=words)


def check_llm_fit(manifest: LlmManifest, instance: Instance) -> None:
    """Raises ConfigurationError with the sum where the model does not go onto the instance."""
    _check_accelerator(manifest, instance)
    needed = memory_of(manifest)
    if instance.accelerator == "cpu":
        _check_host(manifest.name, instance, needed=needed.total, said=str(needed), small=True)
        return
    if manifest.tensor_parallel > instance.cores:
        raise ConfigurationError(
            f"{manifest.name} is spread over {manifest.tensor_parallel} cores (tensor_parallel), and "
            f"{instance.name} has {instance.cores}."
        )
    there = instance.device_gb * _GB * manifest.tensor_parallel / instance.cores
    if needed.total > _DEVICE_SHARE * there:
        raise ConfigurationError(
            f"{manifest.name} does not fit the devices of {instance.name}: {needed}, and {_DEVICE_SHARE:.0%} "
            f"of the {there / _GB:.0f} GB of {manifest.tensor_parallel} of its {instance.cores} cores are "
            f"{_DEVICE_SHARE * there / _GB:.1f} GB. Fewer streams (batch_size), shorter ones "
            "(sequence_length), more cores (tensor_parallel), or another instance."
        )
    said = f"weights {manifest.weights_bytes / _GIB:.1f} GiB"
    _check_host(manifest.name, instance, needed=manifest.weights_bytes, said=said, small=False)


def check_embedding_fit(manifest: EmbeddingManifest, instance: Instance) -> None:
    """Raises ConfigurationError with the sum where the model does not go onto the instance."""
    _check_accelerator(manifest, instance)
    said = f"weights {manifest.weights_bytes / _GIB:.1f} GiB"
    _check_host(manifest.name, instance, needed=manifest.weights_bytes, said=said, small=True)


def _check_accelerator(manifest: LlmManifest | EmbeddingManifest, instance: Instance) -> None:
    if manifest.accelerator != instance.accelerator:
        raise ConfigurationError(
            f"{manifest.name} is made for {manifest.accelerator}, and {instance.name} is of "
            f"{instance.accelerator}."
        )


def _check_host(name: str, instance: Instance, *, needed: int, said: str, small: bool) -> None:
    """All weights pass through the host's memory when they are loaded."""
    reserve = _SMALL_HOST_RESERVE_BYTES if small else _HOST_RESERVE_BYTES
    if needed + reserve > instance.host_gib * _GIB:
        raise ConfigurationError(
            f"{name} does not load in the {instance.host_gib} GiB of host memory of {instance.name}: {said}, "
            f"and {reserve / _GIB:.0f} GiB for the system and the container, are "
            f"{(needed + reserve) / _GIB:.1f} GiB."
        )
