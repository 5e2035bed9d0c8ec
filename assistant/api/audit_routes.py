"""Who saw a document, and what an agent saw: for auditors."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from assistant.answering.reading import MOST_ENTRIES, Audit
from assistant.api.identity import require_role
from assistant.api.openapi_parts import problems
from assistant.api.wire import AuditPage
from assistant.api.wiring import Caller, ServiceOf
from assistant.domain.answers import AccessQuery
from assistant.domain.identity import Role

router = APIRouter(tags=["audit"])
_LOOKS_BACK = timedelta(days=30)
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]


@router.get("/v1/audit", responses=problems(401, 403, 404, 422, 503))
async def audit(
    service: ServiceOf,
    caller: Caller,
    document_id: _Name = None,
    agent: _Name = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> AuditPage:
    """Who saw a document (its readers, and who was given an answer with it among the sources), what an agent
    saw, or both together; in the last 30 days unless told. The audit itself is recorded."""
    require_role(caller, Role.AUDITOR)
    tenant = service.tenants[caller.tenant]
    until = until or service.clock.now()
    query = AccessQuery(
        since=since or until - _LOOKS_BACK,
        until=until,
        document_id=document_id,
        agent=agent,
        after=after,
        limit=limit,
    )
    use = Audit(records=tenant.answering.records, documents=tenant.knowledge.states, clock=service.clock)
    page = await use.page(query, auditor=caller.agent)
    return AuditPage(since=query.since, until=query.until, entries=page.entries, next_after=page.next_after)
