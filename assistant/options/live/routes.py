"""Routes of live data: an element of an answer read again, and the audit of reads."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from assistant.domain.audit import LiveReadQuery
from assistant.domain.identity import Identity, Role
from assistant.domain.live import Element
from assistant.options.live.reads import AuditLiveReads, ReadElementAgain
from assistant.service.audit import MOST_ENTRIES
from assistant.service.documents import AUDIT_SPAN, Instant
from assistant.service.errors import declared
from assistant.service.identity import Caller, ServiceOf, TenantOf, caller_with, require_role
from assistant.service.streams import json_body
from assistant.service.wire import ElementRequest, LiveReadsPage

REQUEST_BODIES = (ElementRequest,)
"""Bodies of the requests, for the OpenAPI file."""
router = APIRouter()


@router.post(
    "/v1/answers/{answer_id}/elements/{element_id}",
    tags=["answers"],
    **declared(404, 409, body=ElementRequest),
)
async def read_element_again(
    service: ServiceOf,
    tenant: TenantOf,
    caller: Annotated[Identity, caller_with(Role.AGENT)],
    answer_id: str,
    element_id: str,
    asked: Annotated[ElementRequest, json_body(ElementRequest)],
) -> Element:
    """Read a live element of the caller's own, recorded answer again. The record does not change.
    Elements of an answer are read again 200 times at most; another read is refused (409)."""
    context = await service.context_of(asked.context, identity=caller)
    return await tenant.part(ReadElementAgain).read(answer_id, element_id, identity=caller, context=context)


@router.get("/v1/live-reads", tags=["audit"], **declared())
async def live_reads(
    tenant: TenantOf,
    caller: Caller,
    agent: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
    customer: Annotated[str | None, Query(max_length=128)] = None,
    since: Instant = None,
    until: Instant = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> LiveReadsPage:
    """Return who read which data of live systems, whose and when, without any value; by default in the last
    30 days, a page of them. The audit itself is recorded."""
    require_role(caller, Role.AUDITOR)
    until = until or tenant.answering.clock.now()
    since = since or until - AUDIT_SPAN
    query = LiveReadQuery(since, until, agent, after=after, limit=limit)
    page = await tenant.part(AuditLiveReads).page(query, customer=customer, auditor=caller.agent)
    return LiveReadsPage(since=since, until=until, reads=page.reads, next_after=page.next_after)
