"""Documents: text for readers, states and changes for knowledge owners, the audit for auditors.

A link in an answer opens the page ``linked_document.html`` in any browser, without a sign-in. The token of
the link is in the address's fragment, which a browser never sends. The page removes it from the address bar
and the history, posts it, and shows the text of the response. So no log holds anything that opens a document.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import HTMLResponse

from assistant.answering.stored import MOST_ENTRIES, Audit
from assistant.api import wire
from assistant.api.auth import Caller, ServiceOf, TenantOf, caller_with, require_role
from assistant.api.delivery import DOCUMENT_LIMIT_BYTES, json_body, parse_body, read_body, stores_within
from assistant.api.errors import NOT_FOUND, body_of, declared, links, problems
from assistant.api.health import caller_is_identified
from assistant.document_links import LINK_PAGE, refused_link, tenant_of_link
from assistant.domain import errors
from assistant.domain.answers import AccessEntry, AccessQuery
from assistant.domain.documents import Document, DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import AssistantError, NotFoundError
from assistant.domain.identity import Identity, Role
from assistant.domain.live import LiveReadQuery
from assistant.knowledge.add_documents import ReleaseDocuments
from assistant.knowledge.files import SourceDocument, SourceFailure, named_by_line, refuse_duplicate_keys
from assistant.knowledge.reading import ListDocuments, ReadableDocument, ReadableDocuments
from assistant.knowledge.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.knowledge.withdrawal import WithdrawDocuments, Withheld, WithholdDocuments
from assistant.wiring.services import ServedTenant

_STORES_TIMEOUT_S = 6.0
"""For one request. The adapters' own timeouts are the worker's, a minute: too long for a caller."""
_AUDIT_SPAN = timedelta(days=30)
_TEXT_OR_ORIGINAL: dict[str, Any] = {
    "description": "The text with its sections, or the original",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_LINKS = links("document_status", "read_document", "withdraw_document", document_id="document_id")
_BROUGHT_BY_CALLER = "You brought these documents yourself; another person must release them."
_MOST_NAMED = 100
_NOT_JSON = "The body is not valid JSON in UTF-8."
_REFUSALS = {error.code: error for error in (errors.DocumentInvalidError, errors.LabelsWidenedError)}
_ORIGINAL_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]


def _no_number(value: object) -> object:
    try:
        float(cast("Any", value))
    except (TypeError, ValueError):
        return value
    raise ValueError("give a day and time, like 2026-11-01T00:00:00Z")


_Instant = Annotated[AwareDatetime | None, BeforeValidator(_no_number)]
"""ISO 8601. A bare number would be read as seconds since 1970."""

_Owner = Annotated[Identity, caller_with(Role.KNOWLEDGE_OWNER)]
_stores_within = partial(stores_within, _STORES_TIMEOUT_S, stores="The document stores")
"""A retry is safe: the stores do each change once."""

router = APIRouter(tags=["documents"])
audit_router = APIRouter(tags=["audit"])


@router.get("/v1/documents", **declared())
async def list_documents(
    tenant: TenantOf,
    caller: Caller,
    state: Annotated[list[DocumentState] | None, Query()] = None,
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> wire.DocumentPage:
    """Return a page of the documents of the sources that the caller may write, ordered by id, and the number
    of documents in each state."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    listing = ListDocuments(tenant.knowledge.states, sources=tenant.sources)
    writable = tenant.sources.writable_by(caller)
    page = await listing.page(writable, states=state or (), after=after, limit=limit + 1)
    documents = _documents(tenant)
    return wire.DocumentPage(
        documents=tuple(
            [status for status in page[:limit] if await documents.is_open(status, labels=caller.labels)]
        ),
        next_after=page[limit - 1].document_id if len(page) > limit else None,
        counts=dict(await listing.counts(writable)),
    )


