"""Documents of one tenant in S3.

``<prefix><SHA-256 of the document's id>/document.json`` is the canonical document, and
``…/parsed/<SHA-256 of the content hash>.json`` the parsed text of one content. An id is never part of a
key: hashes cannot collide, leave the prefix, or run over the 1,024 bytes of a key, and no log of the
bucket's accesses tells a document's name.

S3 writes an object whole or not at all, and a reader sees the newest at once. Bytes are checked by SHA-256
on both ways, here and not only by the client library, which reads what comes without a checksum unchecked."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
import structlog
from botocore.exceptions import FlexibleChecksumError
from pydantic import TypeAdapter, ValidationError

from assistant.aws.clients import ServiceRefusedError, aws_call
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import DependencyError, DocumentInvalidError, TooLargeError
from assistant.learning.redaction import RawCapture
from assistant.settings.process import StoreSettings

_WHAT = "The document store"
_LIMIT_S = 55.0
"""Three attempts with 15 s of silence each and the waits between them."""
_LONGEST_BYTES = 64 * 1024 * 1024
"""A document has at most 5 million characters, which JSON may write as twelve bytes each."""
_VERSIONS_AT_ONCE = 1000
_MOST_ROUNDS = 100
_DAMAGED = "the stored copy is damaged; add the document again."
_PARSED = TypeAdapter(ParsedDocument)
_log = structlog.get_logger(__name__)


class S3DocumentStore:
    """A ``DocumentStore`` on one tenant's versioned bucket, or on a prefix of it.

    ``client`` is an aiobotocore client of S3. Objects are encrypted with ``kms_key_id`` (id, alias or ARN),
    or as the bucket does by default. Its role needs s3:GetObject, PutObject, ListBucket (without it an
    unknown document is refused, not unknown), ListBucketVersions and DeleteObjectVersion.

    Raises DependencyError when S3 does not answer, DocumentInvalidError when what it holds is damaged.
    """

    def __init__(
        self,
        client: Any,
        *,
        bucket: str,
        kms_key_id: str | None = None,
        prefix: str = StoreSettings.documents_prefix,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._encryption: Mapping[str, Any] = {}
        if kms_key_id is not None:
            self._encryption = {
                "ServerSideEncryption": "aws:kms",
                "SSEKMSKeyId": kms_key_id,
                "BucketKeyEnabled": True,  # one call of KMS for many objects
            }

    async def put(self, document: Document) -> None:
        content = orjson.dumps(document.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        await self._write(self._document_key(document.document_id), content)

    async def get(self, document_id: str) -> Document | None:
        content = await self._read(self._document_key(document_id), document_id=document_id)
        if content is None:
            return None
        try:
            document = Document.model_validate_json(content)
        except ValidationError:
            raise DocumentInvalidError(f"{document_id}: {_DAMAGED}") from None
        if document.document_id != document_id:
            raise DocumentInvalidError(f"{document_id}: {_DAMAGED}")
        return document

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        await self._write(self._parsed_key(document_id, content_hash), orjson.dumps(asdict(parsed)))

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await self._read(self._parsed_key(document_id, content_hash), document_id=document_id)
        if content is None:
            return None
        try:
            return _PARSED.validate_json(content)
        except ValidationError:
            raise DocumentInvalidError(f"{document_id}: {_DAMAGED}") from None

    async def delete(self, document_id: str) -> None:
        """Remove every version and every delete marker of everything under the document's keys."""
        for _ in range(_MOST_ROUNDS):
            versions = await self._versions(document_id)
            if not versions:
                return
            await self._delete_versions(versions)
        raise DependencyError("The document store still finds versions of a deleted document; delete again.")

    async def _versions(self, document_id: str) -> list[dict[str, str]]:
        """Return some versions and delete markers that are left, all of them if none is returned."""
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            page = await self._client.list_object_versions(
                Bucket=self._bucket, Prefix=self._folder(document_id), MaxKeys=_VERSIONS_AT_ONCE
            )
        if "IsTruncated" not in page:  # any other XML would read as a list of nothing
            raise DependencyError(f"{_WHAT} answered no list of versions.")
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        return [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]

    async def _delete_versions(self, versions: Sequence[dict[str, str]]) -> None:
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            answer = await self._client.delete_objects(
                Bucket=self._bucket, Delete={"Objects": versions, "Quiet": True}
            )
        refused = answer.get("Errors", ())
        if len(refused) == len(versions):
            raise DependencyError(f"{_WHAT} deletes nothing: {refused[0].get('Code')}.")
        if refused:
            _log.warning("versions_not_deleted", versions=len(refused), reason=refused[0].get("Code"))

    async def _write(self, key: str, content: bytes) -> None:
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            await self._client.put_object(
                Bucket=self._bucket,
                Key=key,
                Body=content,
                ContentType="application/json",
                ChecksumAlgorithm="SHA256",  # said twice: by this the emulator knows to give it back
                ChecksumSHA256=_checksum(content),
                **self._encryption,
            )

    async def _read(self, key: str, *, document_id: str) -> bytes | None:
        """Return the newest version's bytes; None when there is none.

        A body that breaks off or arrives damaged is asked for once more: the client's retries end where a
        body begins. What is damaged twice is damaged where it is kept.
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
            raise DocumentInvalidError(f"{document_id}: {_DAMAGED}") from None

    async def _read_once(self, key: str) -> bytes | None:
        try:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                answer = await self._client.get_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
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
        return f"{self._prefix}{hashlib.sha256(document_id.encode()).hexdigest()}/"

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


# Quarantine and clean capture in two buckets, both versioned.


LARGEST_CAPTURE_BYTES = 128 * 1024 * 1024
"""Of one object: it is held in memory, some three times. SageMaker closes a file after minutes."""
_CAPTURE_LIMIT_S = 60.0
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
            async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
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
        async with aws_call("Clean capture", limit_s=_CAPTURE_LIMIT_S):
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
            async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
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
        async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
            answer = await self._client.delete_objects(
                Bucket=self._quarantine, Delete={"Objects": versions, "Quiet": True}
            )
        if answer.get("Errors"):
            code = answer["Errors"][0].get("Code")
            raise DependencyError(f"{len(answer['Errors'])} raw versions were not deleted ({code}).")
