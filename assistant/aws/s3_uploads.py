"""Uploads of one tenant in the inbox bucket, below a prefix that only the orchestrator and the function that
reads them may write.

``<prefix><key>/upload.json`` is the upload as it was begun, ``…/content`` the file, ``…/result.json`` what
became of it. A file is one multipart upload: S3 keeps the parts, so any task of the service can go on with
it, and completing it is the event that has it read. The file of a source's first load lies at
``<prefix>first/<source>/<key>/content``, so that one listing counts what is not read yet.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from assistant.aws.clients import aws_call
from assistant.aws.s3 import S3RawFiles, encryption, read_object
from assistant.domain.errors import ConflictError
from assistant.domain.public import PublicModel
from assistant.domain.uploads import UploadResult
from assistant.knowledge.uploads import COUNTED_FOR, PART_BYTES, Upload, upload_key
from assistant.settings.process import UPLOADS_PREFIX

_WHAT = "The store of uploads"
_LIMIT_S = 30.0
_FIRST = f"{UPLOADS_PREFIX}first/"
Kept = TypeVar("Kept", bound=PublicModel)


@dataclass(frozen=True, slots=True)
class S3Uploads:
    """``Uploads`` on the inbox bucket; ``client`` is an aiobotocore client of S3.

    The service's role needs, below the prefix, s3:GetObject, PutObject and ListMultipartUploadParts, and of
    the bucket ListBucket and ListBucketMultipartUploads; the reader's GetObject, PutObject of results and
    DeleteObject of contents. The bucket's lifecycle aborts unfinished uploads and expires the others.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    kms_key_id: str | None = None

    async def create(self, upload: Upload) -> None:
        await self._put(upload.key, "upload.json", upload)
        await self._call("create_multipart_upload", _content(upload), **encryption(self.kms_key_id))

    async def get(self, key: str) -> Upload | None:
        return await self._read(key, "upload.json", Upload)

    async def open_uploads(self, agent: str) -> int:
        person = upload_key(agent, "")
        first = [one for one in await self._multipart_uploads(_FIRST) if f"/{person}" in one["Key"]]
        return len(first) + len(await self._multipart_uploads(UPLOADS_PREFIX + person))

    async def unread_first(self) -> Mapping[str, int]:
        begun_after = datetime.now(UTC) - COUNTED_FOR
        begun = [one for one in await self._multipart_uploads(_FIRST) if one["Initiated"] > begun_after]
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=_FIRST)
            complete = [one async for page in pages for one in page.get("Contents", ())]
        return Counter(one["Key"].removeprefix(_FIRST).partition("/")[0] for one in (*begun, *complete))

    async def offset(self, upload: Upload) -> int:
        sent = await self._upload_id(upload)
        if sent is None:
            return upload.size_bytes
        parts = await self._parts(upload, sent)
        size_bytes = sum(int(part["Size"]) for part in parts)
        if size_bytes == upload.size_bytes:
            await self._complete(upload, sent)  # a crash came between the last part and this
        return size_bytes

    async def append(self, upload: Upload, part: bytes, *, offset: int) -> None:
        sent = await self._upload_id(upload)
        if sent is None or offset % PART_BYTES:
            raise ConflictError("This upload is complete, or the offset is none of it. Ask for it (HEAD).")
        number = offset // PART_BYTES + 1
        await self._call("upload_part", _content(upload), UploadId=sent, PartNumber=number, Body=part)
        if offset + len(part) == upload.size_bytes:
            await self._complete(upload, sent)

    async def fetch(self, upload: Upload, into: Path) -> bool:
        return await S3RawFiles(self.client, bucket=self.bucket).fetch(_content(upload), into)

    async def put_result(self, upload: Upload, result: UploadResult) -> None:
        await self._put(upload.key, "result.json", result)
        await self._call("delete_object", _content(upload))

    async def result(self, key: str) -> UploadResult | None:
        return await self._read(key, "result.json", UploadResult)

    async def _complete(self, upload: Upload, sent: str) -> None:
        parts = await self._parts(upload, sent)
        if sum(int(part["Size"]) for part in parts) != upload.size_bytes:
            raise ConflictError("Bytes before this part are missing. Ask for the offset (HEAD), go on there.")
        named = {"Parts": [{name: part[name] for name in ("PartNumber", "ETag")} for part in parts]}
        await self._call("complete_multipart_upload", _content(upload), UploadId=sent, MultipartUpload=named)

    async def _upload_id(self, upload: Upload) -> str | None:
        """Return S3's id of the upload; None when it is complete or was aborted."""
        found = await self._multipart_uploads(_content(upload))
        return str(found[0]["UploadId"]) if found else None

    async def _multipart_uploads(self, prefix: str) -> list[Mapping[str, Any]]:
        """Return at most 1,000, S3's page: fifty times as many as a person may have open."""
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            page = await self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=prefix)
        return list(page.get("Uploads", ()))

    async def _parts(self, upload: Upload, sent: str) -> list[Mapping[str, Any]]:
        """Return the parts in order: a page of S3 has 1,000, and the largest file 52."""
        page = await self._call("list_parts", _content(upload), UploadId=sent)
        return list(page.get("Parts", ()))

    async def _read(self, key: str, name: str, kind: type[Kept]) -> Kept | None:
        found = await read_object(
            self.client, bucket=self.bucket, key=_key(key, name), what=_WHAT, limit_s=_LIMIT_S
        )
        return None if found is None else kind.model_validate_json(found[0])

    async def _put(self, key: str, name: str, kept: PublicModel) -> None:
        body = kept.model_dump_json().encode()
        await self._call("put_object", _key(key, name), Body=body, **encryption(self.kms_key_id))

    async def _call(self, operation: str, key: str, **options: Any) -> Mapping[str, Any]:
        """Have the client do an operation on an object."""
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            return await getattr(self.client, operation)(Bucket=self.bucket, Key=key, **options)


def _content(upload: Upload) -> str:
    place = f"{_FIRST}{upload.source}/" if upload.first_load else UPLOADS_PREFIX
    return f"{place}{upload.key}/content"


def _key(key: str, name: str) -> str:
    return f"{UPLOADS_PREFIX}{key}/{name}"
