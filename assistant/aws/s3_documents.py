"""Documents of one tenant in S3, and captured calls with their redacted copies.

``<prefix><SHA-256 of the document's id>/document.json`` is the canonical document, and
``…/parsed/<SHA-256 of the content hash>.json`` the parsed text of one content. An id is never part of a
key: hashes cannot collide, leave the prefix, or exceed the 1,024 bytes of a key, and no access log of the
bucket contains a document's name.

S3 writes an object whole or not at all, and a reader sees the newest at once. Bytes are checked by SHA-256
on write and on read, here and not only by the client library, which accepts an object without a checksum."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Any

import structlog
from botocore.exceptions import FlexibleChecksumError

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import DependencyError, TooLargeError
from assistant.learning.redaction import RawCapture
from assistant.settings.process import StoreSettings
from assistant.twins import damaged_document, decode_document, decode_parsed, encode_document, encode_parsed

_WHAT = "The document store"
_LIMIT_S = 55.0
"""Three attempts with 15 s of silence each and the waits between them."""
_LONGEST_BYTES = 64 * 1024 * 1024
"""A document has at most 5 million characters, which JSON may write as twelve bytes each."""
_VERSIONS_AT_ONCE = 1000
_MOST_ROUNDS = 100
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class S3DocumentStore:
    """A ``DocumentStore`` on one tenant's versioned bucket, or on a prefix of it.

    ``client`` is an aiobotocore client of S3. Objects are encrypted with ``kms_key_id`` (id, alias or ARN),
    or as the bucket does by default. Its role needs s3:GetObject, PutObject, ListBucket (without it an
    unknown document is refused, not unknown), ListBucketVersions and DeleteObjectVersion.

    Raises DependencyError when S3 does not answer, DocumentInvalidError when what it holds is damaged.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    kms_key_id: str | None = None
    prefix: str = StoreSettings.documents_prefix

    async def put(self, document: Document) -> None:
        await self._write(self._document_key(document.document_id), encode_document(document))

    async def get(self, document_id: str) -> Document | None:
        content = await self._read(self._document_key(document_id), document_id=document_id)
        return decode_document(content, document_id=document_id)

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        await self._write(self._parsed_key(document_id, content_hash), encode_parsed(parsed))

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await self._read(self._parsed_key(document_id, content_hash), document_id=document_id)
        return decode_parsed(content, document_id=document_id)

    async def delete(self, document_id: str) -> None:
        """Remove every version and every delete marker of everything under the document's keys."""
        for _ in range(_MOST_ROUNDS):
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                place = {"Bucket": self.bucket, "Prefix": self._folder(document_id)}
                page = await self.client.list_object_versions(**place, MaxKeys=_VERSIONS_AT_ONCE)
            if "IsTruncated" not in page:  # any other XML would read as an empty list
                raise DependencyError(f"{_WHAT} returned no list of versions.")
            versions = _versions(page)
            if not versions:
                return
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                refused = await _delete_versions(self.client, self.bucket, versions)
            if len(refused) == len(versions):
                raise DependencyError(f"{_WHAT} deletes nothing: {refused[0].get('Code')}.")
            if refused:
                _log.warning("versions_not_deleted", versions=len(refused), reason=refused[0].get("Code"))
        raise DependencyError("The document store still has versions of a deleted document. Delete it again.")

    async def _write(self, key: str, content: bytes) -> None:
        options: dict[str, Any] = {"ContentType": "application/json", "ChecksumSHA256": _checksum(content)}
        options["ChecksumAlgorithm"] = "SHA256"  # the emulator returns the checksum only with this
        if self.kms_key_id is not None:  # with a bucket key, one call of KMS is made for many objects
            options |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
            options["BucketKeyEnabled"] = True
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            await self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **options)

    async def _read(self, key: str, *, document_id: str) -> bytes | None:
        """Return the newest version's bytes; None when there is none.

        A body that breaks off or arrives damaged is read once more: the client's retries end where a body
        begins. An object that is damaged twice is damaged in the store.
        """
        try:
            return await self._read_once(key)
        except _DamagedError as error:
            _log.warning("document_damaged", reason=str(error))
        except ServiceRefusedError:
            raise
        except DependencyError as error:
            _log.warning("document_not_read", reason=error.message)
        try:
            return await self._read_once(key)
        except _DamagedError:
            raise damaged_document(document_id) from None

    async def _read_once(self, key: str) -> bytes | None:
        try:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                answer = await self.client.get_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
                async with answer["Body"] as body:
                    content = await _read_body(body, length=int(answer.get("ContentLength", 0)))
        except ServiceRefusedError as error:
            if error.reason == "NoSuchKey":
                return None
            raise
        if answer.get("ChecksumSHA256") != _checksum(content):
            raise _DamagedError("no checksum" if "ChecksumSHA256" not in answer else "checksum")
        return content

    def _folder(self, document_id: str) -> str:
        return f"{self.prefix}{hashlib.sha256(document_id.encode()).hexdigest()}/"

    def _document_key(self, document_id: str) -> str:
        return f"{self._folder(document_id)}document.json"

    def _parsed_key(self, document_id: str, content_hash: str) -> str:
        return f"{self._folder(document_id)}parsed/{hashlib.sha256(content_hash.encode()).hexdigest()}.json"


