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
"""Limit of a call together with the reading of its body."""
_PART_BYTES = 1024 * 1024
"""What ``fetch`` reads and writes at once."""
_VERSIONS_AT_ONCE = 1000
"""The most that S3 lists and deletes in one call."""
_MOST_ROUNDS = 100
"""Calls of ``purge``, each of 1,000 versions; more are an error that asks to delete again."""
_CONTENT_TYPES = {".json": "application/json", ".jsonl": "application/jsonl"}
_MISSING = ("NoSuchKey", "404")
"""S3's errors for an unknown key."""
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
    """Return the size of the body that a response announces. Raises TooLargeError."""
    size_bytes = int(response.get("ContentLength", 0))
    if longest_bytes is not None and size_bytes > longest_bytes:
        raise TooLargeError(f"An object has {size_bytes} bytes; the limit is {longest_bytes}.")
    return size_bytes


def _encryption(kms_key_id: str | None) -> dict[str, Any]:
    """Return S3's options for this key, none for the bucket's default. With a bucket key, S3 calls KMS once
    for many objects."""
    by_key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id, "BucketKeyEnabled": True}
    return {} if kms_key_id is None else by_key


@dataclass(frozen=True, slots=True)
class S3Blobs:
    """``Blobs`` below a prefix of a bucket; ``client`` is an aiobotocore client of S3. The protocol
    (``blobs.py``) says what each method returns; all raise DependencyError.

    With the prefix ".uploads/", the key "5f1c/8a02/content" is the object ".uploads/5f1c/8a02/content". With
    ``beside`` {"texts/": "texts-bucket"}, keys that begin with "texts/" are objects of that bucket.

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
    """Buckets by the prefix of the keys that they have; all other keys are in ``bucket``."""
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
        """Return the blobs that a store declares (``store.BlobsOf``), in this bucket."""
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
        """Return S3's time, from the header of its response to a listing."""
        page = await self._first_page(prefix, most=1)
        return parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])

    async def put(self, key: str, content: bytes, *, most: int = 1) -> None:
        del most  # the bucket keeps versions, for as long as its lifecycle says
        await self._put(key, content)

    async def add(self, key: str, content: bytes) -> None:
        """Write an object, unless there is one of that key: S3 then answers PreconditionFailed."""
        try:
            await self._put(key, content, IfNoneMatch="*")
        except ServiceRefusedError as error:
            if error.reason != "PreconditionFailed":
                raise

    async def _put(self, key: str, content: bytes, **condition: str) -> None:
        options: dict[str, Any] = {"ChecksumSHA256": _checksum(content), **condition}
        options["ChecksumAlgorithm"] = "SHA256"  # the emulator returns the checksum only with this
        options["ContentType"] = _CONTENT_TYPES.get(PurePosixPath(key).suffix, "application/octet-stream")
        await self._call("put_object", key, Body=content, **options, **_encryption(self.kms_key_id))

    async def store(self, key: str, parts: AsyncIterable[bytes | bytearray]) -> None:
        """Upload the parts one after the other. When ``parts`` or S3 fails, those uploaded are
        deleted. Each part but the last must have 5 MiB at least."""
        begun = await self._call("create_multipart_upload", key, **_encryption(self.kms_key_id))
        upload, uploaded = {"UploadId": begun["UploadId"]}, list[Mapping[str, Any]]()
        try:
            async for part in parts:
                number = {"PartNumber": len(uploaded) + 1}
                done = await self._call("upload_part", key, Body=part, **upload, **number)
                uploaded.append({"ETag": done["ETag"], **number})
        except BaseException:
            await self._call("abort_multipart_upload", key, **upload)
            raise
        await self._call("complete_multipart_upload", key, MultipartUpload={"Parts": uploaded}, **upload)

    async def get(self, key: str, *, version: str = "") -> bytes | None:
        """Return an object's content; None where there is none. A body that breaks off or arrives damaged
        is read once more: the client's retries end where a body begins. An object that is damaged twice is
        damaged in the store."""
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
        return await self._body_of(key, lambda response: response["Body"].read(), Range=part)

    async def fetch(self, key: str, into: Path) -> bool:
        async def copy(response: Mapping[str, Any]) -> bool:
            size_bytes = _size_of(response, longest_bytes=self.longest_bytes)
            if await _copy(response["Body"], into) != size_bytes:
                raise DependencyError(f"{self.what} returned a part of a file. Retry.")
            return True

        return await self._body_of(key, copy) or False  # None where there is no object

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
            for listed in page.get("Contents", ()):
                yield self._version(listed)

    async def begun(self, prefix: str) -> AsyncIterator[BlobVersion]:
        async for page in self._pages("list_multipart_uploads", prefix):
            for upload in page.get("Uploads", ()):
                yield self._version({"LastModified": upload["Initiated"], "ETag": "", **upload})

    async def versions(self, prefix: str) -> AsyncIterator[BlobVersion]:
        async for page in self._pages("list_object_versions", prefix):
            for listed in _versions(page):
                yield self._version(listed)

    async def _pages(self, operation: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the pages of a listing, each read within the limit of one call."""
        place = {"Bucket": self._bucket(prefix), "Prefix": self.prefix + prefix}
        pages = aiter(self.client.get_paginator(operation).paginate(**place))
        while True:
            async with aws_call(self.what, limit_s=_LIMIT_S):
                page = await anext(pages, None)
            if page is None:
                return
            yield page

    def _version(self, listed: Mapping[str, Any]) -> BlobVersion:
        """Return an entry of a listing. A delete marker is the one that has no ETag."""
        key, version = str(listed["Key"]).removeprefix(self.prefix), str(listed.get("VersionId", ""))
        return BlobVersion(key, version, listed["LastModified"], deleted="ETag" not in listed)

    async def purge(self, prefix: str, *, of_key: bool = False) -> None:
        """Delete every version and delete marker below the prefix, 1,000 at a time. What S3 refuses is tried
        again in the next round, unless it refuses all."""
        for _ in range(_MOST_ROUNDS):
            versions = [
                {"Key": listed["Key"], "VersionId": listed["VersionId"]}
                for listed in await self._first_versions(prefix)
                if not of_key or listed["Key"] == self.prefix + prefix
            ]
            if not versions:
                return
            delete = {"Objects": versions, "Quiet": True}
            async with aws_call(self.what, limit_s=_LIMIT_S):
                response = await self.client.delete_objects(Bucket=self._bucket(prefix), Delete=delete)
            refused = response.get("Errors", ())
            if len(refused) == len(versions):
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
        """Call an operation of the client, such as "put_object", for an object. Returns S3's response."""
        place = {"Bucket": self._bucket(key), "Key": self.prefix + key}
        async with aws_call(self.what, limit_s=_LIMIT_S):
            return await getattr(self.client, operation)(**place, **options)

    def _bucket(self, key: str) -> str:
        """Return the bucket of a key, or of all keys with a prefix; see ``beside``."""
        return next((bucket for prefix, bucket in self.beside.items() if key.startswith(prefix)), self.bucket)


def _checksum(content: bytes) -> str:
    """Return the SHA-256 as S3 writes it, in base64."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _versions(page: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the versions and delete markers of a page, each from the newest of a key."""
    return (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))


