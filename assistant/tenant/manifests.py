"""Model artifacts and container images.

- ``images.lock.toml`` (``ImageLock``) has repository, tag, digest and registry of each container image.
- A manifest, ``model_artifacts/<task>/<name>/manifest.toml``, says what a model artifact is, what compiled
  it, and the numbers that its memory needs follow from. The artifact itself is in the tenant's models bucket
  under its hash; nothing here fetches it.
- ``compatibility.toml`` (``CompatibilityTable``) has the combinations of image, SDK and machine image that
  work, and how long each part of a deployment is supported.
- ``INSTANCES`` are SageMaker's instance types; ``check_llm_fit`` says whether a model fits one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import Accelerator, ArtifactName
from assistant.tenant.toml_file import StrictModel, read_strict

Dtype = Literal["bfloat16", "float16", "float32", "q4_1"]
_GB = 1e9
_GIB = 2**30
_DEVICE_SHARE = 0.9
"""Share of a device's memory for weights and cache; the rest is for activations and the compiled program.
vLLM's default (``gpu_memory_utilization``)."""
_HOST_RESERVE_BYTES = 4 * _GIB
"""Host memory for the system, the runtime and the container's process."""
_SMALL_HOST_RESERVE_BYTES = 2 * _GIB
"""The same for our own server or Text Embeddings Inference with a small model."""
_CACHE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4, "q4_1": 2}
"""Bytes of one number of the key-value cache; with quantized weights it keeps 16 bits."""
CALLERS_PREFIX = "callers/"
"""Prefix in the models bucket of ``<served name>/artifact.json`` and ``tokenizer.json``, which callers of the
endpoints read at start (``StoreSettings.model_artifacts_s3``)."""
EVALUATION_PREFIX = "evaluation/"
"""Prefix in the models bucket of questions with known answers."""
COMPILED_PREFIX = "compiled/"
"""Prefix in the models bucket below which compile jobs put their output; no endpoint reads it."""
COMPILE_OUTPUT, TRAIN_OUTPUT = "CompileJob", "TrainingJob"
"""Outputs of the data and of the learning stack: the part of a request for such a job that is the same each
time, as JSON."""

DIGEST_PATTERN = "^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, StringConstraints(pattern=DIGEST_PATTERN)]
_Account = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
_Registry = Annotated[Mapping[str, _Account], Field(min_length=1)]


def _is_fixed(tag: str) -> str:
    """Return a tag that always means the same image. Raises ValueError for "latest"."""
    if tag == "latest":
        raise ValueError('"latest" is not a fixed version; name one')
    return tag


_Tag = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"), AfterValidator(_is_fixed)
]


class LockedImage(StrictModel):
    """One image. Without ``registry`` it is our own, in the registry of the deployment account."""

    repository: str = Field(pattern=r"^[a-z0-9]+(?:[._/-][a-z0-9]+)*$")
    tag: _Tag
    digest: Digest | None = None
    """Absent before the image is built or resolved. For our own image the deployment then has a parameter;
    with profile ``hipaa`` every image needs a digest."""
    registry: str | None = None
    """Table under ``[registries]`` with the account that publishes the image in each region."""
    regions: tuple[str, ...] = ()
    """Regions that have the image; all of its registry's when empty."""
    source: str | None = None
    """Image of which our own is an unchanged copy; built from ``containers/<name>`` when absent."""

    @property
    def is_own(self) -> bool:
        """Whether the deployment account's registry holds it."""
        return self.registry is None


class ImageLock(StrictModel):
    registries: Mapping[str, _Registry] = {}
    """Registry = region = publishing account."""
    images: Mapping[str, LockedImage]

    def image(self, name: str) -> LockedImage:
        """Return one image. Raises ConfigurationError with the known names."""
        try:
            return self.images[name]
        except KeyError:
            known = ", ".join(sorted(self.images))
            raise ConfigurationError(f'images.lock.toml: no image "{name}"; it has {known}.') from None

    def accounts(self, name: str) -> Mapping[str, str]:
        """Return region = publishing account of an image; empty for our own."""
        image = self.image(name)
        if image.registry is None:
            return {}
        try:
            table = self.registries[image.registry]
        except KeyError:
            raise ConfigurationError(
                f'images.lock.toml: images.{name}.registry = "{image.registry}" is not under [registries].'
            ) from None
        return {region: table[region] for region in image.regions or table if region in table}

    def account(self, name: str, *, region: str, own: str) -> str:
        """Return the account whose registry has an image in ``region``; ``own`` is the deployment account.

        Raises ConfigurationError with the regions that have it.
        """
        if self.image(name).is_own:
            return own
        accounts = self.accounts(name)
        if region not in accounts:
            raise ConfigurationError(
                f"The image {name} ({self.image(name).repository}) is not published in {region}; "
                f"regions that have it: {', '.join(sorted(accounts))}."
            )
        return accounts[region]

    def own(self) -> Mapping[str, LockedImage]:
        """Return our own images by name."""
        return {name: image for name, image in self.images.items() if image.is_own}


