"""Model artifacts: their manifests, the images they work with, the instances they fit.

A manifest, ``model_artifacts/<task>/<name>/manifest.toml``, says what a model artifact is, what compiled it,
and which numbers its memory needs follow from. The bytes are in the tenant's models bucket under the
artifact's hash; nothing here fetches them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import Accelerator, ArtifactName
from assistant.settings.images import Digest, ImageLock
from assistant.settings.toml_file import read_strict

Dtype = Literal["bfloat16", "float16", "float32", "q4_1"]
CALLERS_PREFIX = "callers/"
"""Below it in the models bucket: ``<served name>/artifact.json`` and ``tokenizer.json``, which callers of the
endpoints read at start (``StoreSettings.model_artifacts_s3``)."""


class AnsweringTable(BaseModel):
    """``[answering]`` of a manifest: what the model is trusted with, and how it is asked.

    The defaults are those of a model that nobody vouches for: answers are quoted, and the model never writes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    writes_answers: bool = False
    """Whether the model may write an answer. Otherwise answers are quoted from the documents."""
    prompt: str = Field(default="answer/1", pattern=r"^[a-z][a-z_]*/[1-9][0-9]*$")
    """``<task>/<version>`` of a file under assistant/answering/prompts/."""
    passages: int = Field(default=2, ge=1, le=50)
    """How many of the sources the model reads. A small model mixes up more than two."""
    history_turns: int = Field(default=2, ge=0, le=20)
    """How many earlier turns of the conversation the model reads."""


WRITER = AnsweringTable(writes_answers=True, prompt="answer/2", passages=5, history_turns=2)
"""How an instruct model that may write is asked, where its manifest does not say otherwise."""


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1]
    name: ArtifactName
    """Equals the folder's name, which tenant files give."""
    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """``owner/name`` on the Hugging Face Hub."""
    licence: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$|^[a-z0-9-]+==[0-9][0-9a-z.]*$")
    """Commit of the model's repository, or the Python package that carries the weights."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the packaged artifact (``model_artifacts/README.md``); absent until it was packaged once."""
    files: tuple[str, ...] = Field(min_length=1)
    """What the artifact holds, relative to ``/opt/ml/model``."""
    image: str
    """Name in images.lock.toml of the image that compiled it and serves it."""
    image_digest: Digest | None = None
    """Of that image, when it compiled this; a lock with another one is refused."""
    accelerator: Accelerator
    ami: str | None = None
    """``InferenceAmiVersion`` of the endpoint; the service's own choice when absent."""
    sdk: str | None = None
    """Of Neuron or CUDA, in the image."""
    dtype: Dtype
    weights_bytes: int = Field(ge=1)
    """Of all weight files together."""

    @property
    def served_name(self) -> str:
        """The model's own name, as tenant files and answers' records give it."""
        return self.model.rpartition("/")[2]

    def stamp(self) -> str:
        """Return what changes when anything that the manifest says does, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class LlmManifest(_Manifest):
    sequence_length: int = Field(ge=256)
    """Prompt and answer of one stream together, tokens."""
    batch_size: int = Field(ge=1)
    """Streams at once."""
    tensor_parallel: int = Field(ge=1)
    """Cores (or GPUs) that one copy of the model is spread over."""
    parameters: int = Field(ge=1)
    layers: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_size: int = Field(ge=1)
    chat_template: str | None = None
    """One of ``files``; the tokenizer's own when absent."""
    answering: AnsweringTable
    """Callers of the endpoint read the same table in its ``artifact.json``."""


class EmbeddingManifest(_Manifest):
    dimensions: int = Field(ge=1)
    pooling: Literal["mean", "cls"]
    max_tokens: int = Field(ge=16)
    """Limit of one input, special tokens included."""


def released_prompts(folder: Path) -> dict[str, bool]:
    """Return the id of each released prompt below ``folder``, and whether the prompt lets a model refuse."""
    return {
        f"{path.parent.name}/{path.stem}": "# refusal" in path.read_text(encoding="utf-8").splitlines()
        for path in sorted(folder.glob("*/*.md"))
    }


_ManifestT = TypeVar("_ManifestT", bound=_Manifest)


def load_llm_manifest(folder: Path) -> LlmManifest:
    """Read ``folder/manifest.toml``. Raises ConfigurationError naming file, line and key."""
    return _load(LlmManifest, folder)