class _DamagedError(Exception):
    """The bytes are not the ones that were written."""


async def _read_body(body: Any, *, length: int) -> bytes:
    if length > _LONGEST_BYTES:
        raise _DamagedError("larger than any document")
    try:
        return await body.read()
    except FlexibleChecksumError:
        raise _DamagedError("checksum") from None


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _versions(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return keys and version ids of the versions and delete markers of a page."""
    found = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]


async def _delete_versions(
    client: Any, bucket: str, versions: Sequence[Mapping[str, str]]
) -> Sequence[Mapping[str, str]]:
    """Delete at most 1,000 versions, and return S3's errors."""
    response = await client.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
    return response.get("Errors", ())


LARGEST_CAPTURE_BYTES = 128 * 1024 * 1024
"""Of one object, which is in memory about three times. SageMaker closes a file after minutes."""
_CAPTURE_LIMIT_S = 60.0
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
            async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
                place = {"Bucket": self._quarantine, "Key": key}
                found = await self._client.get_object(**place, ChecksumMode="ENABLED")
                size_bytes = int(found["ContentLength"])
                async with found["Body"] as body:
                    if size_bytes > LARGEST_CAPTURE_BYTES:
                        limit = f"the limit is {LARGEST_CAPTURE_BYTES}. It stays until somebody deletes it"
                        raise TooLargeError(f"A captured object has {size_bytes} bytes; {limit}.")
                    content: bytes = await body.read()
        except ServiceRefusedError as error:
            if error.reason == "NoSuchKey":
                return None
            raise
        if len(content) != size_bytes:
            raise DependencyError("The quarantine returned a part of an object. Retry.")
        return content

    async def put_clean(self, key: str, content: bytes) -> None:
        made = {"Body": content, "ContentType": "application/jsonl"}
        async with aws_call("Clean capture", limit_s=_CAPTURE_LIMIT_S):
            await self._client.put_object(Bucket=self._capture, Key=key, **made)

    async def delete_raw(self, key: str) -> None:
        async for page in self._pages(prefix=key):
            versions = [version for version in _versions(page) if version["Key"] == key]
            if versions:
                async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
                    errors = await _delete_versions(self._client, self._quarantine, versions)
                if errors:
                    code = errors[0].get("Code")
                    raise DependencyError(f"{len(errors)} raw versions were not deleted ({code}).")

    async def raw_objects(self) -> AsyncIterator[RawCapture]:
        async for page in self._pages(prefix=""):
            oldest: dict[str, datetime] = {}
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                key, written_at = each["Key"], each["LastModified"]
                oldest[key] = min(oldest.get(key, written_at), written_at)
            for key, written_at in oldest.items():
                yield RawCapture(key, written_at)

    async def _pages(self, *, prefix: str) -> AsyncIterator[dict[str, Any]]:
        place = {"Bucket": self._quarantine, "Prefix": prefix}
        while True:
            async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
                page = await self._client.list_object_versions(**place)
            yield page
            if not page.get("IsTruncated"):
                return
            place["KeyMarker"] = page["NextKeyMarker"]
            place.pop("VersionIdMarker", None)
            if page.get("NextVersionIdMarker"):
                place["VersionIdMarker"] = page["NextVersionIdMarker"]
