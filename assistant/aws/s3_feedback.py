"""The files of one tenant's feedback in S3: labels, and sealed texts.

``events/`` may be under Object Lock, ``texts/`` is not, and a lock is a whole bucket's: a deployment has two
(docs/decisions/0050-feedback-on-aws.md). A text is lost to all with the key of one of its subjects. No object
is written over: the names come from the content, and every put has the condition that there is none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.errors import DependencyError
from assistant.learning.feedback_store import TEXTS

_WHAT = "The feedback store"
_LIMIT_S = 55.0
"""Three attempts with 15 s of silence each and the waits between them."""
_THERE = "PreconditionFailed"
"""There is an object of that key."""


@dataclass(frozen=True, slots=True)
class S3FeedbackFiles:
    """``FeedbackFiles`` of one tenant's buckets; ``client`` is an aiobotocore client of S3.

    ``bucket`` has the labels, ``texts_bucket`` what is below ``texts/``; one bucket has both without it.
    Objects are encrypted with ``kms_key_id`` (id, alias or ARN), or as the bucket does by default. The
    mover's role needs s3:PutObject; a reader's s3:GetObject and s3:ListBucket.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    texts_bucket: str | None = None
    kms_key_id: str | None = None

    async def put(self, key: str, content: bytes) -> None:
        made: dict[str, Any] = {"Body": content, "ContentType": "application/jsonl", "IfNoneMatch": "*"}
        if self.kms_key_id is not None:
            made |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
        try:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                await self.client.put_object(
                    Bucket=self._of(key), Key=key, ChecksumAlgorithm="SHA256", **made
                )
        except ServiceRefusedError as error:
            if error.reason != _THERE:
                raise

    async def get(self, key: str) -> bytes | None:
        try:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                found = await self.client.get_object(Bucket=self._of(key), Key=key, ChecksumMode="ENABLED")
                async with found["Body"] as body:
                    content: bytes = await body.read()
        except ServiceRefusedError as error:
            if error.reason == "NoSuchKey":
                return None
            raise
        if len(content) != int(found["ContentLength"]):
            raise DependencyError("The feedback store returned a part of an object. Retry.")
        return content

    def _of(self, key: str) -> str:
        return self.texts_bucket or self.bucket if key.startswith(TEXTS) else self.bucket

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        place = {"Bucket": self._of(prefix), "Prefix": prefix}
        while True:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                page = await self.client.list_objects_v2(**place)
            for found in page.get("Contents", ()):
                yield str(found["Key"])
            if not page.get("IsTruncated"):
                return
            place["ContinuationToken"] = page["NextContinuationToken"]