def load_embedding_manifest(folder: Path) -> EmbeddingManifest:
    """Read ``folder/manifest.toml``. Raises ConfigurationError naming file, line and key."""
    return _load(EmbeddingManifest, folder)


def _load(kind: type[_ManifestT], folder: Path) -> _ManifestT:
    path = folder / "manifest.toml"
    if not path.is_file():
        there = ", ".join(sorted(found.parent.name for found in folder.parent.glob("*/manifest.toml")))
        raise ConfigurationError(f'{path}: there is no such artifact "{folder.name}"; there are {there}.')
    manifest = read_strict(path, kind)
    if manifest.name != folder.name:
        raise ConfigurationError(f'{path}: name = "{manifest.name}" must equal its folder, "{folder.name}".')
    return manifest


# Which image, compiler, driver and machine image are known together, ``model_artifacts/compatibility.toml``.


class CompatibleRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    """Name in images.lock.toml."""
    tag: str
    accelerators: tuple[Accelerator, ...] = Field(min_length=1)
    sdk: str | None = None
    """Of Neuron or CUDA, in the image; it compiles and it runs."""
    ami: str | None = None
    """``InferenceAmiVersion``; the service's own choice when absent."""
    driver: str | None = None
    """In the machine image."""
    source: str
    warning: str | None = None
    """What nobody has shown yet about them together; ``assistant doctor`` says it."""