def load_images(path: Path) -> ImageLock:
    """Read the lock. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, ImageLock)


def write_digest(path: Path, *, name: str, digest: str) -> None:
    """Write an image's digest into the lock; comments and the rest of the file stay.

    Raises ConfigurationError for an unknown image or an invalid digest.
    """
    import tomlkit  # not in the service's image, which never reads the lock

    load_images(path).image(name)
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document["images"][name]["digest"] = digest  # type: ignore[index]
    rewrite(path, tomlkit.dumps(document), ImageLock)


def rewrite(path: Path, text: str, kind: type[StrictModel]) -> None:
    """Replace a file in one step. Raises ConfigurationError where the new text is not a valid ``kind``; then
    the file is unchanged."""
    written = path.with_name(f".{path.name}.new")
    written.write_text(text, encoding="utf-8")
    try:
        read_strict(written, kind)
    except ConfigurationError as error:
        written.unlink()
        raise ConfigurationError(f"{path} was not written: {error.message}") from None
    written.replace(path)


# Manifests


LEAST_NAMED, MOST_MARKED = 0.90, 0.05
"""A model's check of sentences is believed where it named at least this share of planted errors, and marked
at most this share of true sentences. The bound is declared, not fitted: an agent who reads "checked" does
not open the source again, and one who often sees a mark on a true sentence no longer looks at marks."""


class CheckCounts(StrictModel):
    """How a model checked the shipped pairs (``check_pairs.toml``): ``str`` of it tells a person."""

    named: int = Field(ge=0)
    """Planted errors that it did not call held, of ``planted``."""
    planted: int = Field(ge=1)
    """Sentences with a planted error."""
    marked: int = Field(ge=0)
    """True sentences that it did not call held, of ``true_pairs``."""
    true_pairs: int = Field(ge=1)
    """True sentences."""

    @property
    def is_believed(self) -> bool:
        return self.named >= LEAST_NAMED * self.planted and self.marked <= MOST_MARKED * self.true_pairs

    def __str__(self) -> str:
        return (
            f"names {self.named} of {self.planted} planted errors, marks {self.marked} of {self.true_pairs} "
            f"true sentences (needed: at least {LEAST_NAMED:.0%}, at most {MOST_MARKED:.0%})"
        )


class AnsweringTable(StrictModel):
    """``[answering]`` of a manifest: whether the model may write answers, and how its prompt is rendered.

    The tenant file names the prompt. The defaults are for a model that was not evaluated: answers are quoted,
    and the model never writes.
    """

    writes_answers: bool = False
    """Whether the model may write an answer. Otherwise answers are quotes of the documents."""
    system_role: bool = True
    """Whether its chat template takes a system message. Otherwise the system text opens the first turn of the
    user."""
    writes_elements: bool = False
    """Whether its prompt lists the tenant's live elements, which it then names in its text. Off in every
    shipped manifest: no model named enough of the asked values (docs/decisions/0086)."""
    reads_tokens: int | None = Field(default=None, ge=1)
    """Prompt tokens that the model reads in 3 s, as measured; None: its context decides."""
    sentence_check: CheckCounts | None = Field(default=None, exclude_if=lambda counts: counts is None)
    """How it checked planted and true sentences, as measured; None: it was not asked, and what it writes
    counts as not checked."""


WRITER = AnsweringTable(writes_answers=True)
"""Defaults for an instruct model that may write."""


class _Manifest(StrictModel):
    schema_version: Literal[1]
    name: ArtifactName
    """Equals the folder's name, by which tenant files refer to it."""
    model: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    """``owner/name`` on the Hugging Face Hub."""
    licence: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$|^[a-z0-9-]+==[0-9][0-9a-z.]*$")
    """Commit of the model's repository, the Python package that carries the weights, or JumpStart's id and
    version."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Hash of the packaged artifact (``model_artifacts/README.md``), or of the listing of an adopted
    candidate's files (``jumpstart.listing_sha256``); absent before it is packaged."""
    files: tuple[str, ...] = Field(min_length=1)
    """Files of the artifact, relative to ``/opt/ml/model``."""
    image: str
    """Name in images.lock.toml of the image that compiled and serves it."""
    image_digest: Digest | None = None
    """Digest of that image when it compiled the artifact; another one in the lock is refused."""
    accelerator: Accelerator
    ami: str | None = None
    """``InferenceAmiVersion`` of the endpoint; SageMaker's default when absent."""
    sdk: str | None = None
    """Version of Neuron or CUDA in the image."""
    dtype: Dtype
    weights_bytes: int = Field(ge=1)
    """Size of all weight files together."""

    @property
    def served_name(self) -> str:
        """The model's name in tenant files and in records of answers."""
        return self.model.rpartition("/")[2]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read ``folder/manifest.toml``. Raises ConfigurationError naming file, line and key."""
        path = folder / "manifest.toml"
        if not path.is_file():
            known = ", ".join(sorted(other.parent.name for other in folder.parent.glob("*/manifest.toml")))
            raise ConfigurationError(f'{path}: no such artifact "{folder.name}"; there are {known}.')
        manifest = read_strict(path, cls)
        if manifest.name != folder.name:
            raise ConfigurationError(
                f'{path}: name = "{manifest.name}" must equal its folder, "{folder.name}".'
            )
        return manifest

    def stamp(self) -> str:
        """Return a hash of the whole manifest, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


_Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Comparison(StrictModel):
    """How a tuned model answered a tenant's held-out questions beside the served one: ``assistant evaluate
    --model`` writes it."""

    served: ArtifactName
    """The artifact that was served; its manifest, deployed again, is the way back."""
    served_sha256: _Sha256
    tuned_sha256: _Sha256
    """Of this artifact as it was asked."""
    questions_sha256: _Sha256
    """Of the file of questions."""
    questions: int = Field(ge=1)
    """Number of questions that both wrote an answer to."""
    better_by: Mapping[str, tuple[float, float, float]]
    """By measure: by how much the tuned model is better, and the ends of the 95 % interval."""


class Lineage(StrictModel):
    """``[lineage]`` of a tuned model's manifest: what it was made of, by its training job's card, and how it
    compares."""

    base: ArtifactName
    """The artifact that it can take the place of: its manifest gave every other value."""
    base_model: _Sha256
    """SHA-256 over the files of the weights that were tuned."""
    training_set: _Sha256
    """SHA-256 of the training set's manifest."""
    licences: Mapping[str, str]
    """Licences of the base model ("base") and of the training set ("set")."""
    comparisons: Mapping[str, Comparison] = Field(default={}, exclude_if=lambda comparisons: not comparisons)
    """By tenant. Synth serves a tuned model to a tenant only with one (``check_compared``)."""


class LlmManifest(_Manifest):
    sequence_length: int = Field(ge=256)
    """Prompt and answer of one stream together, tokens."""
    batch_size: int = Field(ge=1)
    """Concurrent streams."""
    continuous_batching: bool
    """Whether a request joins and leaves the batch while others are written; true on every accelerator."""
    tensor_parallel: int = Field(ge=1)
    """Cores (or GPUs) of one copy of the model."""
    parameters: int = Field(ge=1)
    layers: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_size: int = Field(ge=1)
    chat_template: str | None = None
    """One of ``files``; the tokenizer's template when absent."""
    answering: AnsweringTable
    """Callers of the endpoint read the same table in its ``artifact.json``."""
    lineage: Lineage | None = Field(default=None, exclude_if=lambda one: one is None)
    """What a tuned model was made of; None for weights as they were published, whose ``stamp`` is then as it
    was."""

    @model_validator(mode="after")
    def _has_compiled_shape(self) -> Self:
        """Refuse a shape that does not compile, or compiles without continuous batching: then an answer waits
        for the longest of its batch.

        optimum-neuron 0.4.5 (abf59858) compiles it in for ``batch_size`` over 1 only
        (optimum/neuron/models/inference/qwen3/modeling_qwen3.py:139), and its vLLM serves nothing else
        (optimum/neuron/vllm/AGENTS.md:9).
        """
        if self.accelerator != "cpu" and not self.continuous_batching:
            raise ValueError(f"continuous_batching must be true on {self.accelerator}")
        if not self.is_compiled:
            return self
        if self.batch_size == 1:
            raise ValueError("batch_size = 1 compiles no continuous batching; 2 is the least")
        if max(self.kv_heads, self.tensor_parallel) % min(self.kv_heads, self.tensor_parallel):
            # get_shardable_head_counts, optimum/neuron/models/inference/backend/modules/attention/gqa.py:58
            raise ValueError(
                f"of tensor_parallel = {self.tensor_parallel} and kv_heads = {self.kv_heads} one must be a "
                "multiple of the other: else each query head gets a key-value cache of its own"
            )
        return self

    @property
    def is_compiled(self) -> bool:
        """Whether it runs as code that was compiled ahead for these numbers."""
        return self.accelerator in ("inf2", "trn1")


