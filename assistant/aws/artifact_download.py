"""What a process copies from S3 before it serves: few files of model artifacts, and a tenant's file."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from assistant.adapters.model_artifacts import FACTS_FILE, TOKENIZER_FILE, ModelFacts
from assistant.aws.s3_objects import ObjectPlace, read_object, write_whole
from assistant.domain.errors import ConfigurationError
from assistant.settings.tenant import TenantName

_LONGEST_ARTIFACT_BYTES = 64 * 1024 * 1024
"""The largest vocabularies in use make a tokenizer.json of 30 MiB."""
_LONGEST_TENANT_FILE_BYTES = 4 * 1024 * 1024
"""2,000 entries of a glossary, 200 characters on each side, are under a MiB."""
_tenant_name: TypeAdapter[str] = TypeAdapter(TenantName)


async def download_artifacts(client: Any, *, prefix: str, models: AbstractSet[str], into: Path) -> None:
    """Copy ``<prefix><model>/artifact.json`` and ``tokenizer.json`` of each model to ``<into>/<model>/``.

    ``client`` is an aiobotocore client of S3; its role needs s3:GetObject below the prefix (``s3://…``).
    A file stands in its place whole or not at all; processes that share the folder may copy at once.
    Raises ConfigurationError naming the object that is not there, not allowed, too large or damaged, and
    DependencyError when S3 does not answer.
    """
    for model in sorted(models):
        for name in (TOKENIZER_FILE, FACTS_FILE):  # facts last: a folder that has them is complete
            content = await _read_artifact(client, prefix=prefix, name=f"{model}/{name}")
            await asyncio.to_thread(write_whole, into / model / name, content, setting="model_artifacts_dir")


async def read_facts(client: Any, *, prefix: str, model: str) -> ModelFacts:
    """Return what ``<prefix><model>/artifact.json`` says. Raises as ``download_artifacts`` does."""
    content = await _read_artifact(client, prefix=prefix, name=f"{model}/{FACTS_FILE}")
    try:
        return ModelFacts.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(
            f"{prefix}{model}/{FACTS_FILE}: not an artifact of schema 1 ({error.error_count()} errors)."
        ) from None


async def download_tenant_file(client: Any, *, uri: str, into: Path) -> str:
    """Copy the tenant file at ``uri`` (``s3://…``) to ``<into>/<name>.toml``, and return the name in it.

    What else it says is not looked at. Raises as ``download_artifacts`` does.
    """
    place = ObjectPlace.parse(uri)
    content = await read_object(
        client, place, longest_bytes=_LONGEST_TENANT_FILE_BYTES, advice="put the tenant file there"
    )
    try:
        name = _tenant_name.validate_python(tomllib.loads(content.decode()).get("name"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(f"{place} is no tenant file: {type(error).__name__}.") from None
    await asyncio.to_thread(write_whole, into / f"{name}.toml", content, setting="tenants_dir")
    return name


async def _read_artifact(client: Any, *, prefix: str, name: str) -> bytes:
    folder = ObjectPlace.parse(prefix)
    place = ObjectPlace(folder.bucket, f"{folder.key.rstrip('/')}/{name}".lstrip("/"))
    return await read_object(
        client, place, longest_bytes=_LONGEST_ARTIFACT_BYTES, advice="put the model's artifact there"
    )
