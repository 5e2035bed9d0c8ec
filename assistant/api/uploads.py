"""Uploads of files in parts, by the open protocol tus 1.0 (core and creation): ``POST`` begins one, ``PATCH``
appends bytes, ``HEAD`` tells where to go on. What became of a file is read by ``GET``.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from assistant.api import wire
from assistant.api.auth import TenantOf, caller_with
from assistant.api.delivery import read_parts, stores_within
from assistant.api.documents import document_of, writable_sources
from assistant.api.errors import NOT_FOUND, declared, problems
from assistant.domain.errors import ConflictError, InvalidRequestError, NotFoundError, OverloadedError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import fields_of
from assistant.knowledge.files import KINDS_READ
from assistant.knowledge.uploads import MOST_OPEN, PART_BYTES, Upload, Uploads, checked_path, upload_key
from assistant.wiring.services import ServedTenant

_VERSION = {"Tus-Resumable": "1.0.0"}
_MOST_ASKED = 50
_PART_TYPE = "application/offset+octet-stream"
_BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {_PART_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_UploadId = Annotated[str, Query(min_length=32, max_length=32)]
_Owner = Annotated[Identity, caller_with(Role.KNOWLEDGE_OWNER)]
_stores_within = partial(stores_within, 30.0, stores="The store of uploads")

router = APIRouter(tags=["documents"])


@router.get("/v1/knowledge-sources", **declared())
async def list_sources(tenant: TenantOf, caller: _Owner) -> wire.WritableSources:
    """Return the sources that the caller may add documents to, with where their labels come from, and the
    caller's own labels."""
    return wire.WritableSources(
        tenant=caller.tenant,
        labels=tuple(sorted(caller.labels)),
        sources=tuple(
            wire.WritableSource(
                name=source.name,
                access=source.entry.access or "everyone",
                folders=tuple(source.entry.folders or ()),
            )
            for source in tenant.sources.writable_by(caller)
        ),
        kinds=KINDS_READ,
    )


@router.post("/v1/uploads", status_code=201, **declared(404, 413))
async def begin_upload(
    tenant: TenantOf,
    caller: _Owner,
    response: Response,
    path: Annotated[str, Query(min_length=1, max_length=1000)],
    upload_length: Annotated[int, Header(ge=0)],
    knowledge_source: Annotated[str | None, Query(max_length=64)] = None,
    replaces: Annotated[str | None, Query(max_length=256)] = None,
) -> wire.UploadState:
    """Begin to upload a file (tus 1.0, creation): `Location` names it.

    `path` is the file's path below its source, as `assistant knowledge add` names it: it gives the document
    its id, and in sources with labels by folder its labels. A file of a kind that is not read is refused
    (422), and one that is too large for its kind (413). At most 20 uploads of a person may be unfinished.
    With `replaces`, a document's full id, the file becomes that document, whatever it is called.
    """
    source = writable_sources(tenant, caller).named(knowledge_source)
    if replaces is not None:
        await document_of(tenant, caller, replaces)
        source = tenant.sources.of_document(replaces) or source
    uploads, read_as = _uploads(tenant), checked_path(path, upload_length)
    async with _stores_within():
        if await uploads.open_uploads(caller.agent) >= MOST_OPEN:
            raise OverloadedError(f"{MOST_OPEN} of your uploads are unfinished. Finish one, or wait a day.")
        upload = Upload(
            upload_id=secrets.token_hex(16),
            agent=caller.agent,
            labels=tuple(sorted(caller.labels)),
            source=source.name,
            replaces=None if replaces is None else replaces.removeprefix(source.id_prefix),
            path=read_as,
            size_bytes=upload_length,
            created_at=tenant.answering.clock.now(),
            first_load=await tenant.first_loads.is_first(source),
        )
        await uploads.create(upload)
    response.headers.update({"Location": f"/v1/uploads/{upload.upload_id}", **_VERSION})
    return _state(upload)


@router.head("/v1/uploads/{upload_id}", responses=problems(401, 403, 404, 422, 429, 503))
async def upload_offset(tenant: TenantOf, caller: _Owner, upload_id: str) -> Response:
    """Return, as `Upload-Offset`, how many bytes are stored: the upload goes on there."""
    upload, offset = await _upload(tenant, caller, upload_id)
    return Response(headers=_offset(offset) | {"Upload-Length": str(upload.size_bytes)})


@router.patch(
    "/v1/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503),
    openapi_extra=_BYTES,
)
async def append_to_upload(
    request: Request,
    tenant: TenantOf,
    caller: _Owner,
    upload_id: str,
    upload_offset: Annotated[int, Header(ge=0)],
) -> Response:
    """Append bytes at `Upload-Offset`. With the last byte the file is read; its result follows.

    Bytes are kept in parts of 5 MiB: after a connection that broke, the offset (`HEAD`) may be behind what
    was sent. Another offset than that is refused (409).
    """
    upload, offset = await _upload(tenant, caller, upload_id)
    if request.headers.get("content-type") != _PART_TYPE:
        raise InvalidRequestError(f"Send the bytes as {_PART_TYPE}.")
    if offset != upload_offset:
        raise ConflictError(f"The upload goes on at byte {offset}, not {upload_offset}.")
    remaining = upload.size_bytes - offset
    async for part in read_parts(request.receive, part_bytes=PART_BYTES, remaining_bytes=remaining):
        async with _stores_within():
            await _uploads(tenant).append(upload, part, offset=offset)
        offset += len(part)
    return Response(status_code=204, headers=_offset(offset))


@router.get("/v1/uploads", **declared(404))
async def upload_results(
    tenant: TenantOf,
    caller: _Owner,
    upload_id: Annotated[list[_UploadId], Query(min_length=1, max_length=_MOST_ASKED)],
) -> wire.UploadStates:
    """Return what became of the caller's uploads, up to 50 at once; those that are gone are left out."""
    uploads = _uploads(tenant)
    states: list[wire.UploadState] = []
    async with _stores_within():
        for one in upload_id:
            key = upload_key(caller.agent, one)
            if one.isalnum() and (upload := await uploads.get(key)) is not None:
                states.append(_state(upload).model_copy(update={"result": await uploads.result(key)}))
    return wire.UploadStates(uploads=tuple(states))


def _state(upload: Upload) -> wire.UploadState:
    return wire.UploadState(**fields_of(upload, wire.UploadState))


def _offset(offset: int) -> dict[str, str]:
    return {"Upload-Offset": str(offset), "Cache-Control": "no-store", **_VERSION}


def _uploads(tenant: ServedTenant) -> Uploads:
    if tenant.uploads is None:
        raise NotFoundError("This deployment takes no uploads: it has no inbox.")
    return tenant.uploads


async def _upload(tenant: ServedTenant, caller: Identity, upload_id: str) -> tuple[Upload, int]:
    """Return an upload and how many bytes of it are stored.

    Raises NotFoundError for an upload that is gone, or another person's."""
    uploads, key = _uploads(tenant), upload_key(caller.agent, upload_id)
    async with _stores_within():
        upload = await uploads.get(key) if upload_id.isalnum() else None
        if upload is None:
            raise NotFoundError(NOT_FOUND)
        return upload, await uploads.offset(upload)
