"""Documents: their text for readers, their states and changes for knowledge owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from assistant.adapters.signed_links import LinkGrant, refused_link, tenant_of_link
from assistant.bootstrap import ServedTenant
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.domain.errors import DependencyError, NotFoundError, UnauthenticatedError
from assistant.domain.identity import Identity, Role
from assistant.ingesting.sources.items import SourceDocument
from assistant.service.document_reading import ReadDocument, Reader
from assistant.service.identity import require_role
from assistant.service.openapi_parts import body_of, problems
from assistant.service.problems import NOT_FOUND
from assistant.service.request_body import DOCUMENT_LIMIT_BYTES, parse_body, read_body
from assistant.service.wire import DocumentPage, DocumentText
from assistant.service.wiring import Caller, Service, ServiceOf, caller_of

router = APIRouter(tags=["documents"])
_LIMIT_S = 6.0
"""For stores that somebody waits for. Their adapters have the patience of the worker: a minute."""
_TEXT_OR_ORIGINAL: dict[str, Any] = {
    "description": "The text with its sections, or the original",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_ORIGINAL_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}


@router.get("/v1/documents", responses=problems(401, 403, 422, 503))
async def list_documents(
    service: ServiceOf,
    caller: Caller,
    state: Annotated[list[DocumentState] | None, Query()] = None,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> DocumentPage:
    """A page of the tenant's documents in order of their ids, and how many are in each state."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    states = service.tenants[caller.tenant].knowledge.states
    page = await states.list(states=state or (), after=after, limit=limit + 1)
    return DocumentPage(
        documents=tuple(page[:limit]),
        next_after=page[limit - 1].document_id if len(page) > limit else None,
        counts=dict(await states.count_by_state()),
    )


@router.post(
    "/v1/documents",
    status_code=202,
    responses=problems(400, 401, 403, 413, 422, 429, 503),
    openapi_extra=body_of(Document),
)
async def bring_document(request: Request, service: ServiceOf, caller: Caller) -> DocumentStatus:
    """Take the canonical document and have it indexed; its status tells how far it is."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    body = await read_body(request.scope, request.receive, limit_bytes=DOCUMENT_LIMIT_BYTES)
    document = parse_body(body, Document)
    tenant = service.tenants[caller.tenant]
    async with _in_time():
        await tenant.add_documents([SourceDocument(document, "request")])
        return await _status(tenant, document.document_id)


@router.get("/v1/documents/{document_id}/status", responses=problems(401, 403, 404, 422, 503))
async def document_status(service: ServiceOf, caller: Caller, document_id: str) -> DocumentStatus:
    """Where the document is on its way into the index, and why it failed."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    return await _status(service.tenants[caller.tenant], document_id)


@router.delete("/v1/documents/{document_id}", status_code=202, responses=problems(401, 403, 404, 422, 503))
async def withdraw_document(service: ServiceOf, caller: Caller, document_id: str) -> DocumentStatus:
    """Withdraw the document: it is no longer readable, and the worker takes it out of the index."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    tenant = service.tenants[caller.tenant]
    async with _in_time():
        await tenant.withdraw_documents([document_id])
        return await _status(tenant, document_id)


@router.get(
    "/v1/documents/{document_id}",
    response_model=DocumentText,
    responses=problems(401, 403, 404, 422, 503) | {200: _TEXT_OR_ORIGINAL},
)
async def read_document(
    request: Request,
    service: ServiceOf,
    document_id: str,
    token: Annotated[str | None, Query(max_length=4096)] = None,
    form: Annotated[Literal["text", "original"], Query(alias="format")] = "text",
) -> DocumentText | Response:
    """The stored text with its sections and the cited span, or with ``format=original`` what was brought.

    Allowed by a bearer token, or by the token of a link in an answer (10 minutes). Each read is recorded.
    """
    name, reader = await _reader(request, service, document_id, token)
    tenant = service.tenants[name]
    reading = ReadDocument(
        documents=tenant.knowledge.documents,
        states=tenant.knowledge.states,
        records=tenant.answering.records,
        clock=service.clock,
    )
    async with _in_time():
        if form == "text":
            return await reading.text(document_id, reader=reader)
        original = await reading.original(document_id, reader=reader)
    return Response(original, media_type="text/plain; charset=utf-8", headers=_ORIGINAL_HEADERS)


@asynccontextmanager
async def _in_time() -> AsyncGenerator[None]:
    """Raises DependencyError after the limit. What was begun may be asked for again: it is done once."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            yield
    except TimeoutError:
        raise DependencyError(f"The stores of documents took over {_LIMIT_S:.0f} s; try again.") from None


async def _status(tenant: ServedTenant, document_id: str) -> DocumentStatus:
    status = await tenant.knowledge.states.get(document_id)
    if status is None:
        raise NotFoundError(NOT_FOUND)
    return status


async def _reader(
    request: Request, service: Service, document_id: str, token: str | None
) -> tuple[str, Reader]:
    """Return the tenant and who reads. With a bearer token a link only says which passage to show."""
    if "authorization" not in request.headers and token is not None:
        tenant = service.tenants.get(tenant_of_link(token))
        if tenant is None:
            raise refused_link()
        grant = tenant.links.open(token)
        if grant.document_id != document_id:
            raise NotFoundError(NOT_FOUND)
        return grant.tenant, _reader_of(grant.agent, frozenset(grant.labels), grant)
    caller = await caller_of(request)
    require_role(caller, *Role)
    grant = _cited(service, caller, token, document_id) if token is not None else None
    return caller.tenant, _reader_of(caller.agent, caller.labels, grant)


def _cited(service: Service, caller: Identity, token: str, document_id: str) -> LinkGrant:
    """Return what a link of the caller's own cites. Raises NotFoundError."""
    try:
        grant = service.tenants[caller.tenant].links.open(token, accept_expired=True)
    except UnauthenticatedError:
        raise NotFoundError(NOT_FOUND) from None
    if (grant.agent, grant.document_id) != (caller.agent, document_id):
        raise NotFoundError(NOT_FOUND)
    return grant


def _reader_of(agent: str, labels: frozenset[str], grant: LinkGrant | None) -> Reader:
    return Reader(
        agent=agent,
        labels=labels,
        cited_content=grant.content_hash if grant else None,
        cited_span=grant.span if grant else None,
    )