async def _copy(body: Any, into: Path) -> int:
    """Write a body to a file. Returns its size in bytes."""
    written_bytes = 0
    with await asyncio.to_thread(into.open, "wb") as file:
        while part := await body.read(_PART_BYTES):
            written_bytes += await asyncio.to_thread(file.write, part)
    return written_bytes


# --- objects that become local files, and back ---

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
    async for blob in blobs.list(""):
        name = blob.key
        if name and not name.endswith("/") and ".." not in name.split("/"):
            content = await read_file(
                client, f"{uri}{name}", longest_bytes=LONGEST_FILE_BYTES, advice="put it there again"
            )
            await asyncio.to_thread(write_whole, into / name, content, setting="the folder")
            count += 1
    return count


async def upload_folder(client: Any, *, folder: Path, uri: str, last: str) -> None:
    """Copy the files of a folder below ``uri`` (``s3://bucket/prefix/``), the file ``last`` at the end: a
    folder that has it is whole. A file that is there is left: names are of the content. Raises
    DependencyError."""
    blobs = _below(client, uri)
    paths = await asyncio.to_thread(lambda: sorted(folder.iterdir()))
    for path in sorted(paths, key=lambda each: each.name == last):
        await blobs.add(path.name, await asyncio.to_thread(path.read_bytes))


def _below(client: Any, uri: str) -> S3Blobs:
    """Return the blobs of "s3://bucket/prefix/"."""
    url = urlsplit(uri)
    return S3Blobs(client, bucket=url.netloc, prefix=url.path.lstrip("/"))


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


def _matches_etag(content: bytes, response: Mapping[str, Any]) -> bool:
    """Return whether the content has the MD5 of S3's ETag. The ETag has none for an object that was uploaded
    in parts or is encrypted by KMS; S3's own checksum then is the only check."""
    plain = _PLAIN_MD5.fullmatch(response["ETag"])
    if plain is None or response.get("ServerSideEncryption", "AES256") != "AES256":
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
