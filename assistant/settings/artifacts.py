"""Manifests of model artifacts, ``model_artifacts/<task>/<name>/manifest.toml``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.domain.errors import ConfigurationError


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    model: str
    licence: str
    revision: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the packaged artifact; absent until it was packaged once."""
    image: str
    """Name in images.lock.toml of the image that compiled it and serves it."""


_ManifestT = TypeVar("_ManifestT", bound=_Manifest)


class LlmManifest(_Manifest):
    accelerator: Literal["inf2", "trn1", "gpu", "cpu"]
    sequence_length: int
    batch_size: int
    tensor_parallel: int
    dtype: str


class EmbeddingManifest(_Manifest):
    accelerator: Literal["inf2", "trn1", "gpu", "cpu"] = "cpu"
    dimensions: int
    pooling: Literal["mean", "cls"]
    max_tokens: int


def load_llm_manifest(folder: Path) -> LlmManifest:
    """Read ``folder/manifest.toml``. Raises ConfigurationError."""
    return _load(LlmManifest, folder)


def load_embedding_manifest(folder: Path) -> EmbeddingManifest:
    """Read ``folder/manifest.toml``. Raises ConfigurationError."""
    return _load(EmbeddingManifest, folder)


def _load(kind: type[_ManifestT], folder: Path) -> _ManifestT:
    path = folder / "manifest.toml"
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from None
