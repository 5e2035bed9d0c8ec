"""S3 objects that become local files: model artifacts, a tenant's file, raw files of the inbox bucket."""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.aws.s3 import DamagedObjectError, read_object
from assistant.domain.errors import ConfigurationError, DependencyError, TooLargeError
from assistant.model_artifacts import FACTS_FILE, TOKENIZER_FILE, ModelFacts
from assistant.settings.tenant import TenantName

_LIMIT_S = 60.0
"""One object, with the client's own retries."""
_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')


_LONGEST_ARTIFACT_BYTES = 64 * 1024 * 1024
"""The largest vocabularies in use make a tokenizer.json of 30 MiB."""
_LONGEST_TENANT_FILE_BYTES = 4 * 1024 * 1024
"""2,000 entries of a glossary, 200 characters on each side, are under a MiB."""
LARGEST_RAW_FILE_BYTES = 256 * 1024 * 1024
"""Of one file: about twenty thousand documents of common size. Senders must cut a larger one."""
_RAW_LIMIT_S = 120.0
_RAW_PART_BYTES = 1024 * 1024
_tenant_name: TypeAdapter[str] = TypeAdapter(TenantName)


async def download_artifacts(client: Any, *, prefix: str, models: AbstractSet[str], into: Path) -> None:
    """Copy ``<prefix><model>/artifact.json`` and ``tokenizer.json`` of each model to ``<into>/<model>/``.

    ``client`` is an aiobotocore client of S3; its role needs s3:GetObject below the prefix (``s3://…``).
    A file is written whole or not at all; processes that share the folder may copy at once. Raises
    ConfigurationError naming the object that is missing, denied, too large or damaged, and DependencyError
    when S3 does not respond.
    """
    for model in sorted(models):
        for name in (TOKENIZER_FILE, FACTS_FILE):  # facts last: a folder that has them is complete
            content = await _read_artifact(client, prefix=prefix, name=f"{model}/{name}")
            await asyncio.to_thread(_write_whole, into / model / name, content, setting="model_artifacts_dir")


async def read_facts(client: Any, *, prefix: str, model: str) -> ModelFacts:
    """Return the content of ``<prefix><model>/artifact.json``. Raises as ``download_artifacts`` does."""
    content = await _read_artifact(client, prefix=prefix, name=f"{model}/{FACTS_FILE}")
    try:
        return ModelFacts.model_validate_json(content)
    except ValidationError as error:
        where, errors = f"{prefix}{model}/{FACTS_FILE}", error.error_count()
        raise ConfigurationError(f"{where}: not an artifact of schema 1 ({errors} errors).") from None


async def download_tenant_file(client: Any, *, uri: str, into: Path) -> str:
    """Copy the tenant file at ``uri`` (``s3://…``) to ``<into>/<name>.toml``, and return the name in it.

    Nothing else in it is checked. Raises as ``download_artifacts`` does.
    """
    advice = "put the tenant file there"
    content = await _read_object(client, uri, longest_bytes=_LONGEST_TENANT_FILE_BYTES, advice=advice)
    try:
        name = _tenant_name.validate_python(tomllib.loads(content.decode()).get("name"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(f"{uri} is no tenant file: {type(error).__name__}.") from None
    await asyncio.to_thread(_write_whole, into / f"{name}.toml", content, setting="tenants_dir")
    return name


async def download_questions(client: Any, *, uri: str, into: Path) -> None:
    """Copy the protected questions at ``uri`` (``s3://…``) to a file. Raises as ``download_artifacts``
    does."""
    content = await _read_object(
        client,
        uri,
        longest_bytes=_LONGEST_ARTIFACT_BYTES,
        advice="put the file of assistant learn questions there",
    )
    await asyncio.to_thread(_write_whole, into, content, setting="the folder of protected questions")


class S3RawFiles:
    """``RawFiles`` of one bucket; ``client`` is an aiobotocore client of S3. Its role needs s3:GetObject, and
    s3:ListBucket, without which S3 denies a missing object instead of reporting it."""

    def __init__(self, client: Any, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def fetch(self, key: str, into: Path) -> bool:
        try:
            async with aws_call("The inbox", limit_s=_RAW_LIMIT_S):
                found = await self._client.get_object(Bucket=self._bucket, Key=key)
                size_bytes = int(found["ContentLength"])
                async with found["Body"] as body:
                    if size_bytes > LARGEST_RAW_FILE_BYTES:
                        limit = f"the limit is {LARGEST_RAW_FILE_BYTES}"
                        raise TooLargeError(f"A raw file has {size_bytes} bytes; {limit}.")
                    written_bytes = await _copy(body, into)
        except ServiceRefusedError as error:
            if error.reason in ("NoSuchKey", "404"):
                return False
            raise
        if written_bytes != size_bytes:
            raise DependencyError("The inbox returned a part of a raw file. Retry.")
        return True


async def _copy(body: Any, into: Path) -> int:
    written_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        while part := await body.read(_RAW_PART_BYTES):
            written_bytes += await asyncio.to_thread(file.write, part)
    return written_bytes


async def _read_artifact(client: Any, *, prefix: str, name: str) -> bytes:
    uri, advice = f"{prefix.rstrip('/')}/{name}", "put the model's artifact there"
    return await _read_object(client, uri, longest_bytes=_LONGEST_ARTIFACT_BYTES, advice=advice)


async def _read_object(client: Any, uri: str, *, longest_bytes: int, advice: str) -> bytes:
    """Return the content of ``s3://bucket/key``.

    ``advice`` says what to do where the object is missing ("put the model's artifact there"). Raises
    ConfigurationError naming the object that cannot be read or is larger than ``longest_bytes``, and
    DependencyError when S3 does not respond or the content is damaged.
    """
    url = urlsplit(uri)
    damaged = DependencyError(f"{uri} is damaged: its checksum does not match. Start again.")
    what, key = f"{uri} in S3", url.path.lstrip("/")
    try:
        found = await read_object(
            client, bucket=url.netloc, key=key, longest_bytes=longest_bytes, what=what, limit_s=_LIMIT_S
        )
        reason = "NoSuchKey"
    except TooLargeError as error:
        raise ConfigurationError(f"{uri} cannot be read. {error.message}") from None
    except DamagedObjectError:
        raise damaged from None
    except ServiceRefusedError as error:
        found, reason = None, error.reason
    if found is None:
        refused = f"{uri} cannot be read ({reason})"
        raise ConfigurationError(f"{refused}; {advice}, or allow s3:GetObject on it.")
    content, response = found
    if not _matches_etag(content, response):
        raise damaged
    return content


def _matches_etag(content: bytes, found: Mapping[str, Any]) -> bool:
    """Return whether the content has the MD5 of S3's ETag. The ETag has none for an object that was uploaded
    in parts or is encrypted by KMS; S3's own checksum then is the only check."""
    plain = _PLAIN_MD5.fullmatch(found["ETag"])
    if plain is None or found.get("ServerSideEncryption", "AES256") != "AES256":
        return True
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == plain[1]


def _write_whole(path: Path, content: bytes, *, setting: str) -> None:
    """Write the file whole or not at all; processes that share the folder may write at once.

    Raises ConfigurationError naming the ``setting`` that chooses the folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except OSError as error:
        advice = f"name a writable folder as {setting}"
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror}); {advice}.") from None
