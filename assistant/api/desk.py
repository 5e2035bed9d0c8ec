"""The review desk: the queue of cases, decisions on them, and what reviewers made.

Reviewers and knowledge owners may call; which cases and items exist for them is decided in
``assistant.learning``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from assistant.api import wire
from assistant.api.auth import Caller, ServiceOf, require_role
from assistant.api.delivery import parse_body, read_body
from assistant.api.errors import body_of, problems
from assistant.domain.answers import RecordId
from assistant.domain.desk import (
    ApprovedAnswer,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    DocumentQuestion,
    GlossaryEntry,
)
from assistant.domain.desk_decisions import (
    CaseApproval,
    CaseReopening,
    CaseResolution,
    ItemKind,
    PreviewRequest,
    Restoring,
    StateChange,
)
from assistant.domain.errors import DependencyError
from assistant.domain.identity import Identity, Role
from assistant.learning.desk import CaseFilter, CaseLine, CaseReading, DeskServices, ReviewDesk, body_of_item
from assistant.learning.desk_items import MODELS, DeskItems, served_body
from assistant.learning.resolutions import Resolutions
from assistant.learning.upkeep import DocumentQuestions

_TIMEOUT_S = 20.0
"""For one request: texts of documents may take 6 s, vectors 10 s."""
_CONFLICTS = {409: "Another revision is newer, or its state does not allow this"}
_NDJSON: dict[str, Any] = {
    "description": "A line of JSON for each case and each item",
    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
}
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]

router = APIRouter(tags=["desk"])


@router.get("/v1/desk/cases", responses=problems(401, 403, 422, 503))
async def list_cases(
    service: ServiceOf,
    caller: Caller,
    state: CaseState | None = None,
    reason: CaseReason | None = None,
    gap: _Name = None,
    document_id: _Name = None,
    after: _Name = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> wire.DeskCasePage:
    """Return a page of the cases that the caller may see, the latest opened first.

    A case is visible to a reviewer who holds all labels under which its question was asked, and to a
    knowledge owner who does and may write a source of its documents. The read is recorded.
    """
    desk = _desk(service, caller)
    wanted = CaseFilter(state=state, reason=reason, gap=gap, document_id=document_id)
    async with _timeout():
        lines, next_after = await desk.page(wanted, identity=caller, after=after, limit=limit)
    return wire.DeskCasePage(cases=tuple(_line(line) for line in lines), next_after=next_after)


@router.get("/v1/desk/cases/{case_id}", responses=problems(401, 403, 404, 422, 503))
async def read_case(service: ServiceOf, caller: Caller, case_id: RecordId) -> wire.DeskCase:
    """Return one case: what was asked, shown and sent, and all its revisions. The read is recorded."""
    desk = _desk(service, caller)
    async with _timeout():
        return _case(await desk.one(case_id, identity=caller))


@router.post(
    "/v1/desk/cases/{case_id}/resolution",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503, meanings=_CONFLICTS),
    openapi_extra=body_of(CaseResolution),
)
async def resolve_case(
    request: Request, service: ServiceOf, caller: Caller, case_id: RecordId
) -> wire.DeskCase:
    """Resolve a case: by an approved answer, a question of a document, a glossary entry, a correction that
    its owner is asked for, or a dismissal. The field named as ``kind`` says what is made.

    Under the deployment profile `hipaa` what is made is only proposed: another person approves it. Otherwise
    it is live within seconds.
    """
    desk = _desk(service, caller)
    asked = parse_body(await read_body(request.scope, request.receive), CaseResolution)
    async with _timeout():
        await _resolutions(desk, service, caller).resolve(case_id, asked, identity=caller)
        return _case(await desk.one(case_id, identity=caller))


@router.post(
    "/v1/desk/cases/{case_id}/approval",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503, meanings=_CONFLICTS),
    openapi_extra=body_of(CaseApproval),
)
async def approve_case(
    request: Request, service: ServiceOf, caller: Caller, case_id: RecordId
) -> wire.DeskCase:
    """Approve what another person proposed, or refuse it: then the case is open again."""
    desk = _desk(service, caller)
    asked = parse_body(await read_body(request.scope, request.receive), CaseApproval)
    async with _timeout():
        await _resolutions(desk, service, caller).approve(case_id, asked, identity=caller)
        return _case(await desk.one(case_id, identity=caller))


@router.post(
    "/v1/desk/cases/{case_id}/reopen",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503, meanings=_CONFLICTS),
    openapi_extra=body_of(CaseReopening),
)
async def reopen_case(
    request: Request, service: ServiceOf, caller: Caller, case_id: RecordId
) -> wire.DeskCase:
    """Open a case again. What its resolution made is withdrawn; it can be put back under its item."""
    desk = _desk(service, caller)
    asked = parse_body(await read_body(request.scope, request.receive), CaseReopening)
    async with _timeout():
        await _resolutions(desk, service, caller).reopen(case_id, asked, identity=caller)
        return _case(await desk.one(case_id, identity=caller))


@router.get("/v1/desk/gaps", responses=problems(401, 403, 422, 503))
async def list_gaps(service: ServiceOf, caller: Caller) -> wire.DeskGaps:
    """Return questions without an answer, grouped by what they ask for: open cases that the caller may see.
    The read is recorded."""
    desk = _desk(service, caller)
    async with _timeout():
        gaps = await desk.gaps(identity=caller)
    return wire.DeskGaps(
        gaps=tuple(
            wire.DeskGap(
                gap=one.gap,
                count=one.count,
                title=one.title,
                examples=one.examples,
                case_ids=one.case_ids,
            )
            for one in gaps
        )
    )


@router.post(
    "/v1/desk/preview",
    responses=problems(400, 401, 403, 413, 422, 429, 503),
    openapi_extra=body_of(PreviewRequest),
)
async def preview_answer(request: Request, service: ServiceOf, caller: Caller) -> wire.DeskPreview:
    """Return which of the last questions an approved answer would capture, and why it would not the others
    that are near. The read is recorded."""
    _services(service, caller)
    asked = parse_body(await read_body(request.scope, request.receive), PreviewRequest)
    async with _timeout():
        found = await service.tenants[caller.tenant].preview_answer(asked, identity=caller)
    return wire.DeskPreview(
        captured=tuple(
            wire.DeskCaptured(answer_id=one.answer_id, question=one.question, cosine=one.cosine)
            for one in found.captured
        ),
        near=tuple(
            wire.DeskNear(answer_id=one.answer_id, question=one.question, cosine=one.cosine, why=one.why)
            for one in found.near
        ),
        compared=found.compared,
    )


@router.get("/v1/desk/items", responses=problems(401, 403, 422, 503))
async def list_items(service: ServiceOf, caller: Caller, kind: ItemKind | None = None) -> wire.DeskItems:
    """Return what reviewers made, as far as the caller may see it, the latest changed first."""
    items = _items(_services(service, caller))
    kinds = [DeskKind(kind)] if kind is not None else list(MODELS)
    async with _timeout():
        found = await items.list(kinds, identity=caller)
    return wire.DeskItems(items=tuple(_item(one) for one in found))


@router.get("/v1/desk/items/{kind}/{item_id}", responses=problems(401, 403, 404, 422, 503))
async def read_item(
    service: ServiceOf, caller: Caller, kind: ItemKind, item_id: RecordId
) -> wire.DeskItemHistory:
    """Return all revisions of an item, oldest first."""
    items = _items(_services(service, caller))
    async with _timeout():
        return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.post(
    "/v1/desk/items/{kind}/{item_id}/state",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503, meanings=_CONFLICTS),
    openapi_extra=body_of(StateChange),
)
async def set_item_state(
    request: Request, service: ServiceOf, caller: Caller, kind: ItemKind, item_id: RecordId
) -> wire.DeskItemHistory:
    """Withdraw an item, or make it live again. Under the profile `hipaa` `live` proposes it, and `live` of
    another person makes it live."""
    items = _items(_services(service, caller))
    change = parse_body(await read_body(request.scope, request.receive), StateChange)
    async with _timeout():
        found = await items.find(DeskKind(kind), item_id, identity=caller)
        await items.set_state(found, change, identity=caller)
        return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.post(
    "/v1/desk/items/{kind}/{item_id}/restore",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 429, 503, meanings=_CONFLICTS),
    openapi_extra=body_of(Restoring),
)
async def restore_item(
    request: Request, service: ServiceOf, caller: Caller, kind: ItemKind, item_id: RecordId
) -> wire.DeskItemHistory:
    """Put an earlier revision back, as a new one."""
    items = _items(_services(service, caller))
    change = parse_body(await read_body(request.scope, request.receive), Restoring)
    async with _timeout():
        found = await items.find(DeskKind(kind), item_id, identity=caller)
        await items.restore(found, change, identity=caller)
        return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.get(
    "/v1/desk/export",
    response_class=StreamingResponse,
    responses=problems(401, 403, 422, 503) | {200: _NDJSON},
)
async def export_desk(service: ServiceOf, caller: Caller) -> StreamingResponse:
    """Return every case and item that the caller may see, a line of JSON each (``DeskExportLine``). The read
    is recorded."""
    services = _services(service, caller)
    lines = _export(services, caller)
    first = await anext(lines, "")  # a store that is down is a status, not a broken stream

    async def whole() -> AsyncIterator[str]:
        yield first
        async for line in lines:
            yield line

    headers = {"content-disposition": 'attachment; filename="desk.ndjson"'}
    return StreamingResponse(whole(), media_type="application/x-ndjson", headers=headers)


async def _export(services: DeskServices, caller: Identity) -> AsyncIterator[str]:
    async for case in ReviewDesk(services).export(identity=caller):
        yield _exported(wire.DeskExportLine(case=_line(case)))
    for item in await _items(services).list(list(MODELS), identity=caller):
        yield _exported(wire.DeskExportLine(item=_item(item)))


def _exported(line: BaseModel) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"


def _services(service: ServiceOf, caller: Identity) -> DeskServices:
    require_role(caller, Role.REVIEWER, Role.KNOWLEDGE_OWNER)
    return service.tenants[caller.tenant].desk


def _desk(service: ServiceOf, caller: Identity) -> ReviewDesk:
    return ReviewDesk(_services(service, caller))


def _items(services: DeskServices) -> DeskItems:
    return DeskItems(services, DocumentQuestions(services))


def _resolutions(desk: ReviewDesk, service: ServiceOf, caller: Identity) -> Resolutions:
    return Resolutions(desk, _items(_services(service, caller)))


@asynccontextmanager
async def _timeout() -> AsyncGenerator[None]:
    """Raises DependencyError after 20 s. A retry is safe: a decision names the revision that it was made
    on."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except TimeoutError:
        raise DependencyError(f"The desk's stores took over {_TIMEOUT_S:.0f} s. Try again.") from None


