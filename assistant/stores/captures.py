"""Captured calls of models over blobs: raw ones in a quarantine, and their clean copies.

The endpoint writes raw objects, and ``assistant.models.redaction`` reads each, writes a clean copy without
personal data, and deletes the raw object with all its versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from assistant.domain.errors import TooLargeError
from assistant.stores.blobs import Blobs

LARGEST_CAPTURE_BYTES = 128 * 1024 * 1024
"""Largest raw object that is read: the redaction needs about three times its size in memory. SageMaker closes
a file after minutes, so one is seldom so large."""
_RAW, _CLEAN = "The quarantine", "Clean capture"
"""Begin the messages of errors."""


class StoredCaptures:
    """The quarantine and the clean copies of a tenant. All methods raise DependencyError.

    A clean copy has its raw object's key, which SageMaker names by the hour of the calls:
    ``…/YYYY/MM/DD/HH/…``.
    """

    def __init__(self, *, raw: Blobs, clean: Blobs) -> None:
        self._raw = raw
        self.clean = clean

    @classmethod
    def on_aws(cls, s3: Any, *, quarantine_bucket: str, capture_bucket: str) -> Self:
        """Return the captures of a deployment; ``s3`` is an aiobotocore client."""
        from assistant.stores.s3 import S3Blobs

        raw = S3Blobs(s3, bucket=quarantine_bucket, what=_RAW, longest_bytes=LARGEST_CAPTURE_BYTES)
        return cls(raw=raw, clean=S3Blobs(s3, bucket=capture_bucket, what=_CLEAN))

    async def now(self) -> datetime:
        """Return the time by the quarantine's own clock."""
        return await self._raw.now("")

    async def read_raw(self, key: str) -> bytes | None:
        """Return the newest raw content; None if it is gone. Raises TooLargeError above
        LARGEST_CAPTURE_BYTES."""
        try:
            return await self._raw.get(key)
        except TooLargeError as error:
            advice = "It stays in the quarantine until somebody deletes it."
            raise TooLargeError(f"{error.message} {advice}") from None

    async def put_clean(self, key: str, content: bytes) -> None:
        await self.clean.put(key, content)

    async def delete_raw(self, key: str) -> None:
        """Delete every version and delete marker of the raw object. An unknown key is no error."""
        await self._raw.purge(key, of_key=True)

    async def raw_objects(self) -> Mapping[str, datetime]:
        """Return by key when the oldest version of each raw object was written: the age that counts for the
        alarm on overdue redactions."""
        oldest = dict[str, datetime]()
        async for version in self._raw.versions(""):
            oldest[version.key] = min(oldest.get(version.key, version.written_at), version.written_at)
        return oldest
