"""Blobs of one tenant in S3, and objects that become local files: model artifacts, a tenant's file.

S3 writes an object whole or not at all, and a reader sees the newest at once. Bytes are checked by SHA-256
on write and on read, here and not only by the client library, which accepts an object without a checksum."""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import tomllib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import structlog
from botocore.exceptions import FlexibleChecksumError
from pydantic import TypeAdapter, ValidationError

from assistant.domain.errors import ConfigurationError, DependencyError, TooLargeError
from assistant.process.aws import ServiceRefusedError, aws_call
from assistant.process.private_files import replace_private
from assistant.stores.blobs import BlobVersion, DamagedBlobError
from assistant.stores.store import BlobsOf
from assistant.tenant.tenant import TenantName

_LIMIT_S = 60.0
"""Limit of one call: three attempts with 15 s of silence each and the waits between them."""
_FETCH_LIMIT_S = 120.0
_PART_BYTES = 1024 * 1024
_VERSIONS_AT_ONCE = 1000
_MOST_ROUNDS = 100
_CONTENT_TYPES = {".json": "application/json", ".jsonl": "application/jsonl"}
_MISSING = ("NoSuchKey", "404")
Value = TypeVar("Value")
_log = structlog.get_logger(__name__)


async def read_object(
    client: Any,
    *,
    bucket: str,
    key: str,
    what: str,
    longest_bytes: int | None = None,
    version_id: str = "",
) -> tuple[bytes, Mapping[str, Any]] | None:
    """Return the content of an object's newest version, or of the named one, and S3's response; None where
    there is no object.

    Raises TooLargeError before the content is read, DamagedBlobError, and what ``aws_call`` raises.
    """
    damaged = DamagedBlobError(f"{what} returned a damaged object, or a part of it. Retry.")
    try:
        async with aws_call(what, limit_s=_LIMIT_S):
            version = {"VersionId": version_id} if version_id else {}
            response = await client.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **version)
            async with response["Body"] as body:  # closes the connection when it is left early
                size_bytes = _size_of(response, longest_bytes=longest_bytes)
                try:
                    content: bytes = await body.read()
                except FlexibleChecksumError:
                    raise damaged from None
    except ServiceRefusedError as error:
        if error.reason in _MISSING:
            return None
        raise
    if len(content) != size_bytes:
        raise damaged
    return content, response


def _size_of(response: Mapping[str, Any], *, longest_bytes: int | None) -> int:
    size_bytes = int(response.get("ContentLength", 0))
    if longest_bytes is not None and size_bytes > longest_bytes:
        raise TooLargeError(f"An object has {size_bytes} bytes; the limit is {longest_bytes}.")
    return size_bytes


def _encryption(kms_key_id: str | None) -> dict[str, Any]:
    """With a bucket key, one call of KMS is made for many objects."""
    named = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id, "BucketKeyEnabled": True}
    return {} if kms_key_id is None else named