class EmbeddingManifest(_Manifest):
    dimensions: int = Field(ge=1)
    pooling: Literal["mean", "cls"]
    max_tokens: int = Field(ge=16)
    """Limit of one input, special tokens included."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_sha256(files: Mapping[str, str]) -> str:
    """Return an artifact's hash, given the SHA-256 of each file by its name.

    For a single file that is its own hash. For several it is the hash of the lines that ``sha256sum`` prints
    of them, in the artifact's folder: ``find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum``.
    """
    if len(files) == 1:
        return next(iter(files.values()))
    lines = sorted((f"./{name}".encode(), digest.encode()) for name, digest in files.items())
    return hashlib.sha256(b"".join(digest + b"  " + name + b"\n" for name, digest in lines)).hexdigest()


def write_artifact(folder: Path, *, sha256: str, image_digest: str) -> None:
    """Register an artifact in ``folder/manifest.toml``; comments and the rest of the file stay.

    Raises ConfigurationError for a value that a manifest cannot have; the file is then unchanged.
    """
    import tomlkit  # not in the service's image, which writes no manifest

    path = folder / "manifest.toml"
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document["sha256"], document["image_digest"] = sha256, image_digest
    rewrite(path, tomlkit.dumps(document), LlmManifest)


def write_comparison(folder: Path, *, tenant: str, comparison: Comparison) -> None:
    """Write a tenant's comparison into ``folder/manifest.toml`` of a tuned model; the rest of the file stays.

    Raises ConfigurationError; the file is then unchanged.
    """
    import tomlkit  # not in the service's image, which writes no manifest

    path = folder / "manifest.toml"
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    comparisons = document["lineage"].setdefault("comparisons", tomlkit.table(is_super_table=True))
    comparisons[tenant] = comparison.model_dump(mode="json")
    rewrite(path, tomlkit.dumps(document), LlmManifest)


def check_compared(manifest: LlmManifest, *, tenant: str, artifacts: Path) -> None:
    """Raise ConfigurationError for a tuned model, unless its manifest has a comparison with a served one on
    the tenant's questions in which no measure's whole interval is on the worse side.

    ``artifacts``: ``model_artifacts/llm``, which must still have the manifest of the served one.
    """
    if manifest.lineage is None:
        return
    name, base = manifest.name, manifest.lineage.base
    run = f"Run: assistant evaluate --tenant {tenant} --model {base}=MODEL --model {name}=MODEL"
    comparison = manifest.lineage.comparisons.get(tenant)
    if comparison is None or comparison.tuned_sha256 != manifest.sha256:
        raise ConfigurationError(
            f"{name} is a tuned model, and its manifest has no comparison of its weights with the served "
            f"ones on the questions of {tenant}. {run}"
        )
    if LlmManifest.read(artifacts / comparison.served).sha256 != comparison.served_sha256:
        raise ConfigurationError(f"{name} was compared with other weights of {comparison.served}. {run}")
    worse = [
        f"{measure} by {-value:.3f} [{-high:.3f}, {-low:.3f}]"
        for measure, (value, low, high) in comparison.better_by.items()
        if high < 0
    ]
    if worse:
        raise ConfigurationError(
            f"{name} is worse than {comparison.served} on the questions of {tenant}: {'; '.join(worse)}. "
            "Serve that one, or tune again."
        )


class CompatibleRow(StrictModel):
    """Image, SDK, machine image and driver that work together: one row of ``compatibility.toml``."""

    image: str
    """Name in images.lock.toml."""
    tag: str
    accelerators: tuple[Accelerator, ...] = Field(min_length=1)
    sdk: str | None = None
    """Version of Neuron or CUDA in the image, for compiling and running."""
    ami: str | None = None
    """``InferenceAmiVersion``; SageMaker's default when absent."""
    driver: str | None = None
    """Version in the machine image."""
    source: str
    warning: str | None = None
    """What was not tested with this combination."""


