"""Documents of one tenant in S3, captured calls with their redacted copies, files of feedback, and objects
that become local files: model artifacts, a tenant's file, raw files of the inbox bucket.

``<prefix><SHA-256 of the document's id>/document.json`` is the canonical document, and
``…/parsed/<SHA-256 of the content hash>.json`` the parsed text of one content, ``…/originals/<SHA-256>`` a
file that it was converted from. An id is never part of a
key: hashes cannot collide, leave the prefix, or exceed the 1,024 bytes of a key, and no access log of the
bucket contains a document's name.

S3 writes an object whole or not at all, and a reader sees the newest at once. Bytes are checked by SHA-256
on write and on read, here and not only by the client library, which accepts an object without a checksum."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from botocore.exceptions import FlexibleChecksumError
from pydantic import TypeAdapter, ValidationError

from assistant.domain.documents import ORIGINAL_PART_BYTES, Document, OriginalFile, ParsedDocument
from assistant.domain.errors import ConfigurationError, DependencyError, TooLargeError
from assistant.process.aws.clients import ServiceRefusedError, aws_call
from assistant.process.settings import StoreSettings
from assistant.stores.documents_ports import MOST_CONTENTS, StoredContent
from assistant.stores.encoding import (
    damaged_document,
    decode_document,
    decode_parsed,
    encode_document,
    encode_parsed,
)
from assistant.stores.ports import TEXTS, RawCapture
from assistant.tenant.tenant import TenantName

_WHAT = "The document store"
_LIMIT_S = 55.0
"""Three attempts with 15 s of silence each and the waits between them."""
_LONGEST_BYTES = 64 * 1024 * 1024
"""A document has at most 5 million characters, which JSON may write as twelve bytes each."""
_VERSIONS_AT_ONCE = 1000
_MOST_ROUNDS = 100
_log = structlog.get_logger(__name__)


class DamagedObjectError(DependencyError):
    """The bytes are not those that were written."""


async def read_object(
    client: Any,
    *,
    bucket: str,
    key: str,
    what: str,
    limit_s: float,
    longest_bytes: int | None = None,
    version_id: str | None = None,
) -> tuple[bytes, Mapping[str, Any]] | None:
    """Return the content of an object's newest version, or of the named one, and S3's response; None where
    there is no object.

    Raises TooLargeError before the content is read, DamagedObjectError, and what ``aws_call`` raises.
    """
    damaged = DamagedObjectError(f"{what} returned a damaged object, or a part of it. Retry.")
    try:
        async with aws_call(what, limit_s=limit_s):
            version = {} if version_id is None else {"VersionId": version_id}
            response = await client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **version)
            async with response["Body"] as body:  # closes the connection when it is left early
                size_bytes = int(response.get("ContentLength", 0))
                if longest_bytes is not None and size_bytes > longest_bytes:
                    raise TooLargeError(f"An object has {size_bytes} bytes; the limit is {longest_bytes}.")
                try:
                    content: bytes = await body.read()
                except FlexibleChecksumError:
                    raise damaged from None
    except ServiceRefusedError as error:
        if error.reason == "NoSuchKey":
            return None
        raise
    if len(content) != size_bytes:
        raise damaged
    return content, response


async def _pages(
    client: Any, operation: str, *, what: str, limit_s: float, **place: str
) -> AsyncIterator[dict[str, Any]]:
    """Yield the pages of a list, each within ``limit_s``."""
    pages = aiter(client.get_paginator(operation).paginate(**place))
    while True:
        async with aws_call(what, limit_s=limit_s):
            page = await anext(pages, None)
        if page is None:
            return
        yield page


def encryption(kms_key_id: str | None) -> dict[str, Any]:
    return {} if kms_key_id is None else {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id}


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

    async def contents(self, document_id: str) -> Sequence[StoredContent]:
        key = self._document_key(document_id)
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            page = await self.client.list_object_versions(
                Bucket=self.bucket, Prefix=key, MaxKeys=_VERSIONS_AT_ONCE
            )
        kept: list[StoredContent] = []
        for version in page.get("Versions", ())[:MOST_CONTENTS]:
            content = await self._read_version(key, str(version["VersionId"]))
            document = decode_document(content, document_id=document_id)
            if document is not None:
                kept.append(StoredContent(document, version["LastModified"]))
        return kept

    async def _read_version(self, key: str, version_id: str) -> bytes | None:
        place = {"bucket": self.bucket, "key": key, "what": _WHAT, "version_id": version_id}
        found = await read_object(self.client, **place, longest_bytes=_LONGEST_BYTES, limit_s=_LIMIT_S)
        return None if found is None else found[0]

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        await self._write(self._parsed_key(document_id, content_hash), encode_parsed(parsed))

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        content = await self._read(self._parsed_key(document_id, content_hash), document_id=document_id)
        return decode_parsed(content, document_id=document_id)

    async def put_original(self, document_id: str, original: OriginalFile, content: bytes) -> None:
        await self._write(self._original_key(document_id, original), content)

    async def read_original(self, document_id: str, original: OriginalFile, *, start: int) -> bytes | None:
        place = {"Bucket": self.bucket, "Key": self._original_key(document_id, original)}
        part = f"bytes={start}-{start + ORIGINAL_PART_BYTES - 1}"
        try:
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                response = await self.client.get_object(**place, Range=part)
                async with response["Body"] as body:
                    return await body.read()
        except ServiceRefusedError as error:
            if error.reason == "NoSuchKey":
                return None
            raise

    async def delete(self, document_id: str) -> None:
        """Remove every version and every delete marker of everything under the document's keys."""
        for _ in range(_MOST_ROUNDS):
            versions = await self._versions_of(document_id)
            if not versions:
                return
            async with aws_call(_WHAT, limit_s=_LIMIT_S):
                refused = await _delete_versions(self.client, self.bucket, versions)
            if len(refused) == len(versions):
                raise DependencyError(f"{_WHAT} deletes nothing: {refused[0].get('Code')}.")
            if refused:
                _log.warning("versions_not_deleted", versions=len(refused), reason=refused[0].get("Code"))
        raise DependencyError("The document store still has versions of a deleted document. Delete it again.")

    async def holdings(self, document_id: str) -> int:
        return len(await self._versions_of(document_id))

    async def _versions_of(self, document_id: str) -> list[dict[str, Any]]:
        """Return the first versions and delete markers under the document's keys."""
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            place = {"Bucket": self.bucket, "Prefix": self._folder(document_id)}
            page = await self.client.list_object_versions(**place, MaxKeys=_VERSIONS_AT_ONCE)
        if "IsTruncated" not in page:  # any other XML would read as an empty list
            raise DependencyError(f"{_WHAT} returned no list of versions.")
        return _versions(page)

    async def _write(self, key: str, content: bytes) -> None:
        options: dict[str, Any] = {"ContentType": "application/json", "ChecksumSHA256": _checksum(content)}
        options["ChecksumAlgorithm"] = "SHA256"  # the emulator returns the checksum only with this
        if self.kms_key_id is not None:  # with a bucket key, one call of KMS is made for many objects
            options |= encryption(self.kms_key_id) | {"BucketKeyEnabled": True}
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            await self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **options)

    async def _read(self, key: str, *, document_id: str) -> bytes | None:
        """Return the newest version's bytes; None when there is none.

        A body that breaks off or arrives damaged is read once more: the client's retries end where a body
        begins. An object that is damaged twice is damaged in the store.
        """
        try:
            return await self._read_once(key)
        except DamagedObjectError as error:
            _log.warning("document_damaged", reason=error.message)
        except ServiceRefusedError:
            raise
        except DependencyError as error:
            _log.warning("document_not_read", reason=error.message)
        try:
            return await self._read_once(key)
        except DamagedObjectError:
            raise damaged_document(document_id) from None

    async def _read_once(self, key: str) -> bytes | None:
        place = {"bucket": self.bucket, "key": key, "what": _WHAT}
        try:
            stored = await read_object(self.client, **place, longest_bytes=_LONGEST_BYTES, limit_s=_LIMIT_S)
        except TooLargeError:
            raise DamagedObjectError(f"{_WHAT} holds an object larger than any document.") from None
        if stored is None:
            return None
        content, answer = stored
        if answer.get("ChecksumSHA256") != _checksum(content):
            raise DamagedObjectError(f"{_WHAT} holds an object without its checksum, or of another.")
        return content

    def _folder(self, document_id: str) -> str:
        return f"{self.prefix}{hashlib.sha256(document_id.encode()).hexdigest()}/"

    def _document_key(self, document_id: str) -> str:
        return f"{self._folder(document_id)}document.json"

    def _original_key(self, document_id: str, original: OriginalFile) -> str:
        return f"{self._folder(document_id)}originals/{original.sha256}"

    def _parsed_key(self, document_id: str, content_hash: str) -> str:
        return f"{self._folder(document_id)}parsed/{hashlib.sha256(content_hash.encode()).hexdigest()}.json"


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _versions(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return keys and version ids of the versions and delete markers of a page."""
    versions = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
    return [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in versions]


async def _delete_versions(
    client: Any, bucket: str, versions: Sequence[Mapping[str, str]]
) -> Sequence[Mapping[str, str]]:
    """Delete at most 1,000 versions, and return S3's errors."""
    response = await client.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
    return response.get("Errors", ())


LARGEST_CAPTURE_BYTES = 128 * 1024 * 1024
"""Of one object, which is in memory about three times. SageMaker closes a file after minutes."""
_CAPTURE_LIMIT_S = 60.0
_QUARANTINE, _CAPTURE = "The quarantine", "Clean capture"


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
            stored = await read_object(
                self._client,
                bucket=self._quarantine,
                key=key,
                longest_bytes=LARGEST_CAPTURE_BYTES,
                what=_QUARANTINE,
                limit_s=_CAPTURE_LIMIT_S,
            )
        except TooLargeError as error:
            advice = "It stays in the quarantine until somebody deletes it."
            raise TooLargeError(f"{error.message} {advice}") from None
        return None if stored is None else stored[0]

    async def put_clean(self, key: str, content: bytes) -> None:
        made = {"Body": content, "ContentType": "application/jsonl"}
        async with aws_call(_CAPTURE, limit_s=_CAPTURE_LIMIT_S):
            await self._client.put_object(Bucket=self._capture, Key=key, **made)

    async def clean_keys(self) -> AsyncIterator[str]:
        place, limit_s = {"Bucket": self._capture}, _CAPTURE_LIMIT_S
        async for page in _pages(self._client, "list_objects_v2", what=_CAPTURE, limit_s=limit_s, **place):
            for found in page.get("Contents", ()):
                yield str(found["Key"])

    async def read_clean(self, key: str) -> bytes | None:
        stored = await read_object(
            self._client, bucket=self._capture, key=key, what=_CAPTURE, limit_s=_CAPTURE_LIMIT_S
        )
        return None if stored is None else stored[0]

    async def delete_raw(self, key: str) -> None:
        async for page in self._versions(prefix=key):
            versions = [version for version in _versions(page) if version["Key"] == key]
            if versions:
                async with aws_call(_QUARANTINE, limit_s=_CAPTURE_LIMIT_S):
                    errors = await _delete_versions(self._client, self._quarantine, versions)
                if errors:
                    code = errors[0].get("Code")
                    raise DependencyError(f"{len(errors)} raw versions were not deleted ({code}).")

    async def raw_objects(self) -> AsyncIterator[RawCapture]:
        async for page in self._versions(prefix=""):
            oldest: dict[str, datetime] = {}
            for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                key, written_at = each["Key"], each["LastModified"]
                oldest[key] = min(oldest.get(key, written_at), written_at)
            for key, written_at in oldest.items():
                yield RawCapture(key, written_at)

    def _versions(self, *, prefix: str) -> AsyncIterator[dict[str, Any]]:
        place = {"Bucket": self._quarantine, "Prefix": prefix}
        listing = "list_object_versions"
        return _pages(self._client, listing, what=_QUARANTINE, limit_s=_CAPTURE_LIMIT_S, **place)


_FEEDBACK, _DIGESTS = "The feedback store", "The digests of audit records"


@dataclass(frozen=True, slots=True)
class S3FeedbackFiles:
    """``FeedbackFiles`` of one tenant's buckets; ``client`` is an aiobotocore client of S3.

    ``bucket`` has the labels, ``texts_bucket`` what is below ``texts/``; one bucket has both without it:
    ``events/`` may be under Object Lock, ``texts/`` is not, and a lock is a whole bucket's
    (docs/decisions/0050-feedback-on-aws.md). A text is lost to all with the key of one of its subjects. No
    object is written over: names come from the content, and every put has the condition that there is none.

    Objects are encrypted with ``kms_key_id`` (id, alias or ARN), or as the bucket does by default. The
    mover's role needs s3:PutObject; a reader's s3:GetObject and s3:ListBucket.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    texts_bucket: str | None = None
    kms_key_id: str | None = None

    async def put(self, key: str, content: bytes) -> None:
        made = {"Body": content, "ContentType": "application/jsonl", "ChecksumAlgorithm": "SHA256"}
        made |= encryption(self.kms_key_id)
        try:
            async with aws_call(_FEEDBACK, limit_s=_LIMIT_S):
                await self.client.put_object(Bucket=self._of(key), Key=key, IfNoneMatch="*", **made)
        except ServiceRefusedError as error:
            if error.reason != "PreconditionFailed":  # else there is an object of that key
                raise

    async def get(self, key: str) -> bytes | None:
        bucket = self._of(key)
        stored = await read_object(self.client, bucket=bucket, key=key, what=_FEEDBACK, limit_s=_LIMIT_S)
        return None if stored is None else stored[0]

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        place = {"Bucket": self._of(prefix), "Prefix": prefix}
        async for page in _pages(self.client, "list_objects_v2", what=_FEEDBACK, limit_s=_LIMIT_S, **place):
            for found in page.get("Contents", ()):
                yield str(found["Key"])

    def _of(self, key: str) -> str:
        return self.texts_bucket or self.bucket if key.startswith(TEXTS) else self.bucket


class S3AuditDigests(S3FeedbackFiles):
    """``DigestFiles`` in the folder ``audit/`` of a versioned, locked ``bucket``: the first version of an
    object is the digest. A lock keeps it, and neither a later version nor a delete marker hides it.

    The role needs s3:PutObject, s3:GetObject, s3:GetObjectVersion and s3:ListBucketVersions.
    """

    async def get(self, key: str) -> bytes | None:
        versions = [found async for found in self._versions(key) if "ETag" in found and found["Key"] == key]
        if not versions:
            return None
        first = str(versions[-1]["VersionId"])  # S3 lists the newest first
        stored = await read_object(
            self.client, bucket=self.bucket, key=key, what=_DIGESTS, limit_s=_LIMIT_S, version_id=first
        )
        return None if stored is None else stored[0]

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        async for found in self._versions(prefix):
            yield str(found["Key"])

    async def _versions(self, prefix: str) -> AsyncIterator[dict[str, Any]]:
        """Yield versions and delete markers, which have no ``ETag``."""
        place = {"Bucket": self.bucket, "Prefix": prefix}
        async for page in _pages(
            self.client, "list_object_versions", what=_DIGESTS, limit_s=_LIMIT_S, **place
        ):
            for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield found


_FILES = "S3"
_FILE_LIMIT_S = 60.0
"""One object, with the client's own retries."""
_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')


LONGEST_FILE_BYTES = 64 * 1024 * 1024
"""The largest vocabularies in use make a tokenizer.json of 30 MiB."""
_LONGEST_TENANT_FILE_BYTES = 4 * 1024 * 1024
"""2,000 entries of a glossary, 200 characters on each side, are under a MiB."""
LARGEST_RAW_FILE_BYTES = 256 * 1024 * 1024
"""Of one file: about twenty thousand documents of common size. Senders must cut a larger one."""
_RAW_LIMIT_S = 120.0
_RAW_PART_BYTES = 1024 * 1024
_tenant_name: TypeAdapter[str] = TypeAdapter(TenantName)


async def download_tenant_file(client: Any, *, uri: str, into: Path) -> str:
    """Copy the tenant file at ``uri`` (``s3://…``) to ``<into>/<name>.toml``, and return the name in it.

    Nothing else in it is checked. Raises as ``read_file``.
    """
    advice = "put the tenant file there"
    content = await read_file(client, uri, longest_bytes=_LONGEST_TENANT_FILE_BYTES, advice=advice)
    try:
        name = _tenant_name.validate_python(tomllib.loads(content.decode()).get("name"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigurationError(f"{uri} is no tenant file: {type(error).__name__}.") from None
    await asyncio.to_thread(write_whole, into / f"{name}.toml", content, setting="tenants_dir")
    return name


async def download_folder(client: Any, *, uri: str, into: Path) -> int:
    """Copy every object below ``uri`` (``s3://bucket/prefix/``) into a folder; return how many there are.
    Raises as ``read_file``."""
    place, count = urlsplit(uri), 0
    bucket, prefix = place.netloc, place.path.lstrip("/")
    pages = _pages(
        client, "list_objects_v2", what=_FILES, limit_s=_FILE_LIMIT_S, Bucket=bucket, Prefix=prefix
    )
    async for page in pages:
        for found in page.get("Contents", ()):
            name = str(found["Key"]).removeprefix(prefix)
            if name and not name.endswith("/") and ".." not in name.split("/"):
                content = await read_file(
                    client, f"{uri}{name}", longest_bytes=LONGEST_FILE_BYTES, advice="put it there again"
                )
                await asyncio.to_thread(write_whole, into / name, content, setting="the folder")
                count += 1
    return count


async def upload_folder(client: Any, *, folder: Path, uri: str, last: str, kms_key_id: str | None) -> None:
    """Copy the files of a folder below ``uri`` (``s3://bucket/prefix/``), the file ``last`` at the end: a
    folder that has it is whole. A file that is there is left. Raises DependencyError."""
    url = urlsplit(uri)
    prefix = url.path.lstrip("/")
    made = {"ChecksumAlgorithm": "SHA256", "IfNoneMatch": "*", **encryption(kms_key_id)}
    paths = await asyncio.to_thread(lambda: sorted(folder.iterdir()))
    for path in sorted(paths, key=lambda one: one.name == last):
        content = await asyncio.to_thread(path.read_bytes)
        try:
            async with aws_call(_FILES, limit_s=_FILE_LIMIT_S):
                await client.put_object(Bucket=url.netloc, Key=f"{prefix}{path.name}", Body=content, **made)
        except ServiceRefusedError as error:
            if error.reason != "PreconditionFailed":  # else a run before brought it: names are of the content
                raise


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


async def read_file(client: Any, uri: str, *, longest_bytes: int, advice: str) -> bytes:
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
            client, bucket=url.netloc, key=key, longest_bytes=longest_bytes, what=what, limit_s=_FILE_LIMIT_S
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


def write_whole(path: Path, content: bytes, *, setting: str) -> None:
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
