"""Whole objects of S3 as bytes and as files: checked, bounded, and in their place whole or not at all."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import FlexibleChecksumError

from assistant.aws.aws_calls import ServiceRefusedError, aws_call
from assistant.domain.errors import ConfigurationError, DependencyError

_LIMIT_S = 60.0
"""One object, with the client's own retries."""
_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> ObjectPlace:
        """Return the place of ``s3://bucket/key``."""
        parts = urlsplit(uri)
        return cls(parts.netloc, parts.path.lstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


async def read_object(client: Any, place: ObjectPlace, *, longest_bytes: int, advice: str) -> bytes:
    """Return the object's content.

    ``client`` is an aiobotocore client of S3; its role needs s3:GetObject. ``advice`` says what to do where
    the object is not there ("put the model's artifact there"). Raises ConfigurationError naming the object
    that cannot be read or is larger than ``longest_bytes``, and DependencyError when S3 does not answer or
    the content came damaged.
    """
    try:
        async with aws_call(f"{place} in S3", limit_s=_LIMIT_S):
            found = await client.get_object(Bucket=place.bucket, Key=place.key, ChecksumMode="ENABLED")
            content = await _read_body(found, place, longest_bytes=longest_bytes)
    except ServiceRefusedError as error:
        raise ConfigurationError(
            f"{place} cannot be read ({error.reason}); {advice}, or allow s3:GetObject on it."
        ) from None
    if len(content) != found["ContentLength"] or not _has_etag(content, found):
        raise _damaged(place)
    return content


def write_whole(path: Path, content: bytes, *, setting: str) -> None:
    """Write the file whole or not at all; processes that share the folder may write at once.

    Raises ConfigurationError naming the ``setting`` by which another folder is chosen.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(draft).replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written ({error.strerror}); name a writable folder as {setting}."
        ) from None


async def _read_body(found: Mapping[str, Any], place: ObjectPlace, *, longest_bytes: int) -> bytes:
    async with found["Body"] as body:  # closes the connection when it is left early
        if found["ContentLength"] > longest_bytes:
            raise ConfigurationError(
                f"{place} has {found['ContentLength']} bytes; at most {longest_bytes} are taken."
            )
        try:
            return await body.read()
        except FlexibleChecksumError:
            raise _damaged(place) from None


def _has_etag(content: bytes, found: Mapping[str, Any]) -> bool:
    """Return whether the content is what S3's ETag says, where it says it: by MD5, unless the object came in
    parts or is encrypted by KMS. Then the checksum above stands alone."""
    plain = _PLAIN_MD5.fullmatch(found["ETag"])
    if plain is None or found.get("ServerSideEncryption", "AES256") != "AES256":
        return True
    return hashlib.md5(content, usedforsecurity=False).hexdigest() == plain[1]


def _damaged(place: ObjectPlace) -> DependencyError:
    return DependencyError(f"{place} came damaged: its checksum is another; start again.")
