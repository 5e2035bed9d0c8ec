"""Model artifacts from S3: the few files that callers of an endpoint need, copied before serving begins."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import FlexibleChecksumError

from assistant.adapters.aws.aws_calls import ServiceRefusedError, aws_call
from assistant.adapters.model_artifacts import FACTS_FILE, TOKENIZER_FILE
from assistant.domain.errors import ConfigurationError, DependencyError

_LIMIT_S = 60.0
"""One file, with the client's own retries."""
_LONGEST_BYTES = 64 * 1024 * 1024
"""The largest vocabularies in use make a tokenizer.json of 30 MiB."""
_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')


async def download_artifacts(client: Any, *, prefix: str, models: AbstractSet[str], into: Path) -> None:
    """Copy ``<prefix><model>/artifact.json`` and ``tokenizer.json`` of each model to ``<into>/<model>/``.

    ``client`` is an aiobotocore client of S3; its role needs s3:GetObject below the prefix (``s3://…``).
    A file stands in its place whole or not at all; processes that share the folder may copy at once.
    Raises ConfigurationError naming the object that is not there, not allowed, too large or damaged, and
    DependencyError when S3 does not answer.
    """
    place = urlsplit(prefix)
    folder = place.path.strip("/")
    for model in sorted(models):
        for name in (TOKENIZER_FILE, FACTS_FILE):  # facts last: a folder that has them is complete
            key = f"{folder}/{model}/{name}".lstrip("/")
            content = await _read(client, bucket=place.netloc, key=key)
            await asyncio.to_thread(_write_whole, into / model / name, content)


async def _read(client: Any, *, bucket: str, key: str) -> bytes:
    where = f"s3://{bucket}/{key}"
    try:
        async with aws_call(f"{where} in S3", limit_s=_LIMIT_S):
            found = await client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
            content = await _read_body(found["Body"], size_bytes=found["ContentLength"], where=where)
    except ServiceRefusedError as error:
        raise ConfigurationError(
            f"{where} cannot be read ({error.reason}); put the model's artifact there, or allow "
            "s3:GetObject on it."
        ) from None
    if len(content) != found["ContentLength"] or not _has_etag(content, found):
        raise _damaged(where)
    return content


async def _read_body(body: Any, *, size_bytes: int, where: str) -> bytes:
    async with body:  # closes the connection when it is left early
        if size_bytes > _LONGEST_BYTES:
            raise ConfigurationError(f"{where} has {size_bytes} bytes; at most {_LONGEST_BYTES} are taken.")
        try:
            return await body.read()
        except FlexibleChecksumError:
            raise _damaged(where) from None


def _has_etag(content: bytes, found: Mapping[str, Any]) -> bool:
    """Return whether the content is what S3's ETag says, where it says it: by MD5, unless the object came in
    parts or is encrypted by KMS. Then the checksum above stands alone."""
    plain = _PLAIN_MD5.fullmatch(found["ETag"])
    if plain is None or found.get("ServerSideEncryption", "AES256") != "AES256":
        return True
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == plain[1]


def _damaged(where: str) -> DependencyError:
    return DependencyError(f"{where} came damaged: its checksum is another; start again.")


def _write_whole(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written ({error.strerror}); name a writable folder as model_artifacts_dir."
        ) from None