@router.post(
    "/v1/documents",
    status_code=202,
    responses=problems(400, 401, 403, 404, 413, 422, 429, 503) | {202: {"links": _LINKS}},
    openapi_extra=body_of(Document),
)
async def bring_document(
    request: Request,
    tenant: TenantOf,
    caller: Caller,
    knowledge_source: Annotated[str | None, Query(max_length=64)] = None,
    path: Annotated[str, Query(max_length=1000)] = "",
) -> DocumentStatus:
    """Accept the canonical document for indexing. The returned status has the document's full id and its
    state.

    `knowledge_source` names the document's `[[sources]]` entry in the tenant file. Omit it if the tenant has
    only one source, or one without a namespace. A source's namespace is put before the id: `refill` of `wiki`
    becomes `wiki:refill`, and all other operations use this full id. `document_id` itself contains no colon.
    (The field `source` is different: it is the document's own description of its origin, shown to agents.)
    `labels` must be in the tenant's vocabulary; with an empty list every agent may read the document. Without
    the field the source's `access` decides: every agent reads it (`everyone`), the folder of its file, which
    `path` names, gives the labels (`folder`), or it is refused (`declared`). A caller who does not have all
    labels of a document may not make it readable to more agents: the request is refused with 403
    `labels_widened` and recorded. For a caller with none of its labels a document does not exist: to replace
    it is refused with 404. A refused body may have been meant to restrict a document, so the document
    with its `document_id` gets the state `withheld` and is in no answer until it is sent again.
    """
    require_role(caller, Role.KNOWLEDGE_OWNER)
    source = _writable_sources(tenant, caller).named(knowledge_source)
    body = await read_body(request.scope, request.receive, limit_bytes=DOCUMENT_LIMIT_BYTES)
    writer = Writer(caller.agent, caller.labels)
    try:
        refuse_duplicate_keys(body)
        document = parse_body(body, Document)
    except (AssistantError, ValueError) as error:
        refusal = error if isinstance(error, AssistantError) else errors.UnreadableRequestError(_NOT_JSON)
        failure = _failure(body, refusal)
        async with _stores_within():
            await _refuse_hidden(tenant, caller, source, failure.own_id)
            await tenant.add_documents([failure], source=source, writer=writer)
        raise refusal from None
    async with _stores_within():
        await _refuse_hidden(tenant, caller, source, document.document_id)
        summary = await tenant.add_documents([SourceDocument(document, path)], source=source, writer=writer)
        if summary.failures:
            raise _REFUSALS[summary.failures[0].code](summary.failures[0].reason)
        status = await tenant.knowledge.states.get(source.document_id(document.document_id))
        if status is None:
            raise NotFoundError(NOT_FOUND)
        return tenant.sources.with_source(status)


@router.post("/v1/documents/release", **declared(403, 404, body=wire.ReleaseRequest))
async def release_documents(
    tenant: TenantOf, caller: _Owner, asked: Annotated[wire.ReleaseRequest, json_body(wire.ReleaseRequest)]
) -> wire.ReleasedDocuments:
    """Release what waits for a second person. Records the release.

    Under the deployment profile `hipaa`, documents of a source that every agent may read (`access =
    "everyone"`) wait, until somebody other than who brought them releases them; later ones do not. Each
    document that becomes readable to more agents waits too. If the caller brought all that waits, the request
    is refused.
    """
    source = _writable_sources(tenant, caller).named(asked.knowledge_source)
    answering = tenant.answering
    release = ReleaseDocuments(tenant.knowledge, clock=answering.clock, accesses=answering.records)
    by = Writer(caller.agent, caller.labels)
    async with _stores_within():
        done = await release(source, by=by, only=frozenset(asked.document_ids))
    if done.waiting and not done.released:
        raise errors.ForbiddenError(_BROUGHT_BY_CALLER)
    return wire.ReleasedDocuments(released=len(done.released), waiting=done.waiting[:_MOST_NAMED])


@router.post(
    "/v1/documents/{document_id}/withhold", status_code=202, **declared(404, body=wire.WithholdRequest)
)
async def withhold_document(
    tenant: TenantOf,
    caller: _Owner,
    document_id: str,
    asked: Annotated[wire.WithholdRequest, json_body(wire.WithholdRequest)],
) -> DocumentStatus:
    """Exclude the document from answers until it is sent again; its text is kept.

    Use it when a new version of the document cannot be read, or when its owner doubts the text.
    """
    async with _stores_within():
        status = await _status(tenant, caller, document_id)
        withhold = WithholdDocuments(tenant.knowledge, clock=tenant.answering.clock)
        await withhold([Withheld(status, "withheld", asked.reason)])
        return await _status(tenant, caller, document_id)


@router.get("/v1/documents/{document_id}/status", **declared(404))
async def document_status(tenant: TenantOf, caller: _Owner, document_id: str) -> DocumentStatus:
    """Return the document's indexing state, and the reason if indexing failed."""
    return await _status(tenant, caller, document_id)


@router.delete("/v1/documents/{document_id}", status_code=202, **declared(404))
async def withdraw_document(tenant: TenantOf, caller: _Owner, document_id: str) -> DocumentStatus:
    """Withdraw the document: it is unreadable immediately, and the worker deletes it from the index."""
    async with _stores_within():
        await _status(tenant, caller, document_id)
        await WithdrawDocuments(tenant.knowledge, clock=tenant.answering.clock)([document_id])
        return await _status(tenant, caller, document_id)


