"""The review desk: the queue of cases, decisions on them, and what reviewers made.

Reviewers and knowledge owners may call. ``cases.DeskServices.may_see`` decides which cases they see, and
``items.DeskItems`` which items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from assistant.domain import desk as bodies
from assistant.domain.desk import (
    CaseApproval,
    CaseReason,
    CaseReopening,
    CaseResolution,
    CaseState,
    DeskApprovedAnswer,
    DeskItem,
    DeskKind,
    DeskPreview,
    ItemKind,
    PreviewRequest,
    Restoring,
    StateChange,
)
from assistant.domain.identity import Identity, Role
from assistant.domain.public import RecordId, fields_of
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.cases import CaseFilter, DeskServices, ReviewDesk
from assistant.options.desk.items import MODELS, DeskItems, Resolutions, served_body
from assistant.options.desk.preview import PreviewAnswer
from assistant.options.desk.upkeep import DocumentQuestions
from assistant.service.errors import declared, problems
from assistant.service.identity import TenantOf, caller_with
from assistant.service.streams import json_body, stores_within

_TIMEOUT_S = 20.0
"""For one request: texts of documents may take 6 s, vectors 10 s."""
CONFLICTS = {409: "Another revision is newer, or its state does not allow this"}
_NDJSON: dict[str, Any] = {
    "description": "A line of JSON for each case and each item",
    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
}
Name = Annotated[str | None, Query(min_length=1, max_length=256)]
Digest = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]

# Arguments of a route that decides something: those of ``declared``, with its 409.
_decides = partial(declared, meanings=CONFLICTS)

router = APIRouter(tags=["desk"])
Reviewer = Annotated[Identity, caller_with(Role.REVIEWER, Role.KNOWLEDGE_OWNER)]


async def _services(tenant: TenantOf, _caller: Reviewer) -> AsyncGenerator[DeskServices]:
    async with stores_within(_TIMEOUT_S, stores="The desk's stores"):
        yield tenant.part(DeskServices)


_Services = Annotated[DeskServices, Depends(_services, scope="function")]
"""The desk's services for one request, whose time begins when FastAPI resolves this parameter: declare it
after the body, so that reading the body takes none of it. A retry after the time is safe: a decision names
the revision that it was made on."""


async def _desk(services: _Services) -> ReviewDesk:
    return ReviewDesk(services)


async def _items(services: _Services) -> DeskItems:
    return DeskItems(services, DocumentQuestions(services))


_Desk = Annotated[ReviewDesk, Depends(_desk)]
_Items = Annotated[DeskItems, Depends(_items)]


async def _resolutions(desk: _Desk, items: _Items) -> Resolutions:
    return Resolutions(desk, items)


_Decisions = Annotated[Resolutions, Depends(_resolutions)]


@router.get("/v1/desk/cases", **declared())
async def list_cases(
    desk: _Desk,
    caller: Reviewer,
    state: CaseState | None = None,
    reason: CaseReason | None = None,
    gap: Name = None,
    document_id: Name = None,
    after: Name = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> bodies.DeskCasePage:
    """Return a page of the cases that the caller may see, the latest opened first.

    A case is visible to a reviewer who holds all labels under which its question was asked, and to a
    knowledge owner who does and may write a source of its documents. The read is recorded.
    """
    wanted = CaseFilter(state=state, reason=reason, gap=gap, document_id=document_id)
    lines, next_after = await desk.page(wanted, identity=caller, after=after, limit=limit)
    return bodies.DeskCasePage(cases=tuple(lines), next_after=next_after)


@router.get("/v1/desk/cases/{case_id}", **declared(404))
async def read_case(desk: _Desk, caller: Reviewer, case_id: RecordId) -> bodies.DeskCase:
    """Return one case: what was asked, shown and sent, and all its revisions. The read is recorded."""
    return await desk.read(case_id, identity=caller)


@router.post("/v1/desk/cases/{case_id}/resolution", **_decides(404, 409, body=CaseResolution))
async def resolve_case(
    caller: Reviewer,
    case_id: RecordId,
    asked: Annotated[CaseResolution, json_body(CaseResolution)],
    desk: _Desk,
    decisions: _Decisions,
) -> bodies.DeskCase:
    """Resolve a case: by an approved answer, a question of a document, a glossary entry, a correction that
    its owner is asked for, or a dismissal. The field named as ``kind`` says what is made.

    Under the deployment profile `hipaa` what is made is only proposed: another person approves it. Otherwise
    it is live within seconds.
    """
    await decisions.resolve(case_id, asked, identity=caller)
    return await desk.read(case_id, identity=caller)


@router.post("/v1/desk/cases/{case_id}/approval", **_decides(404, 409, body=CaseApproval))
async def approve_case(
    caller: Reviewer,
    case_id: RecordId,
    asked: Annotated[CaseApproval, json_body(CaseApproval)],
    desk: _Desk,
    decisions: _Decisions,
) -> bodies.DeskCase:
    """Approve what another person proposed, or refuse it: then the case is open again."""
    await decisions.approve(case_id, asked, identity=caller)
    return await desk.read(case_id, identity=caller)


@router.post("/v1/desk/cases/{case_id}/reopen", **_decides(404, 409, body=CaseReopening))
async def reopen_case(
    caller: Reviewer,
    case_id: RecordId,
    asked: Annotated[CaseReopening, json_body(CaseReopening)],
    desk: _Desk,
    decisions: _Decisions,
) -> bodies.DeskCase:
    """Open a case again. What its resolution made is withdrawn; it can be put back under its item."""
    await decisions.reopen(case_id, asked, identity=caller)
    return await desk.read(case_id, identity=caller)


@router.get("/v1/desk/gaps", **declared())
async def list_gaps(desk: _Desk, caller: Reviewer) -> bodies.DeskGaps:
    """Return questions without an answer, grouped by what they ask for: open cases that the caller may see.
    The read is recorded."""
    return bodies.DeskGaps(gaps=tuple(await desk.gaps(identity=caller)))


@router.post("/v1/desk/preview", **declared(body=PreviewRequest))
async def preview_answer(
    tenant: TenantOf,
    caller: Reviewer,
    asked: Annotated[PreviewRequest, json_body(PreviewRequest)],
    _services: _Services,  # for its time limit alone
) -> DeskPreview:
    """Return which of the last questions an approved answer would capture, and why it would not the others
    that are near. The read is recorded."""
    return await tenant.part(PreviewAnswer)(asked, identity=caller)


@router.get("/v1/desk/items", **declared())
async def list_items(items: _Items, caller: Reviewer, kind: ItemKind | None = None) -> bodies.DeskItems:
    """Return what reviewers made, as far as the caller may see it, the latest changed first."""
    kinds = [DeskKind(kind)] if kind is not None else list(MODELS)
    listed = await items.list(kinds, identity=caller)
    return bodies.DeskItems(items=tuple(map(_item, listed)))


@router.get("/v1/desk/items/{kind}/{item_id}", **declared(404))
async def read_item(
    items: _Items, caller: Reviewer, kind: ItemKind, item_id: RecordId
) -> bodies.DeskItemHistory:
    """Return all revisions of an item, oldest first."""
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.post("/v1/desk/items/{kind}/{item_id}/state", **_decides(404, 409, body=StateChange))
async def set_item_state(
    caller: Reviewer,
    kind: ItemKind,
    item_id: RecordId,
    change: Annotated[StateChange, json_body(StateChange)],
    items: _Items,
) -> bodies.DeskItemHistory:
    """Withdraw an item, or make it live again. Under the profile `hipaa` `live` proposes it, and `live` of
    another person makes it live."""
    item = await items.find(DeskKind(kind), item_id, identity=caller)
    await items.set_state(item, change, identity=caller)
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.post("/v1/desk/items/{kind}/{item_id}/restore", **_decides(404, 409, body=Restoring))
async def restore_item(
    caller: Reviewer,
    kind: ItemKind,
    item_id: RecordId,
    change: Annotated[Restoring, json_body(Restoring)],
    items: _Items,
) -> bodies.DeskItemHistory:
    """Put an earlier revision back, as a new one."""
    item = await items.find(DeskKind(kind), item_id, identity=caller)
    await items.restore(item, change, identity=caller)
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@router.get(
    "/v1/desk/export",
    response_class=StreamingResponse,
    responses=problems(401, 403, 409, 422, 429, 503) | {200: _NDJSON},
)
async def export_desk(
    desk: _Desk, items: _Items, tenant: TenantOf, caller: Reviewer, contents: Digest = None
) -> StreamingResponse:
    """Return every item and, of each state, the newest 5,000 cases that the caller may see, a line of JSON
    each (``DeskExportLine``). The read is recorded.

    Under the deployment profile `hipaa` two people ask for it: the first request is recorded and refused with
    409 `second_person_needed`, and that of another person within 24 hours gets the export, where it names the
    `contents` that the refusal tells and no case or item changed meanwhile.
    """
    await tenant.two_people.admit("export", "desk", by=caller.agent, contents=items.contents, named=contents)
    return await exported(_export(desk, items, caller), "application/x-ndjson", name="desk.ndjson")


async def exported(lines: AsyncIterator[str], media_type: str, *, name: str) -> StreamingResponse:
    """Return lines as a file to save.

    The first line is read before the response begins: if a store is unavailable, its error gives a status and
    not a broken stream.
    """
    first = await anext(lines, "")

    async def whole() -> AsyncIterator[str]:
        yield first
        async for line in lines:
            yield line

    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(whole(), media_type=media_type, headers=headers)


async def _export(desk: ReviewDesk, items: DeskItems, caller: Identity) -> AsyncIterator[str]:
    async for case in desk.export(identity=caller):
        yield _line(bodies.DeskExportLine(case=case))
    for item in await items.list(list(MODELS), identity=caller):
        yield _line(bodies.DeskExportLine(item=_item(item)))


def _line(line: BaseModel) -> str:
    return line.model_dump_json(exclude_none=True) + "\n"


async def _history(
    items: DeskItems, kind: DeskKind, item_id: str, *, identity: Identity
) -> bodies.DeskItemHistory:
    revisions = await items.history(kind, item_id, identity=identity)
    return bodies.DeskItemHistory(revisions=tuple(_item(revision) for revision in revisions))


def _item(item: DeskItem) -> bodies.DeskItemRevision:
    """Return an item as it is served, with its body in the field that has the name of its kind:
    ``{"kind": "glossary_entry", "state": "live", …, "glossary_entry": {…}}``.

    An approved answer is served without its vectors.
    """
    body = served_body(item)
    shown: Any = body
    if isinstance(body, ApprovedAnswer):
        shown = DeskApprovedAnswer(**fields_of(body, DeskApprovedAnswer))
    revision = fields_of(item, bodies.DeskItemRevision, but=("kind",))
    return bodies.DeskItemRevision.model_validate(
        revision | {"kind": item.kind.value, "state": body.state, item.kind.value: shown}
    )


REQUEST_BODIES = (CaseResolution, CaseApproval, CaseReopening, StateChange, Restoring, PreviewRequest)
"""Bodies of the desk's requests."""
STREAMED_LINES = (bodies.DeskExportLine,)
"""What a streamed response has a line of."""