@dataclass(frozen=True, slots=True)
class S3Blobs:
    """``Blobs`` below a prefix of a bucket; ``client`` is an aiobotocore client of S3.

    Objects are encrypted with ``kms_key_id`` (id, alias or ARN), or as the bucket does by default. A role
    needs s3:PutObject to write, and AbortMultipartUpload for ``store``; GetObject and ListBucket to read
    (without the second an unknown key is refused, not unknown); ListBucketVersions and GetObjectVersion for
    ``versions`` and ``now``, DeleteObjectVersion for ``purge``, ListBucketMultipartUploads for ``begun``.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    kms_key_id: str | None = None
    prefix: str = ""
    what: str = "S3"
    """Begins the messages of errors."""
    beside: Mapping[str, str] = field(default_factory=dict[str, str])
    """Prefixes of keys with buckets of their own."""
    checked: bool = False
    """Whether every object was written with its SHA-256, so that one without it is damaged."""
    longest_bytes: int | None = None
    """``get`` and ``fetch`` raise TooLargeError for a longer one, before they read it."""

    @classmethod
    def of(
        cls,
        blobs: BlobsOf,
        client: Any,
        *,
        bucket: str,
        kms_key_id: str | None = None,
        beside: Mapping[str, str] | None = None,
    ) -> Self:
        return cls(
            client,
            bucket=bucket,
            kms_key_id=kms_key_id,
            prefix=blobs.prefix,
            what=blobs.what,
            beside=beside or {},
            checked=blobs.checked,
            longest_bytes=blobs.longest_bytes,
        )

    @property
    def in_bucket(self) -> bool:
        return True

    async def now(self, prefix: str) -> datetime:
        page = await self._first_page(prefix, most=1)
        return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])

    async def put(self, key: str, content: bytes, *, most: int = 1) -> None:
        del most  # the bucket keeps versions
        await self._put(key, content)

    async def add(self, key: str, content: bytes) -> None:
        try:
            await self._put(key, content, IfNoneMatch="*")
        except ServiceRefusedError as error:
            if error.reason != "PreconditionFailed":  # else there is an object of that key
                raise

    async def _put(self, key: str, content: bytes, **condition: str) -> None:
        options: dict[str, Any] = {"ChecksumSHA256": _checksum(content), **condition}
        options["ChecksumAlgorithm"] = "SHA256"  # the emulator returns the checksum only with this
        options["ContentType"] = _CONTENT_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")
        await self._call("put_object", key, Body=content, **options, **_encryption(self.kms_key_id))

    async def store(self, key: str, parts: AsyncIterable[bytes | bytearray]) -> None:
        begun = await self._call("create_multipart_upload", key, **_encryption(self.kms_key_id))
        upload, stored = {"UploadId": begun["UploadId"]}, list[Mapping[str, Any]]()
        try:
            async for part in parts:
                number = {"PartNumber": len(stored) + 1}
                done = await self._call("upload_part", key, Body=part, **upload, **number)
                stored.append({"ETag": done["ETag"], **number})
        except BaseException:
            await self._call("abort_multipart_upload", key, **upload)
            raise
        await self._call("complete_multipart_upload", key, MultipartUpload={"Parts": stored}, **upload)

    async def get(self, key: str, *, version: str = "") -> bytes | None:
        """A body that breaks off or arrives damaged is read once more: the client's retries end where a body
        begins. An object that is damaged twice is damaged in the store."""
        try:
            return await self._get(key, version)
        except ServiceRefusedError:
            raise
        except DependencyError as error:
            _log.warning("blob_not_read", reason=error.message)
        return await self._get(key, version)

    async def _get(self, key: str, version_id: str) -> bytes | None:
        place = {"bucket": self._bucket(key), "key": self.prefix + key, "version_id": version_id}
        limit = self.longest_bytes
        found = await read_object(self.client, **place, what=self.what, longest_bytes=limit)
        if found is None:
            return None
        content, response = found
        if self.checked and response.get("ChecksumSHA256") != _checksum(content):
            raise DamagedBlobError(f"{self.what} holds an object without its checksum, or of another.")
        return content

    async def read(self, key: str, *, start: int, most_bytes: int) -> bytes | None:
        part = f"bytes={start}-{start + most_bytes - 1}"
        return await self._body_of(key, lambda found: found["Body"].read(), Range=part)

    async def fetch(self, key: str, into: Path) -> bool:
        async def copy(found: Mapping[str, Any]) -> bool:
            size_bytes = _size_of(found, longest_bytes=self.longest_bytes)
            if await _copy(found["Body"], into) != size_bytes:
                raise DependencyError(f"{self.what} returned a part of a file. Retry.")
            return True

        return await self._body_of(key, copy) or False

    async def _body_of(
        self, key: str, work: Callable[[Mapping[str, Any]], Awaitable[Value]], **options: str
    ) -> Value | None:
        """Return what ``work`` makes of S3's response; None where there is no object."""
        try:
            async with aws_call(self.what, limit_s=_FETCH_LIMIT_S):
                place = {"Bucket": self._bucket(key), "Key": self.prefix + key}
                response = await self.client.get_object(**place, **options)
                async with response["Body"]:
                    return await work(response)
        except ServiceRefusedError as error:
            if error.reason in _MISSING:
                return None
            raise

    async def remove(self, key: str) -> None:
        await self._call("delete_object", key)

    async def list(self, prefix: str) -> AsyncIterator[BlobVersion]:
        async for page in self._pages("list_objects_v2", prefix):
            for found in page.get("Contents", ()):
                yield self._version(found)

    async def begun(self, prefix: str) -> AsyncIterator[BlobVersion]:
        async for page in self._pages("list_multipart_uploads", prefix):
            for found in page.get("Uploads", ()):
                yield self._version({"LastModified": found["Initiated"], "ETag": "", **found})

    async def versions(self, prefix: str) -> AsyncIterator[BlobVersion]:
        async for page in self._pages("list_object_versions", prefix):
            for found in _versions(page):
                yield self._version(found)

    async def _pages(self, operation: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
        place = {"Bucket": self._bucket(prefix), "Prefix": self.prefix + prefix}
        pages = aiter(self.client.get_paginator(operation).paginate(**place))
        while True:
            async with aws_call(self.what, limit_s=_LIMIT_S):
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    def _version(self, found: Mapping[str, Any]) -> BlobVersion:
        key, version = str(found["Key"]).removeprefix(self.prefix), str(found.get("VersionId", ""))
        return BlobVersion(key, version, found["LastModified"], deleted="ETag" not in found)

    async def purge(self, prefix: str, *, of_key: bool = False) -> None:
        for _ in range(_MOST_ROUNDS):
            found = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for each in await self._first_versions(prefix)
                if not of_key or each["Key"] == self.prefix + prefix
            ]
            if not found:
                return
            delete = {"Objects": found, "Quiet": True}
            async with aws_call(self.what, limit_s=_LIMIT_S):
                response = await self.client.delete_objects(Bucket=self._bucket(prefix), Delete=delete)
            refused = response.get("Errors", ())
            if len(refused) == len(found):
                raise DependencyError(f"{self.what} deletes nothing: {refused[0].get('Code')}.")
            if refused:
                _log.warning("versions_not_deleted", versions=len(refused), reason=refused[0].get("Code"))
        raise DependencyError(f"{self.what} still has versions of what was deleted. Delete it again.")

    async def held(self, prefix: str) -> int:
        return len(await self._first_versions(prefix))

    async def _first_versions(self, prefix: str) -> Sequence[Mapping[str, Any]]:
        return _versions(await self._first_page(prefix, most=_VERSIONS_AT_ONCE))

    async def _first_page(self, prefix: str, *, most: int) -> Mapping[str, Any]:
        place = {"Bucket": self._bucket(prefix), "Prefix": self.prefix + prefix}
        async with aws_call(self.what, limit_s=_LIMIT_S):
            page = await self.client.list_object_versions(**place, MaxKeys=most)
        if "IsTruncated" not in page:  # any other XML would read as an empty list
            raise DependencyError(f"{self.what} returned no list of versions.")
        return page

    async def _call(self, operation: str, key: str, **options: Any) -> Mapping[str, Any]:
        """Have the client do an operation on an object."""
        place = {"Bucket": self._bucket(key), "Key": self.prefix + key}
        async with aws_call(self.what, limit_s=_LIMIT_S):
            return await getattr(self.client, operation)(**place, **options)

    def _bucket(self, key: str) -> str:
        return next((bucket for prefix, bucket in self.beside.items() if key.startswith(prefix)), self.bucket)


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _versions(page: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the versions and delete markers of a page, each from the newest of a key."""
    return (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))


async def _copy(body: Any, into: Path) -> int:
    written_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        while part := await body.read(_PART_BYTES):
            written_bytes += await asyncio.to_thread(file.write, part)
    return written_bytes


_PLAIN_MD5 = re.compile(r'"([0-9a-f]{32})"')


LONGEST_FILE_BYTES = 64 * 1024 * 1024
"""The largest vocabularies in use make a tokenizer.json of 30 MiB."""
_LONGEST_TENANT_FILE_BYTES = 4 * 1024 * 1024
"""2,000 entries of a glossary, 200 characters on each side, are under a MiB."""
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
    blobs, count = _below(client, uri), 0
    async for found in blobs.list(""):
        name = found.key
        if name and not name.endswith("/") and ".." not in name.split("/"):
            content = await read_file(
                client, f"{uri}{name}", longest_bytes=LONGEST_FILE_BYTES, advice="put it there again"
            )
            await asyncio.to_thread(write_whole, into / name, content, setting="the folder")
            count += 1
    return count


async def upload_folder(client: Any, *, folder: Path, uri: str, last: str, kms_key_id: str | None) -> None:
    """Copy the files of a folder below ``uri`` (``s3://bucket/prefix/``), the file ``last`` at the end: a
    folder that has it is whole. A file that is there is left: names are of the content. Raises
    DependencyError."""
    blobs = _below(client, uri, kms_key_id=kms_key_id)
    paths = await asyncio.to_thread(lambda: sorted(folder.iterdir()))
    for path in sorted(paths, key=lambda each: each.name == last):
        await blobs.add(path.name, await asyncio.to_thread(path.read_bytes))


def _below(client: Any, uri: str, *, kms_key_id: str | None = None) -> S3Blobs:
    url = urlsplit(uri)
    return S3Blobs(client, bucket=url.netloc, prefix=url.path.lstrip("/"), kms_key_id=kms_key_id)


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
        place = {"bucket": url.netloc, "key": key}
        found = await read_object(client, **place, what=what, longest_bytes=longest_bytes)
        reason = "NoSuchKey"
    except TooLargeError as error:
        raise ConfigurationError(f"{uri} cannot be read. {error.message}") from None
    except DamagedBlobError:
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
        replace_private(path, content)
    except OSError as error:
        advice = f"name a writable folder as {setting}"
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror}); {advice}.") from None
