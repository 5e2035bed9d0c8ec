"""What is derived from a model's weights once, and kept in a folder named as the model.

``artifact.json`` describes the model to whoever talks to its endpoint; ``tokenizer.json`` counts its tokens.
``python -m assistant.model_server.artifact`` makes both, by the same settings as the server.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError, LocalRuntimeError
from assistant.domain.public import PublicModel
from assistant.model_server.weights import Weights, locate_weights
from assistant.settings.model_artifacts import AnsweringTable
from assistant.settings.process import ModelServerSettings

ARTIFACT_FILE = "artifact.json"
TOKENIZER_FILE = "tokenizer.json"
_BUILDER_VERSION = 3
"""Raise it whenever what the builders write changes: older artifacts are then built anew."""
_LOCK_TIMEOUT_S = 120.0


class ModelArtifact(PublicModel):
    """``artifact.json``. A fact that the task does not have is null."""

    schema_version: Literal[1] = 1
    builder_version: int = _BUILDER_VERSION
    model: str
    task: Literal["embedding", "generation"]
    digest: str
    """SHA-256 (hex) of the weights' file."""
    max_input_tokens: int
    """The longest input, special tokens included."""
    dimensions: int | None = None
    pooling: Literal["mean", "cls"] | None = None
    cosine_unrelated: float | None = None
    """Mean cosine of a question with text that has nothing to do with it, by ``cosine_means``."""
    cosine_related: float | None = None
    """Mean cosine of a question with the text that answers it."""
    context_tokens: int | None = None
    """Prompt and answer of one stream together."""
    template_tokens_per_message: int | None = None
    """At most so many tokens the chat template adds around one message's content."""
    template_tokens_fixed: int | None = None
    """At most so many it adds once to a prompt that begins with a system message."""
    answering: AnsweringTable | None = None
    """What an LLM is trusted with, and how it is asked: the table of its manifest."""


def ensure_artifact(settings: ModelServerSettings) -> ModelArtifact:
    """Return the model's artifact, built first when it is missing or not of these weights and settings.

    Two processes at once build once. Raises ConfigurationError, LocalRuntimeError.
    """
    weights = locate_weights(settings)
    folder = artifact_folder(settings, weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "build.lock", timeout=_LOCK_TIMEOUT_S):
            return _ensure_locked(settings, weights=weights, folder=folder)
    except Timeout:
        raise LocalRuntimeError(f"{folder}: another process has been building for {_LOCK_TIMEOUT_S:.0f} s.")  # noqa: B904
    except OSError as error:
        raise LocalRuntimeError(f"{folder}: cannot be written: {error.strerror or error}.") from None


def artifact_folder(settings: ModelServerSettings, weights: Weights) -> Path:
    return settings.artifacts_dir / weights.name


def read_artifact(folder: Path) -> ModelArtifact | None:
    """Return the folder's artifact, or None when there is none of this schema."""
    try:
        return ModelArtifact.model_validate_json((folder / ARTIFACT_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # by the umask: an image's weights are read by another user
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _ensure_locked(settings: ModelServerSettings, *, weights: Weights, folder: Path) -> ModelArtifact:
    digest = weights.digest()
    if weights.expected not in (None, digest):
        raise ConfigurationError(
            f"{weights.file}: the weights changed since {weights.name} was added. Add them under another "
            "name: assistant models add PATH --name NAME."
        )
    found = read_artifact(folder)
    if (
        found is not None
        and (folder / TOKENIZER_FILE).exists()
        and _same_model(found, settings=settings, weights=weights, digest=digest)
    ):
        artifact = _with_limits_of(settings, found, weights=weights)
        tokenizer = None
    else:
        artifact, tokenizer = _build(settings, weights=weights, digest=digest)
    if tokenizer is not None:
        write_whole(folder / TOKENIZER_FILE, tokenizer)
    if artifact != found:
        write_whole(
            folder / ARTIFACT_FILE, artifact.model_dump_json(indent=1).encode()
        )  # last: it says "whole"
    return artifact


def _build(settings: ModelServerSettings, *, weights: Weights, digest: str) -> tuple[ModelArtifact, bytes]:
    if settings.task == "embedding":
        from assistant.model_server.embedding_artifact import build_embedding_artifact

        return build_embedding_artifact(weights, settings=settings, digest=digest)
    from assistant.model_server.generation_artifact import build_generation_artifact

    return build_generation_artifact(weights, settings=settings, digest=digest)


def _same_model(
    found: ModelArtifact, *, settings: ModelServerSettings, weights: Weights, digest: str
) -> bool:
    if (found.builder_version, found.task, found.digest) != (_BUILDER_VERSION, settings.task, digest):
        return False
    if settings.task == "generation":
        return True
    from assistant.model_server.embedding_artifact import pooling_of

    limits = (settings.max_input_tokens, pooling_of(weights))
    return (found.max_input_tokens, found.pooling) == limits


def _with_limits_of(
    settings: ModelServerSettings, found: ModelArtifact, *, weights: Weights
) -> ModelArtifact:
    """Context and trust are settings: what was measured of the model holds for any."""
    if settings.task == "embedding":
        return found
    update = {
        "context_tokens": settings.context_tokens,
        "max_input_tokens": settings.context_tokens - 1,
        "answering": weights.answering,
    }
    return found.model_copy(update=update)


def main() -> None:
    """Build the artifact that the environment's settings name, and print it."""
    try:
        artifact = ensure_artifact(ModelServerSettings.read())
    except (ConfigurationError, LocalRuntimeError) as error:
        sys.exit(error.message)
    sys.stdout.write(artifact.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