@router.get(
    "/v1/documents/{document_id}",
    response_model=wire.DocumentText,
    responses=problems(401, 403, 404, 422, 503) | {200: _TEXT_OR_ORIGINAL},
)
async def read_document(
    tenant: TenantOf,
    caller: Caller,
    document_id: str,
    content_hash: Annotated[str | None, Query(max_length=64)] = None,
    start: Annotated[int | None, Query(ge=0)] = None,
    end: Annotated[int | None, Query(ge=0)] = None,
    form: Annotated[Literal["text", "original"], Query(alias="format")] = "text",
) -> wire.DocumentText | Response:
    """Return the stored text with its sections, or the received file with ``format=original``. Records the
    read.

    ``content_hash``, ``start`` and ``end`` of a source mark its passage. They are not secret and give no
    access.
    """
    require_role(caller, *Role)
    if (start is None) != (end is None):
        raise errors.InvalidRequestError("start and end name a passage together: send both or neither.")
    span = None if start is None or end is None else (start, end)
    reader = _Reader(agent=caller.agent, labels=caller.labels, cited_content=content_hash, cited_span=span)
    async with _stores_within():
        if form == "text":
            return await _read_text(tenant, document_id, reader=reader)
        original = await _read_original(tenant, document_id, reader=reader)
    return Response(original, media_type="text/plain; charset=utf-8", headers=_ORIGINAL_HEADERS)


@router.post(
    "/v1/documents/linked",
    response_model=wire.DocumentText,
    responses=problems(400, 401, 404, 413, 422, 503),
    openapi_extra=body_of(wire.LinkToken) | {"security": []},
)
async def read_linked_document(
    service: ServiceOf, link: Annotated[wire.LinkToken, json_body(wire.LinkToken)]
) -> wire.DocumentText:
    """Return the stored text that a link in an answer opens. The link is valid for 10 minutes, and the read
    is recorded for the agent who asked.

    The token alone gives access, so it is sent in the body: logs record addresses.
    """
    tenant = service.tenants.get(tenant_of_link(link.token))
    if tenant is None:
        raise refused_link()
    grant = tenant.links.open(link.token)
    caller_is_identified.set(True)
    reader = _Reader(
        agent=grant.agent,
        labels=frozenset(grant.labels),
        cited_content=grant.content_hash,
        cited_span=grant.span,
    )
    async with _stores_within():
        return await _read_text(tenant, grant.document_id, reader=reader)