class CompatibilityTable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    row: tuple[CompatibleRow, ...]

    def row_of(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> CompatibleRow:
        """Return the row of an artifact. Raises ConfigurationError with the rows of its image."""
        wanted = (manifest.image, images.image(manifest.image).tag, manifest.sdk, manifest.ami)
        same_image = [row for row in self.row if row.image == manifest.image]
        for row in same_image:
            if (row.image, row.tag, row.sdk, row.ami) == wanted and manifest.accelerator in row.accelerators:
                return row
        known = "; ".join(_said(r.image, r.tag, r.sdk, r.ami, r.accelerators) for r in same_image)
        raise ConfigurationError(
            f"{manifest.name}: {_said(*wanted, (manifest.accelerator,))} are not known together. "
            f"Known: {known or 'none'}. Image, SDK and AMI change together, with the artifact compiled again."
        )

    def check(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> None:
        """Raises ConfigurationError for an unknown combination, or an artifact of another image."""
        self.row_of(manifest, images=images)
        locked = images.image(manifest.image).digest
        if manifest.image_digest and locked and manifest.image_digest != locked:
            raise ConfigurationError(
                f"{manifest.name} was compiled by {manifest.image_digest}, and images.lock.toml has "
                f"{locked} for {manifest.image}. Compile it again with that image, or lock the other."
            )


def load_compatibility(path: Path) -> CompatibilityTable:
    """Raises ConfigurationError naming file, line and key."""
    return read_strict(path, CompatibilityTable)


def _said(image: str, tag: str, sdk: str | None, ami: str | None, accelerators: Sequence[Accelerator]) -> str:
    return f"{image} {tag} with {sdk or 'no SDK'} on {ami or 'any AMI'} for {', '.join(accelerators)}"


# Instances that a SageMaker endpoint may stand on: what of memory, cores and disk each has.


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    name: str
    accelerator: Accelerator
    vcpus: int
    host_gib: int
    devices: int = 0
    """Chips or GPUs."""
    cores: int = 0
    """What tensor parallelism is spread over: NeuronCores, or GPUs."""
    device_gb: int = 0
    """Memory of all devices together, 10⁹ bytes."""
    nvme_gb: int = 0
    """Local disks; with none the volume is EBS, whose size is asked for and which a key encrypts."""

    @property
    def has_local_disk(self) -> bool:
        return self.nvme_gb > 0


def instance_named(name: str) -> Instance:
    """Raises ConfigurationError with the instances that are known."""
    for instance in INSTANCES:
        if instance.name == name:
            return instance
    known = ", ".join(instance.name for instance in INSTANCES)
    raise ConfigurationError(f"{name}: not an instance whose memory is known here; known are {known}.")


def _neuron(
    name: str, *, chips: int, vcpus: int, host_gib: int, accelerator: Accelerator, nvme_gb: int = 0
) -> Instance:
    """Inferentia2 and Trainium alike: two cores and 32 GB a chip."""
    return Instance(
        name=name,
        accelerator=accelerator,
        vcpus=vcpus,
        host_gib=host_gib,
        devices=chips,
        cores=2 * chips,
        device_gb=32 * chips,
        nvme_gb=nvme_gb,
    )


def _gpu(name: str, *, gpus: int, gpu_gb: int, vcpus: int, host_gib: int, nvme_gb: int) -> Instance:
    return Instance(
        name=name,
        accelerator="gpu",
        vcpus=vcpus,
        host_gib=host_gib,
        devices=gpus,
        cores=gpus,
        device_gb=gpus * gpu_gb,
        nvme_gb=nvme_gb,
    )


def _cpu(name: str, *, vcpus: int, host_gib: int) -> Instance:
    return Instance(name=name, accelerator="cpu", vcpus=vcpus, host_gib=host_gib)


INSTANCES: tuple[Instance, ...] = (
    _neuron("ml.inf2.xlarge", chips=1, vcpus=4, host_gib=16, accelerator="inf2"),
    _neuron("ml.inf2.8xlarge", chips=1, vcpus=32, host_gib=128, accelerator="inf2"),
    _neuron("ml.inf2.24xlarge", chips=6, vcpus=96, host_gib=384, accelerator="inf2"),
    _neuron("ml.inf2.48xlarge", chips=12, vcpus=192, host_gib=768, accelerator="inf2"),
    _neuron("ml.trn1.2xlarge", chips=1, vcpus=8, host_gib=32, accelerator="trn1", nvme_gb=475),
    _neuron("ml.trn1.32xlarge", chips=16, vcpus=128, host_gib=512, accelerator="trn1", nvme_gb=7600),
    _gpu("ml.g5.xlarge", gpus=1, gpu_gb=24, vcpus=4, host_gib=16, nvme_gb=250),
    _gpu("ml.g5.2xlarge", gpus=1, gpu_gb=24, vcpus=8, host_gib=32, nvme_gb=450),
    _gpu("ml.g5.4xlarge", gpus=1, gpu_gb=24, vcpus=16, host_gib=64, nvme_gb=600),
    _gpu("ml.g5.12xlarge", gpus=4, gpu_gb=24, vcpus=48, host_gib=192, nvme_gb=3800),
    _gpu("ml.g6.xlarge", gpus=1, gpu_gb=24, vcpus=4, host_gib=16, nvme_gb=250),
    _gpu("ml.g6.2xlarge", gpus=1, gpu_gb=24, vcpus=8, host_gib=32, nvme_gb=450),
    _gpu("ml.g6.4xlarge", gpus=1, gpu_gb=24, vcpus=16, host_gib=64, nvme_gb=600),
    _gpu("ml.g6.12xlarge", gpus=4, gpu_gb=24, vcpus=48, host_gib=192, nvme_gb=3760),
    _gpu("ml.g6e.xlarge", gpus=1, gpu_gb=48, vcpus=4, host_gib=32, nvme_gb=250),
    _gpu("ml.g6e.2xlarge", gpus=1, gpu_gb=48, vcpus=8, host_gib=64, nvme_gb=450),
    _gpu("ml.g6e.4xlarge", gpus=1, gpu_gb=48, vcpus=16, host_gib=128, nvme_gb=600),
    _gpu("ml.g6e.12xlarge", gpus=4, gpu_gb=48, vcpus=48, host_gib=384, nvme_gb=3800),
    _cpu("ml.c7i.large", vcpus=2, host_gib=4),
    _cpu("ml.c7i.xlarge", vcpus=4, host_gib=8),
    _cpu("ml.c7i.2xlarge", vcpus=8, host_gib=16),
    _cpu("ml.c7i.4xlarge", vcpus=16, host_gib=32),
    _cpu("ml.m7i.large", vcpus=2, host_gib=8),
    _cpu("ml.m7i.xlarge", vcpus=4, host_gib=16),
    _cpu("ml.m7i.2xlarge", vcpus=8, host_gib=32),
)

DEFAULT_INSTANCES: dict[Accelerator, str] = {
    "inf2": "ml.inf2.8xlarge",  # the xlarge has the same chip, and too little host memory to load 8B
    "trn1": "ml.trn1.2xlarge",
    "gpu": "ml.g6e.2xlarge",
    "cpu": "ml.c7i.xlarge",
}
"""What a tenant file that names no instance gets."""


# Whether a model artifact and an instance go together: accelerator, cores, memory of devices and host.


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
