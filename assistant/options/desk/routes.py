"""The review desk: the queue of cases, decisions on them, and what reviewers made; and recall: the work list
of replies whose words were changed in their documents, and the changes that were looked at.

Reviewers and knowledge owners may call. ``cases.DeskServices.may_see`` decides which cases, replies and
changes they see, and ``items.DeskItems`` which items. Every read is recorded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import StreamingResponse

from assistant.domain.desk import (
    CaseReason,
    CaseState,
    DeskApprovedAnswer,
    DeskItem,
    DeskKind,
    ItemKind,
)
from assistant.domain.identity import Identity, Role
from assistant.domain.public import RecordId, csv_line, fields_of
from assistant.options.desk import bodies
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.cases import CaseFilter, DeskServices, ReviewDesk
from assistant.options.desk.items import MODELS, DeskItems, Resolutions, served_body
from assistant.options.desk.read_recalls import ReadRecalls, every
from assistant.options.desk.recalls import (
    Recall,
    RecallChange,
    RecallChangePage,
    RecallDecision,
    RecallDetail,
    RecallPage,
    RecallState,
)
from assistant.service.errors import declared, problems
from assistant.service.identity import TenantOf, caller_with
from assistant.service.streams import json_body, stores_within

_TIMEOUT_S = 20.0
"""For one request: texts of documents may take 6 s, vectors 10 s."""
_CONFLICTS = {409: "Another revision is newer, or its state does not allow this"}
_MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
_EXPORTED: dict[str, Any] = {
    "description": "A row, or a line of JSON, for each reply or change",
    "content": {media_type: {"schema": {"type": "string"}} for media_type in _MEDIA_TYPES.values()},
}
_NDJSON: dict[str, Any] = {
    "description": "A line of JSON for each case and each item",
    "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
}
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]
_Digest = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]
_Limit = Annotated[int, Query(ge=1, le=100)]

# Arguments of a route that decides something: those of ``declared``, with its 409.
_decides = partial(declared, meanings=_CONFLICTS)

router = APIRouter()
desk_routes = APIRouter(tags=["desk"])
recall_routes = APIRouter(tags=["recall"])
_Reviewer = Annotated[Identity, caller_with(Role.REVIEWER, Role.KNOWLEDGE_OWNER)]


async def _services(tenant: TenantOf, _caller: _Reviewer) -> AsyncGenerator[DeskServices]:
    async with stores_within(_TIMEOUT_S, stores="The desk's stores"):
        yield tenant.part(DeskServices)


_Services = Annotated[DeskServices, Depends(_services, scope="function")]
"""The desk's services for one request, whose time begins when FastAPI resolves this parameter: declare it
after the body, so that reading the body takes none of it. A retry after the time is safe: a decision names
the revision that it was made on."""


async def _desk(services: _Services) -> ReviewDesk:
    return ReviewDesk(services)


async def _items(services: _Services) -> DeskItems:
    return DeskItems(services)


_Desk = Annotated[ReviewDesk, Depends(_desk)]
_Items = Annotated[DeskItems, Depends(_items)]


async def _resolutions(desk: _Desk, items: _Items) -> Resolutions:
    return Resolutions(desk, items)


_Decisions = Annotated[Resolutions, Depends(_resolutions)]


@desk_routes.get("/v1/desk/cases", **declared())
async def list_cases(
    desk: _Desk,
    caller: _Reviewer,
    state: CaseState | None = None,
    reason: CaseReason | None = None,
    gap: _Name = None,
    document_id: _Name = None,
    after: _Name = None,
    limit: _Limit = 50,
) -> bodies.DeskCasePage:
    """Return a page of the cases that the caller may see, the latest opened first.

    A case is visible to a reviewer who holds all labels under which its question was asked, and to a
    knowledge owner who does and may write a source of its documents. The read is recorded.
    """
    wanted = CaseFilter(state=state, reason=reason, gap=gap, document_id=document_id)
    lines, next_after = await desk.page(wanted, identity=caller, after=after, limit=limit)
    return bodies.DeskCasePage(cases=tuple(lines), next_after=next_after)


@desk_routes.get("/v1/desk/cases/{case_id}", **declared(404))
async def read_case(desk: _Desk, caller: _Reviewer, case_id: RecordId) -> bodies.DeskCase:
    """Return one case: what was asked, shown and sent, and all its revisions. The read is recorded."""
    return await desk.read(case_id, identity=caller)


@desk_routes.post("/v1/desk/cases/{case_id}/resolution", **_decides(404, 409, body=bodies.CaseResolution))
async def resolve_case(
    caller: _Reviewer,
    case_id: RecordId,
    asked: Annotated[bodies.CaseResolution, json_body(bodies.CaseResolution)],
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


@desk_routes.post("/v1/desk/cases/{case_id}/approval", **_decides(404, 409, body=bodies.CaseApproval))
async def approve_case(
    caller: _Reviewer,
    case_id: RecordId,
    asked: Annotated[bodies.CaseApproval, json_body(bodies.CaseApproval)],
    desk: _Desk,
    decisions: _Decisions,
) -> bodies.DeskCase:
    """Approve what another person proposed, or refuse it: then the case is open again."""
    await decisions.approve(case_id, asked, identity=caller)
    return await desk.read(case_id, identity=caller)


@desk_routes.post("/v1/desk/cases/{case_id}/reopen", **_decides(404, 409, body=bodies.CaseReopening))
async def reopen_case(
    caller: _Reviewer,
    case_id: RecordId,
    asked: Annotated[bodies.CaseReopening, json_body(bodies.CaseReopening)],
    desk: _Desk,
    decisions: _Decisions,
) -> bodies.DeskCase:
    """Open a case again. What its resolution made is withdrawn; it can be put back under its item."""
    await decisions.reopen(case_id, asked, identity=caller)
    return await desk.read(case_id, identity=caller)


@desk_routes.get("/v1/desk/gaps", **declared())
async def list_gaps(desk: _Desk, caller: _Reviewer) -> bodies.DeskGaps:
    """Return questions without an answer, grouped by what they ask for: open cases that the caller may see.
    The read is recorded."""
    return bodies.DeskGaps(gaps=tuple(await desk.gaps(identity=caller)))


@desk_routes.get("/v1/desk/items", **declared())
async def list_items(items: _Items, caller: _Reviewer, kind: ItemKind | None = None) -> bodies.DeskItems:
    """Return what reviewers made, as far as the caller may see it, the latest changed first."""
    kinds = [DeskKind(kind)] if kind is not None else list(MODELS)
    listed = await items.list(kinds, identity=caller)
    return bodies.DeskItems(items=tuple(map(_item, listed)))


@desk_routes.get("/v1/desk/items/{kind}/{item_id}", **declared(404))
async def read_item(
    items: _Items, caller: _Reviewer, kind: ItemKind, item_id: RecordId
) -> bodies.DeskItemHistory:
    """Return all revisions of an item, oldest first."""
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@desk_routes.post("/v1/desk/items/{kind}/{item_id}/state", **_decides(404, 409, body=bodies.StateChange))
async def set_item_state(
    caller: _Reviewer,
    kind: ItemKind,
    item_id: RecordId,
    change: Annotated[bodies.StateChange, json_body(bodies.StateChange)],
    items: _Items,
) -> bodies.DeskItemHistory:
    """Withdraw an item, or make it live again. Under the profile `hipaa` `live` proposes it, and `live` of
    another person makes it live."""
    item = await items.find(DeskKind(kind), item_id, identity=caller)
    await items.set_state(item, change, identity=caller)
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@desk_routes.post("/v1/desk/items/{kind}/{item_id}/restore", **_decides(404, 409, body=bodies.Restoring))
async def restore_item(
    caller: _Reviewer,
    kind: ItemKind,
    item_id: RecordId,
    change: Annotated[bodies.Restoring, json_body(bodies.Restoring)],
    items: _Items,
) -> bodies.DeskItemHistory:
    """Put an earlier revision back, as a new one."""
    item = await items.find(DeskKind(kind), item_id, identity=caller)
    await items.restore(item, change, identity=caller)
    return await _history(items, DeskKind(kind), item_id, identity=caller)


@desk_routes.get(
    "/v1/desk/export",
    response_class=StreamingResponse,
    responses=problems(401, 403, 409, 422, 429, 503) | {200: _NDJSON},
)
async def export_desk(
    desk: _Desk, items: _Items, tenant: TenantOf, caller: _Reviewer, contents: _Digest = None
) -> StreamingResponse:
    """Return every item and, of each state, the newest 5,000 cases that the caller may see, a line of JSON
    each (``DeskExportLine``). The read is recorded.

    Under the deployment profile `hipaa` two people ask for it: the first request is recorded and refused with
    409 `second_person_needed`, and that of another person within 24 hours gets the export, where it names the
    `contents` that the refusal tells and no case or item changed meanwhile.
    """
    await tenant.two_people.admit("export", "desk", by=caller.agent, contents=items.contents, named=contents)
    return await _exported(_export(desk, items, caller), "application/x-ndjson", name="desk.ndjson")


async def _exported(lines: AsyncIterator[str], media_type: str, *, name: str) -> StreamingResponse:
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


# Recall


async def _reading(tenant: TenantOf, _services: _Services) -> ReadRecalls:
    return tenant.part(ReadRecalls)


_Reading = Annotated[ReadRecalls, Depends(_reading)]


@recall_routes.get("/v1/recalls", **declared())
async def list_recalls(
    reading: _Reading,
    caller: _Reviewer,
    state: RecallState | None = None,
    document_id: _Name = None,
    after: _Name = None,
    limit: _Limit = 50,
) -> RecallPage:
    """Return a page of the replies that rest on words which do not stand any more.

    A reply is visible to a reviewer who holds all labels under which its question was asked, and to a
    knowledge owner who does and may write the document's source. The read is recorded.
    """
    found, after = await reading.page(state, document_id, identity=caller, after=after, limit=limit)
    return RecallPage(recalls=tuple(found), next_after=after)


@recall_routes.get("/v1/recalls/changes", **declared())
async def list_recall_changes(
    reading: _Reading, caller: _Reviewer, after: _Name = None, limit: _Limit = 50
) -> RecallChangePage:
    """Return a page of the changes that were looked at, the latest first, also those on whose words nothing
    was sent. The read is recorded."""
    found, after = await reading.changes(identity=caller, after=after, limit=limit)
    return RecallChangePage(changes=tuple(found), next_after=after)


@recall_routes.get(
    "/v1/recalls/export",
    response_class=StreamingResponse,
    responses=problems(401, 403, 409, 422, 429, 503) | {200: _EXPORTED},
)
async def export_recalls(
    tenant: TenantOf,
    caller: _Reviewer,
    what: Literal["replies", "changes"] = "replies",
    form: Literal["csv", "ndjson"] = "csv",
    contents: _Digest = None,
) -> StreamingResponse:
    """Return every reply, or every change, that the caller may see. The read is recorded.

    Under the deployment profile `hipaa` two people ask for it, as for the export of the review desk.
    """
    reading = tenant.part(ReadRecalls)
    await tenant.two_people.admit(
        "export", "recalls", by=caller.agent, contents=reading.contents, named=contents
    )
    pages: Any = reading.changes if what == "changes" else partial(reading.page, None, None)
    rows = every(partial(pages, identity=caller))
    lines = (f"{row.model_dump_json()}\n" async for row in rows) if form == "ndjson" else _csv(rows)
    return await _exported(lines, _MEDIA_TYPES[form], name=f"recall-{what}.{form}")


async def _csv(rows: AsyncIterator[Recall | RecallChange]) -> AsyncIterator[str]:
    """Yield a table of CSV, line by line, after a line of names. A reply's item, its reply and its lines
    become
    columns: ``old`` and ``new`` have a line for each cited line."""
    is_first = True
    async for row in rows:
        cells: dict[str, Any] = row.model_dump(mode="json")
        if isinstance(row, Recall):
            item: dict[str, Any] = cells.pop("item")
            cells = {**cells, **item.pop("reply"), **item}
            lines = cells.pop("lines")
            cells |= {name: "\n".join(line[name] or "" for line in lines) for name in ("old", "new")}
            cells = {name: value for name, value in cells.items() if name not in ("units", "reader_labels")}
        yield (csv_line(cells) if is_first else "") + csv_line(cells.values())
        is_first = False


@recall_routes.get("/v1/recalls/{item_id}", **declared(404))
async def read_recall(reading: _Reading, caller: _Reviewer, item_id: RecordId) -> RecallDetail:
    """Return one reply: what was sent, and all its revisions. The read is recorded."""
    return await reading.one(item_id, identity=caller)


@recall_routes.post("/v1/recalls/{item_id}", **_decides(404, 409, body=RecallDecision))
async def decide_recall(
    caller: _Reviewer,
    item_id: RecordId,
    asked: Annotated[RecallDecision, json_body(RecallDecision)],
    reading: _Reading,
) -> RecallDetail:
    """Take a reply, or close it: the patient was told, or need not be. `reopen` takes that back."""
    await reading.decide(item_id, asked, identity=caller)
    return await reading.one(item_id, identity=caller)


router.include_router(desk_routes)
router.include_router(recall_routes)
REQUEST_BODIES = (
    bodies.CaseResolution,
    bodies.CaseApproval,
    bodies.CaseReopening,
    bodies.StateChange,
    bodies.Restoring,
    RecallDecision,
)
"""Bodies of requests."""
STREAMED_LINES = (bodies.DeskExportLine, Recall, RecallChange)
"""Models of which an export has a line each, for the OpenAPI file."""
