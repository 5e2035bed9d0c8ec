"""Uploads of one tenant in the inbox bucket, below a prefix that only the orchestrator and the function that
reads them may write.

``<prefix><key>/upload.json`` is the upload as it was begun, ``…/content`` the file, ``…/result.json`` what
became of it. A file is one multipart upload, whose completion is the event that has it read. The file of a
source's first load lies at ``<prefix>first/<source>/<key>/content``, so that one listing counts what is not
read yet.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from assistant.domain.public import PublicModel
from assistant.domain.uploads import UploadResult
from assistant.process.aws.clients import aws_call
from assistant.process.settings import UPLOADS_PREFIX
from assistant.stores.documents_ports import COUNTED_FOR, Upload
from assistant.stores.s3 import S3RawFiles, encryption, read_object

_WHAT = "The store of uploads"
_LIMIT_S = 30.0
_FIRST = f"{UPLOADS_PREFIX}first/"
Kept = TypeVar("Kept", bound=PublicModel)


@dataclass(frozen=True, slots=True)
class S3Uploads:
    """``Uploads`` on the inbox bucket; ``client`` is an aiobotocore client of S3.

    The service's role needs, below the prefix, s3:GetObject, PutObject and AbortMultipartUpload, and of the
    bucket ListBucket and ListBucketMultipartUploads; the reader's GetObject, PutObject of results and
    DeleteObject of contents. The bucket's lifecycle aborts what a killed task left, and expires the others.
    """

    client: Any
    _: KW_ONLY
    bucket: str
    kms_key_id: str | None = None

    async def store(self, upload: Upload, parts: AsyncIterable[bytes | bytearray]) -> None:
        await self._put(upload.key, "upload.json", upload)
        place, kms = _content(upload), encryption(self.kms_key_id)
        sent = (await self._call("create_multipart_upload", place, **kms))["UploadId"]
        stored, size_bytes = list[Mapping[str, Any]](), 0
        try:
            async for part in parts:
                number = {"PartNumber": len(stored) + 1}
                done = await self._call("upload_part", place, UploadId=sent, Body=part, **number)
                stored.append({"ETag": done["ETag"], **number})
                size_bytes += len(part)
            upload.require_whole(size_bytes)
        except BaseException:
            await self._call("abort_multipart_upload", place, UploadId=sent)
            raise
        await self._call("complete_multipart_upload", place, UploadId=sent, MultipartUpload={"Parts": stored})

    async def get(self, key: str) -> Upload | None:
        return await self._read(key, "upload.json", Upload)

    async def unread_first(self) -> Mapping[str, int]:
        begun_after = datetime.now(UTC) - COUNTED_FOR
        async with aws_call(_WHAT, limit_s=_LIMIT_S):
            page = await self.client.list_multipart_uploads(Bucket=self.bucket, Prefix=_FIRST)
            begun = [one for one in page.get("Uploads", ()) if one["Initiated"] > begun_after]
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=_FIRST)
            complete = [one async for page in pages for one in page.get("Contents", ())]
        return Counter(one["Key"].removeprefix(_FIRST).partition("/")[0] for one in (*begun, *complete))

    async def fetch(self, upload: Upload, into: Path) -> bool:
        return await S3RawFiles(self.client, bucket=self.bucket).fetch(_content(upload), into)

    async def put_result(self, upload: Upload, result: UploadResult) -> None:
        await self._put(upload.key, "result.json", result)
        await self._call("delete_object", _content(upload))

    async def result(self, key: str) -> UploadResult | None:
        return await self._read(key, "result.json", UploadResult)

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
