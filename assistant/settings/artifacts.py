"""Manifests of model artifacts, ``model_artifacts/<task>/<name>/manifest.toml``.

A manifest says what a model artifact is, what it was compiled with, and what its memory needs follow from.
The bytes lie in the tenant's models bucket under the artifact's own hash; nothing here fetches them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment_sections import Accelerator, ArtifactName
from assistant.settings.images import Digest
from assistant.settings.strict_file import read_strict

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
