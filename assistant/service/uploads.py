"""Uploads of files: ``POST /v1/uploads`` stores a file, a worker reads it later, and ``GET /v1/uploads`` has
its result."""

from __future__ import annotations

import secrets
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request

from assistant.documents.files import LARGEST_LINES_BYTES, kinds_read
from assistant.documents.uploads import checked_path
from assistant.domain.errors import NotFoundError, TooLargeError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import fields_of
from assistant.service import wire
from assistant.service.documents import document_of, writable_sources
from assistant.service.errors import declared
from assistant.service.identity import TenantOf, caller_with
from assistant.service.opened import ServedTenant
from assistant.service.streams import discard_body, read_parts, stores_within, take_bytes
from assistant.stores.uploads import PART_BYTES, StoredUploads, Upload, upload_key

_MOST_ASKED = 50
"""Uploads of one request for results."""
_BYTES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
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
        kinds=kinds_read(),
    )


@router.post("/v1/uploads", status_code=202, **declared(404, 413), openapi_extra=_BYTES)
async def upload_file(
    request: Request,
    tenant: TenantOf,
    caller: _Owner,
    path: Annotated[str, Query(min_length=1, max_length=1000)],
    content_length: Annotated[int, Header(ge=0, include_in_schema=False)],
    knowledge_source: Annotated[str | None, Query(max_length=64)] = None,
    replaces: Annotated[str | None, Query(max_length=256)] = None,
) -> wire.UploadState:
    """Upload a file, whose bytes are the body, with `Content-Length`. It is then read; its result follows.

    `path` is the file's path below its source, as `assistant knowledge add` names it: it gives the document
    its id, and in sources with labels by folder its labels. A file of a kind that is not read is refused
    (422), and one that is too large for its kind (413). Of an upload that breaks off nothing is kept.
    With `replaces`, a document's full id, the file becomes that document, whatever it is called.
    """
    source = writable_sources(tenant, caller).named(knowledge_source)
    if replaces is not None:
        await document_of(tenant, caller, replaces)
        source = tenant.sources.of_document(replaces) or source
    uploads = _uploads(tenant)
    try:
        read_as = checked_path(path, content_length)
    except TooLargeError:  # read what a client may still be sending, so that it gets the response
        if content_length <= LARGEST_LINES_BYTES:
            await discard_body(request.receive, most_bytes=content_length)
        raise
    take_bytes(request.scope, min(content_length, PART_BYTES))
    upload = Upload(
        upload_id=secrets.token_hex(16),
        agent=caller.agent,
        labels=tuple(sorted(caller.labels)),
        source=source.name,
        replaces=None if replaces is None else replaces.removeprefix(source.id_prefix),
        path=read_as,
        size_bytes=content_length,
        created_at=tenant.answering.clock.now(),
        first_load=await tenant.first_loads.is_first(source),
    )
    async with aclosing(read_parts(request.receive, part_bytes=PART_BYTES)) as parts:
        await uploads.store(upload, parts)
    return _state(upload)


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
        for each_id in upload_id:
            key = upload_key(caller.agent, each_id)
            if each_id.isalnum() and (upload := await uploads.get(key)) is not None:
                states.append(_state(upload).model_copy(update={"result": await uploads.result(key)}))
    return wire.UploadStates(uploads=tuple(states))


def _state(upload: Upload) -> wire.UploadState:
    return wire.UploadState(**fields_of(upload, wire.UploadState))


def _uploads(tenant: ServedTenant) -> StoredUploads:
    """Return the store of uploads. Raises NotFoundError where the deployment has none."""
    if tenant.uploads is None:
        raise NotFoundError("This deployment takes no uploads: it has no inbox.")
    return tenant.uploads
