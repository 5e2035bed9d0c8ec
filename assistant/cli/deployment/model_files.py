"""What has to lie in a tenant's models bucket before anything starts that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assistant.settings.deployment import ModelsSection
from assistant.settings.model_artifacts import CALLERS_PREFIX, load_embedding_manifest, load_llm_manifest

_OF_CALLERS = ("artifact.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files below one prefix of the bucket, which ends in ``/``."""

    prefix: str
    files: tuple[str, ...]


def model_files(models: ModelsSection, *, folder: Path) -> list[ModelFiles]:
    """Return what the manifests in ``folder`` (``model_artifacts``) name. Raises ConfigurationError."""
    return list(_model_files(models, folder))


def _model_files(models: ModelsSection, folder: Path) -> Iterator[ModelFiles]:
    manifests = {
        "llm": load_llm_manifest(folder / "llm" / models.llm),
        "embedding": load_embedding_manifest(folder / "embedding" / models.embedding),
    }
    for task, manifest in manifests.items():
        yield ModelFiles(f"{task}/{manifest.name}/{manifest.sha256}/", manifest.files)
    for manifest in manifests.values():
        yield ModelFiles(f"{CALLERS_PREFIX}{manifest.served_name}/", _OF_CALLERS)
