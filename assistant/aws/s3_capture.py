"""Quarantine and clean capture in two buckets, both versioned."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from assistant.aws.aws_calls import ServiceRefusedError, aws_call
from assistant.domain.errors import DependencyError, TooLargeError
from assistant.learning.redact_capture import RawCapture

LARGEST_CAPTURE_BYTES = 128 * 1024 * 1024
"""Of one object: it is held in memory, some three times. SageMaker closes a file after minutes."""
_LIMIT_S = 60.0
_MOST_DELETED = 1000
"""By one call, says S3."""
_QUARANTINE = "The quarantine"


class S3CaptureStore:
    """``CaptureStore``; ``client`` is an aiobotocore client of S3. Its role needs, of the quarantine,
    s3:GetObject, s3:DeleteObject, s3:DeleteObjectVersion, s3:ListBucket and s3:ListBucketVersions; of clean
    capture s3:PutObject."""

    def __init__(self, client: Any, *, quarantine_bucket: str, capture_bucket: str) -> None:
        self._client = client
        self._quarantine = quarantine_bucket
        self._capture = capture_bucket

    async def read_raw(self, key: str) -> bytes | None:
        try:
            async with aws_call(_QUARANTINE, limit_s=_LIMIT_S):
                found = await self._client.get_object(
                    Bucket=self._quarantine, Key=key, ChecksumMode="ENABLED"
                )
                async with found["Body"] as body:
                    if found["ContentLength"] > LARGEST_CAPTURE_BYTES:
                        raise TooLargeError(
                            f"A captured object has {found['ContentLength']} bytes; at most "
                            f"{LARGEST_CAPTURE_BYTES} are redacted. It stays until it is deleted by hand."
                        )
                    content: bytes = await body.read()
        except ServiceRefusedError as error:
            if error.reason == "NoSuchKey":
                return None
            raise
        if len(content) != found["ContentLength"]:
            raise DependencyError("The quarantine answered a part of an object; try again.")
        return content

    async def put_clean(self, key: str, content: bytes) -> None:
        async with aws_call("Clean capture", limit_s=_LIMIT_S):
            await self._client.put_object(
                Bucket=self._capture, Key=key, Body=content, ContentType="application/jsonl"
            )

    async def delete_raw(self, key: str) -> None:
        async for page in self._pages(prefix=key):
            versions = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                if each["Key"] == key
            ]
            for start in range(0, len(versions), _MOST_DELETED):
                await self._delete(versions[start : start + _MOST_DELETED])

    async def raw_objects(self) -> AsyncIterator[RawCapture]:
        async for page in self._pages(prefix=""):
            oldest: dict[str, datetime] = {}
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                key, written_at = each["Key"], each["LastModified"]
                oldest[key] = min(oldest.get(key, written_at), written_at)
            for key, written_at in oldest.items():
                yield RawCapture(key, written_at)

    async def _pages(self, *, prefix: str) -> AsyncIterator[dict[str, Any]]:
        place: dict[str, str] = {}
        while True:
            async with aws_call(_QUARANTINE, limit_s=_LIMIT_S):
                page = await self._client.list_object_versions(
                    Bucket=self._quarantine, Prefix=prefix, **place
                )
            yield page
            if not page.get("IsTruncated"):
                return
            place = {"KeyMarker": page["NextKeyMarker"]}
            if page.get("NextVersionIdMarker"):
                place["VersionIdMarker"] = page["NextVersionIdMarker"]

    async def _delete(self, versions: Sequence[dict[str, str]]) -> None:
        async with aws_call(_QUARANTINE, limit_s=_LIMIT_S):
            answer = await self._client.delete_objects(
                Bucket=self._quarantine, Delete={"Objects": versions, "Quiet": True}
            )
        if answer.get("Errors"):
            code = answer["Errors"][0].get("Code")
            raise DependencyError(f"{len(answer['Errors'])} raw versions were not deleted ({code}).")