WARNED_DAYS = 180
"""Days before an end of support from which a deployment warns."""


class Part(StrictModel):
    """A part of a deployment that somebody else supports, and until when."""

    name: str
    marks: tuple[str, ...] = Field(min_length=1)
    """Texts of which a template that uses the part has one: "python3.13", "/tei-cpu"."""
    tags: tuple[str, ...] = ()
    """Tags of images in images.lock.toml that are this part; a test refuses another tag there."""
    end: date | Literal["not announced"]
    """Last day of its support. No date is a guess."""
    read: date
    """When ``source`` was read; the night's check refuses one of more than 90 days ago."""
    source: str = Field(min_length=1)
    """Where the end stands; where none does, what was looked at."""
    note: str | None = None

    @property
    def last_day(self) -> date:
        """The end; the last of all days where none is announced."""
        return self.end if isinstance(self.end, date) else date.max

    def is_refused(self, *, today: date, accepted: date | None) -> bool:
        """Return whether its support is over, and ended after the day that a tenant file accepts."""
        return (accepted or date.min) < self.last_day < today

    def __str__(self) -> str:
        return f"{self.name} is supported until {self.end} ({self.source})"


class CompatibilityTable(StrictModel):
    """``model_artifacts/compatibility.toml``. A combination without a row is refused.

    The parts change together: an artifact that one image compiled does not load in another, and an image
    needs the driver of its machine image.
    """

    row: tuple[CompatibleRow, ...]
    part: tuple[Part, ...]

    def used(self, text: str) -> list[Part]:
        """Return the parts that a text names: templates as JSON, or an image's address. The first to end is
        the first."""
        named = (part for part in self.part if any(mark in text for mark in part.marks))
        return sorted(named, key=lambda part: part.last_day)

    def ending(self, text: str, *, today: date) -> list[Part]:
        """Return those whose support is over or ends within ``WARNED_DAYS``."""
        return [part for part in self.used(text) if (part.last_day - today).days <= WARNED_DAYS]

    def until(self, text: str) -> str:
        """Return the first end of what a text names: "2026-06-30 (Amazon Linux 2)", or "not announced"."""
        dated = (f"{part.end} ({part.name})" for part in self.used(text) if part.last_day < date.max)
        return next(dated, "not announced")

    def row_of(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> CompatibleRow:
        """Return the row of an artifact. Raises ConfigurationError with the rows of its image."""
        tag = images.image(manifest.image).tag
        same_image = [row for row in self.row if row.image == manifest.image]
        for row in same_image:
            if (row.tag, row.sdk, row.ami) == (tag, manifest.sdk, manifest.ami) and (
                manifest.accelerator in row.accelerators
            ):
                return row
        wanted = _combination(manifest, tag=tag, accelerators=(manifest.accelerator,))
        known = "; ".join(_combination(row, tag=row.tag, accelerators=row.accelerators) for row in same_image)
        raise ConfigurationError(
            f"{manifest.name}: {wanted} are not known together. "
            f"Known: {known or 'none'}. Image, SDK and AMI change together, with the artifact compiled again."
        )

    def check(self, manifest: LlmManifest | EmbeddingManifest, *, images: ImageLock) -> None:
        """Raises ConfigurationError for an unknown combination, or an artifact that another image
        compiled."""
        self.row_of(manifest, images=images)
        locked = images.image(manifest.image).digest
        if manifest.image_digest and locked and manifest.image_digest != locked:
            raise ConfigurationError(
                f"{manifest.name} was compiled by {manifest.image_digest}, and images.lock.toml has "
                f"{locked} for {manifest.image}. Compile it again with that image, or lock the other."
            )


def _combination(
    row: CompatibleRow | LlmManifest | EmbeddingManifest, *, tag: str, accelerators: Sequence[Accelerator]
) -> str:
    sdk, ami = row.sdk or "no SDK", row.ami or "any AMI"
    return f"{row.image} {tag} with {sdk} on {ami} for {', '.join(accelerators)}"


def load_compatibility(path: Path) -> CompatibilityTable:
    """Read the table. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, CompatibilityTable)


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance type of SageMaker endpoints."""

    name: str
    accelerator: Accelerator
    vcpus: int
    host_gib: int
    cores: int = 0
    """NeuronCores, or GPUs: tensor parallelism is spread over them."""
    device_gb: int = 0
    """Memory of all devices together, 10⁹ bytes."""
    nvme_gb: int = 0
    """Local disks; without them the volume is EBS, which has a size and a key."""

    @property
    def has_local_disk(self) -> bool:
        return self.nvme_gb > 0


def instance_named(name: str) -> Instance:
    """Return an instance type by SageMaker's name. Raises ConfigurationError with the known ones."""
    for instance in INSTANCES:
        if instance.name == name:
            return instance
    known = ", ".join(instance.name for instance in INSTANCES)
    raise ConfigurationError(f"{name}: not an instance that is known here; known are {known}.")


# Sources, read 2026-11-20: https://aws.amazon.com/ec2/instance-types/ (families Inf2, Trn1, G5, G6, G6e, C7i,
# M7i; SageMaker's names are EC2's after ``ml.``), and
# https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/ (two cores and 32 GB a chip).
INSTANCES: tuple[Instance, ...] = (
    # name, accelerator, vCPUs, host GiB, cores, device GB, NVMe GB
    Instance("ml.inf2.xlarge", "inf2", 4, 16, 2, 32),
    Instance("ml.inf2.8xlarge", "inf2", 32, 128, 2, 32),
    Instance("ml.inf2.24xlarge", "inf2", 96, 384, 12, 192),
    Instance("ml.inf2.48xlarge", "inf2", 192, 768, 24, 384),
    Instance("ml.trn1.2xlarge", "trn1", 8, 32, 2, 32, 475),
    Instance("ml.trn1.32xlarge", "trn1", 128, 512, 32, 512, 7600),
    Instance("ml.g5.xlarge", "gpu", 4, 16, 1, 24, 250),
    Instance("ml.g5.2xlarge", "gpu", 8, 32, 1, 24, 450),
    Instance("ml.g5.4xlarge", "gpu", 16, 64, 1, 24, 600),
    Instance("ml.g5.12xlarge", "gpu", 48, 192, 4, 96, 3800),
    Instance("ml.g5.24xlarge", "gpu", 96, 384, 4, 96, 3800),
    Instance("ml.g5.48xlarge", "gpu", 192, 768, 8, 192, 7600),
    Instance("ml.g6.xlarge", "gpu", 4, 16, 1, 24, 250),
    Instance("ml.g6.2xlarge", "gpu", 8, 32, 1, 24, 450),
    Instance("ml.g6.4xlarge", "gpu", 16, 64, 1, 24, 600),
    Instance("ml.g6.12xlarge", "gpu", 48, 192, 4, 96, 3760),
    Instance("ml.g6e.xlarge", "gpu", 4, 32, 1, 48, 250),
    Instance("ml.g6e.2xlarge", "gpu", 8, 64, 1, 48, 450),
    Instance("ml.g6e.4xlarge", "gpu", 16, 128, 1, 48, 600),
    Instance("ml.g6e.12xlarge", "gpu", 48, 384, 4, 192, 3800),
    Instance("ml.c7i.large", "cpu", 2, 4),
    Instance("ml.c7i.xlarge", "cpu", 4, 8),
    Instance("ml.c7i.2xlarge", "cpu", 8, 16),
    Instance("ml.c7i.4xlarge", "cpu", 16, 32),
    Instance("ml.m7i.large", "cpu", 2, 8),
    Instance("ml.m7i.xlarge", "cpu", 4, 16),
    Instance("ml.m7i.2xlarge", "cpu", 8, 32),
)

DEFAULT_INSTANCES: dict[Accelerator, str] = {
    "inf2": "ml.inf2.8xlarge",  # the xlarge has the same chip, and too little host memory to load 8B
    "trn1": "ml.trn1.2xlarge",
    "gpu": "ml.g6e.2xlarge",
    "cpu": "ml.c7i.xlarge",
}
"""Used when the tenant file names no instance."""


@dataclass(frozen=True, slots=True)
class MemorySum:
    """Bytes of the weights, and of the key-value cache of all streams at their full length."""

    weights: int
    cache: int
    cache_factors: str
    """The factors of ``cache``, with their names."""

    @property
    def total(self) -> int:
        return self.weights + self.cache

    def __str__(self) -> str:
        return (
            f"weights {self.weights / _GB:.1f} GB + key-value cache {self.cache / _GB:.1f} GB "
            f"({self.cache_factors}) = {self.total / _GB:.1f} GB"
        )


def memory_of(manifest: LlmManifest) -> MemorySum:
    """Return the device memory that the model needs.

    The cache has keys and values of each stream, token, layer and head. Each core keeps at least one head, so
    with more cores than key-value heads there are as many heads as cores.
    """
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
    words = " x ".join(f"{factor} {name}" for name, factor in factors.items())
    return MemorySum(manifest.weights_bytes, prod(factors.values()), words)


def check_llm_fit(manifest: LlmManifest, instance: Instance) -> None:
    """Raise ConfigurationError, with the sum of memory, unless the model fits the instance."""
    _check_accelerator(manifest, instance)
    needed = memory_of(manifest)
    if instance.accelerator == "cpu":  # no device: the cache is in the host's memory too
        _check_host(manifest.name, instance, needed=needed.total, said=str(needed), small=True)
        return
    if manifest.tensor_parallel > instance.cores:
        raise ConfigurationError(
            f"{manifest.name} is spread over {manifest.tensor_parallel} cores (tensor_parallel), and "
            f"{instance.name} has {instance.cores}."
        )
    # For weights and cache, on the cores that one copy of the model takes.
    usable = _DEVICE_SHARE * instance.device_gb * _GB * manifest.tensor_parallel / instance.cores
    if needed.total > usable:
        raise ConfigurationError(
            f"{manifest.name} does not fit the devices of {instance.name}: {needed}, and {_DEVICE_SHARE:.0%} "
            f"of the {usable / _DEVICE_SHARE / _GB:.0f} GB of {manifest.tensor_parallel} of its "
            f"{instance.cores} cores are {usable / _GB:.1f} GB. Fewer streams (batch_size), shorter ones "
            "(sequence_length), more cores (tensor_parallel), or another instance."
        )
    parts = f"weights {manifest.weights_bytes / _GIB:.1f} GiB"
    _check_host(manifest.name, instance, needed=manifest.weights_bytes, said=parts, small=False)


def check_embedding_fit(manifest: EmbeddingManifest, instance: Instance) -> None:
    """Raise ConfigurationError, with the sum of memory, unless the model fits the instance."""
    _check_accelerator(manifest, instance)
    parts = f"weights {manifest.weights_bytes / _GIB:.1f} GiB"
    _check_host(manifest.name, instance, needed=manifest.weights_bytes, said=parts, small=True)


def _check_accelerator(manifest: LlmManifest | EmbeddingManifest, instance: Instance) -> None:
    """Raise ConfigurationError where the artifact is made for another accelerator."""
    if manifest.accelerator != instance.accelerator:
        raise ConfigurationError(
            f"{manifest.name} is made for {manifest.accelerator}, and {instance.name} has "
            f"{instance.accelerator}."
        )


def _check_host(name: str, instance: Instance, *, needed: int, said: str, small: bool) -> None:
    """Raise ConfigurationError unless ``needed`` bytes and a reserve fit the host's memory, into which all
    weights are read.

    ``said``: what needs them, for the error. ``small``: the server needs the smaller reserve.
    """
    reserve = _SMALL_HOST_RESERVE_BYTES if small else _HOST_RESERVE_BYTES
    if needed + reserve > instance.host_gib * _GIB:
        raise ConfigurationError(
            f"{name} does not load in the {instance.host_gib} GiB of host memory of {instance.name}: {said}, "
            f"and {reserve / _GIB:.0f} GiB for the system and the container, are "
            f"{(needed + reserve) / _GIB:.1f} GiB."
        )
