"""Raw files of the inbox bucket."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from assistant.aws.aws_calls import ServiceRefusedError, aws_call
from assistant.domain.errors import DependencyError, TooLargeError

LARGEST_RAW_FILE_BYTES = 256 * 1024 * 1024
"""Of one file. Twenty thousand documents of common size; what is larger is cut by whoever sends it."""
_LIMIT_S = 120.0
_PART_BYTES = 1024 * 1024


class S3RawFiles:
    """``RawFiles`` of one bucket; ``client`` is an aiobotocore client of S3. Its role needs s3:GetObject, and
    s3:ListBucket, without which S3 refuses what is not there."""

    def __init__(self, client: Any, *, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    async def fetch(self, key: str, into: Path) -> bool:
        try:
            async with aws_call("The inbox", limit_s=_LIMIT_S):
                found = await self._client.get_object(Bucket=self._bucket, Key=key)
                size_bytes = int(found["ContentLength"])
                async with found["Body"] as body:
                    if size_bytes > LARGEST_RAW_FILE_BYTES:
                        raise TooLargeError(
                            f"A raw file has {size_bytes} bytes; at most {LARGEST_RAW_FILE_BYTES} are taken."
                        )
                    written_bytes = await _copy(body, into)
        except ServiceRefusedError as error:
            if error.reason in ("NoSuchKey", "404"):
                return False
            raise
        if written_bytes != size_bytes:
            raise DependencyError("The inbox answered a part of a raw file; try again.")
        return True


async def _copy(body: Any, into: Path) -> int:
    written_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        while part := await body.read(_PART_BYTES):
            written_bytes += await asyncio.to_thread(file.write, part)
    return written_bytes