def _line(line: CaseLine) -> wire.DeskCaseLine:
    case = line.stored.case
    return wire.DeskCaseLine(
        case_id=line.stored.item.item_id,
        revision=line.stored.item.revision,
        reason=case.reason,
        state=case.state,
        opened_at=case.opened_at,
        question=line.question,
        documents=tuple(
            wire.DeskDocument(document_id=name, title=title) for name, title in line.titles.items()
        ),
        gap=case.gap,
        joined=line.stored.joined,
        verdict_reasons=case.verdict_reasons,
        changed_facts=case.changed_facts,
        resolved_by=case.resolved_by,
    )


def _case(reading: CaseReading) -> wire.DeskCase:
    answer, item = reading.answer, reading.stored.item
    verdicts = () if answer is None else answer.verdicts
    better = [one.verdict.better_text for one in verdicts if one.verdict.better_text]
    return wire.DeskCase(
        case_id=item.item_id,
        revision=item.revision,
        case=reading.stored.case,
        asked="" if answer is None else answer.record.question,
        shown="" if answer is None else answer.record.text,
        sent=()
        if answer is None
        else tuple(wire.DeskSent(at=one.at, text=one.sent.text) for one in answer.sent),
        better_text=better[-1] if better else None,
        verdicts=tuple(
            wire.DeskVerdict(
                at=one.at,
                label=one.verdict.label,
                reasons=one.verdict.reasons,
                better_text=one.verdict.better_text,
                wrong_citations=one.verdict.wrong_citations,
            )
            for one in verdicts
        ),
        sources=() if answer is None else answer.sources,
        history=tuple(_revision(one) for one in reading.history),
    )


def _revision(item: DeskItem) -> wire.DeskRevision:
    case = body_of_item(item, Case)
    return wire.DeskRevision(
        revision=item.revision,
        at=item.at,
        by=item.by,
        note=item.note,
        state=case.state,
        resolution=case.resolution,
    )


async def _history(
    items: DeskItems, kind: DeskKind, item_id: str, *, identity: Identity
) -> wire.DeskItemHistory:
    revisions = await items.history(kind, item_id, identity=identity)
    return wire.DeskItemHistory(revisions=tuple(_item(one) for one in revisions))


def _item(item: DeskItem) -> wire.DeskItemRevision:
    body = served_body(item)
    answer = None
    if isinstance(body, ApprovedAnswer):
        shown = body.model_dump(exclude={"vectors", "embedding_model"})
        answer = wire.DeskApprovedAnswer.model_validate(shown)
    return wire.DeskItemRevision.model_validate(
        {
            "kind": item.kind.value,
            **item.model_dump(include={"item_id", "revision", "at", "by", "note"}),
            "state": body.state,
            "approved_answer": answer,
            "document_question": body if isinstance(body, DocumentQuestion) else None,
            "glossary_entry": body if isinstance(body, GlossaryEntry) else None,
        }
    )