@audit_router.get("/v1/audit", **declared(404))
async def audit(
    tenant: TenantOf,
    caller: Caller,
    document_id: _Name = None,
    agent: _Name = None,
    since: _Instant = None,
    until: _Instant = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> wire.AuditPage:
    """Return who saw a document (its readers, and agents who got an answer with it as a source), what an
    agent saw, or both; by default in the last 30 days. The audit itself is recorded."""
    require_role(caller, Role.AUDITOR)
    clock = tenant.answering.clock
    until = until or clock.now()
    since = since or until - _AUDIT_SPAN
    query = AccessQuery(
        since=since, until=until, document_id=document_id, agent=agent, after=after, limit=limit
    )
    audited = Audit(records=tenant.answering.records, documents=tenant.knowledge.states, clock=clock)
    page = await audited.page(query, auditor=caller.agent)
    return wire.AuditPage(since=since, until=until, entries=page.entries, next_after=page.next_after)


@audit_router.get("/v1/live-reads", **declared())
async def live_reads(
    tenant: TenantOf,
    caller: Caller,
    agent: _Name = None,
    customer: Annotated[str | None, Query(max_length=128)] = None,
    since: _Instant = None,
    until: _Instant = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> wire.LiveReadsPage:
    """Return who read which data of live systems, whose and when, without any value; by default in the last
    30 days, a page of them. The audit itself is recorded."""
    require_role(caller, Role.AUDITOR)
    until = until or tenant.answering.clock.now()
    since = since or until - _AUDIT_SPAN
    query = LiveReadQuery(since, until, agent, after=after, limit=limit)
    page = await tenant.live_reads.page(query, customer=customer, auditor=caller.agent)
    return wire.LiveReadsPage(since=since, until=until, reads=page.reads, next_after=page.next_after)


@router.get(LINK_PAGE, include_in_schema=False)
async def link_page() -> HTMLResponse:
    page, headers = _link_page()
    return HTMLResponse(page, headers=headers)


@cache
def _link_page() -> tuple[str, Mapping[str, str]]:
    """Return the page and its headers; the policy allows the page's own script and style by their hashes."""
    page = (Path(__file__).parent / "linked_document.html").read_text(encoding="utf-8")
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for tag, text in re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)
    }
    return page, {
        "content-security-policy": (
            f"default-src 'none'; script-src {hashes['script']}; style-src {hashes['style']}; "
            "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
        ),
        "cross-origin-opener-policy": "same-origin",
        "x-frame-options": "DENY",
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Who reads, and which passage to mark."""

    agent: str
    labels: frozenset[str]
    cited_content: str | None = None
    cited_span: tuple[int, int] | None = None


async def _read_text(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> wire.DocumentText:
    """Return the parsed text: the cited content while it is kept, else the content that answers now.

    The read is recorded before the text is returned. Raises NotFoundError (unknown, withdrawn, withheld,
    never parsed, or not for this reader's labels), RecordsUnavailableError.
    """
    document = await _readable(tenant, document_id, reader=reader)
    content_hash, parsed = await _parsed(tenant, document, reader=reader)
    is_cited = reader.cited_content in (None, content_hash)
    span = reader.cited_span
    has_span = span is not None and span[0] <= span[1] <= len(parsed.text)
    await _record_read(tenant, document_id, agent=reader.agent)
    return wire.DocumentText(
        **wire.fields_of(document.document, wire.DocumentText),
        text=parsed.text,
        sections=tuple(
            wire.DocumentSection(headings=section.headings, start=section.span.start, end=section.span.end)
            for section in parsed.sections
        ),
        content_hash=content_hash,
        span=span if is_cited and has_span else None,
        is_cited_version=is_cited,
    )


async def _read_original(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> str:
    """Return the newest content as it was received. Records and raises as ``_read_text``."""
    document = await _readable(tenant, document_id, reader=reader)
    await _record_read(tenant, document_id, agent=reader.agent)
    return document.document.content


def _documents(tenant: ServedTenant) -> ReadableDocuments:
    return ReadableDocuments(tenant.knowledge.documents, states=tenant.knowledge.states)


async def _readable(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> ReadableDocument:
    document = await _documents(tenant).document(document_id, labels=reader.labels)
    if document is None:
        raise NotFoundError(NOT_FOUND)
    return document


async def _parsed(
    tenant: ServedTenant, document: ReadableDocument, *, reader: _Reader
) -> tuple[str, ParsedDocument]:
    """Return hash and text of the first content that is kept: the cited one, then the live one."""
    for content_hash in (reader.cited_content, document.status.live_content_hash):
        if content_hash is not None:
            parsed = await _documents(tenant).text_of(document, content_hash, labels=reader.labels)
            if parsed is not None:
                return content_hash, parsed
    raise NotFoundError(NOT_FOUND)


async def _record_read(tenant: ServedTenant, document_id: str, *, agent: str) -> None:
    entry = AccessEntry(
        at=tenant.answering.clock.now(),
        agent=agent,
        kind="document",
        subject_id=document_id,
        documents=(document_id,),
    )
    await tenant.answering.records.record_access(entry)


async def _status(tenant: ServedTenant, caller: Identity, document_id: str) -> DocumentStatus:
    """Raises NotFoundError for a document that is unknown, of a source that the caller may not write, or with
    labels of which the caller has none."""
    if tenant.sources.of_document(document_id) not in tenant.sources.writable_by(caller):
        raise NotFoundError(NOT_FOUND)
    status = await tenant.knowledge.states.get(document_id)
    if status is None or not await _documents(tenant).is_open(status, labels=caller.labels):
        raise NotFoundError(NOT_FOUND)
    return tenant.sources.with_source(status)


async def _refuse_hidden(
    tenant: ServedTenant, caller: Identity, source: KnowledgeSource, own_id: str | None
) -> None:
    """Raise NotFoundError for a change of a document that has labels, and the caller none of them."""
    with suppress(errors.DocumentInvalidError):  # no document can have that id
        known = await tenant.knowledge.states.get(source.document_id(own_id or ""))
        if known is not None and not await _documents(tenant).is_open(known, labels=caller.labels):
            raise NotFoundError(NOT_FOUND)


def _writable_sources(tenant: ServedTenant, caller: Identity) -> KnowledgeSources:
    """Return the sources that the caller may write. Error messages must not name any other source."""
    writable = tenant.sources.writable_by(caller)
    if not writable:
        raise NotFoundError(NOT_FOUND)
    return KnowledgeSources(writable)


def _failure(body: bytes, error: AssistantError) -> SourceFailure:
    """Return the refusal of a body, with the ``document_id`` that it names, also where it is no JSON."""
    failure = SourceFailure("", error.code, error.message)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return named_by_line(failure, body, key="document_id")
    own_id: object = cast("dict[str, object]", data).get("document_id") if isinstance(data, dict) else None
    return replace(failure, own_id=own_id) if isinstance(own_id, str) else failure
