"""Documents: text for readers, states and changes for knowledge owners, the audit for auditors."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, cast

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime
from starlette.responses import HTMLResponse

from assistant.answering.ports import AnswerRecords
from assistant.answering.reading import MOST_ENTRIES, Audit
from assistant.api.auth import Caller, ServiceOf, require_role
from assistant.api.errors import NOT_FOUND, body_of, problems
from assistant.api.limits import DOCUMENT_LIMIT_BYTES, parse_body, read_body
from assistant.api.metrics import caller_is_identified
from assistant.api.wire import (
    AuditPage,
    DocumentPage,
    DocumentSection,
    DocumentText,
    LinkToken,
    WithholdRequest,
)
from assistant.document_links import LINK_PAGE, refused_link, tenant_of_link
from assistant.domain.answers import AccessEntry, AccessQuery
from assistant.domain.clock import Clock
from assistant.domain.documents import Document, DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import (
    AssistantError,
    DependencyError,
    DocumentInvalidError,
    InvalidRequestError,
    LabelsWidenedError,
    NotFoundError,
    UnreadableRequestError,
)
from assistant.domain.identity import Identity, Role
from assistant.knowledge.items import SourceDocument, SourceFailure, refuse_double_keys
from assistant.knowledge.ports import DocumentStates, DocumentStore
from assistant.knowledge.reading import ListDocuments, ReadableDocument, ReadableDocuments
from assistant.knowledge.sources import KnowledgeSources, Writer
from assistant.knowledge.withdrawal import Withheld
from assistant.wiring.services import ServedTenant


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and which passage is to be shown."""

    agent: str
    labels: frozenset[str]
    cited_content: str | None = None
    cited_span: tuple[int, int] | None = None


class ReadDocument:
    """Gives the documents of one tenant to readers."""

    def __init__(
        self, *, documents: DocumentStore, states: DocumentStates, records: AnswerRecords, clock: Clock
    ) -> None:
        self._readable = ReadableDocuments(documents, states=states)
        self._records = records
        self._clock = clock

    async def text(self, document_id: str, *, reader: Reader) -> DocumentText:
        """Return the parsed text, of the cited content while it is kept, else of the one that answers now.

        Raises NotFoundError (unknown, withdrawn, withheld, never parsed, or not for this reader's labels),
        RecordsUnavailableError.
        """
        found = await self._allowed(document_id, reader=reader)
        content_hash, parsed = await self._parsed(found, reader=reader)
        is_cited = reader.cited_content in (None, content_hash)
        await self._record(document_id, reader=reader)
        return _document_text(
            found.document,
            parsed,
            content_hash=content_hash,
            span=_within(reader.cited_span, parsed) if is_cited else None,
            is_cited_version=is_cited,
        )

    async def original(self, document_id: str, *, reader: Reader) -> str:
        """Return the newest content as it was brought. Raises as ``text`` does."""
        found = await self._allowed(document_id, reader=reader)
        await self._record(document_id, reader=reader)
        return found.document.content

    async def _allowed(self, document_id: str, *, reader: Reader) -> ReadableDocument:
        found = await self._readable.document(document_id, labels=reader.labels)
        if found is None:
            raise NotFoundError(NOT_FOUND)
        return found

    async def _parsed(self, found: ReadableDocument, *, reader: Reader) -> tuple[str, ParsedDocument]:
        for content_hash in (reader.cited_content, found.status.live_content_hash):
            if content_hash is not None:
                parsed = await self._readable.text_of(found, content_hash, labels=reader.labels)
                if parsed is not None:
                    return content_hash, parsed
        raise NotFoundError(NOT_FOUND)

    async def _record(self, document_id: str, *, reader: Reader) -> None:
        entry = AccessEntry(
            at=self._clock.now(),
            agent=reader.agent,
            kind="document",
            subject_id=document_id,
            documents=(document_id,),
        )
        await self._records.record_access(entry)


def _within(span: tuple[int, int] | None, parsed: ParsedDocument) -> tuple[int, int] | None:
    """Return the span if the text has it."""
    return span if span is not None and span[0] <= span[1] <= len(parsed.text) else None


def _document_text(
    document: Document,
    parsed: ParsedDocument,
    *,
    content_hash: str,
    span: tuple[int, int] | None,
    is_cited_version: bool,
) -> DocumentText:
    return DocumentText(
        document_id=document.document_id,
        title=document.title,
        url=document.url,
        source=document.source,
        type=document.type,
        owner=document.owner,
        effective_date=document.effective_date,
        media_type=document.media_type,
        question=document.question,
        text=parsed.text,
        sections=tuple(
            DocumentSection(headings=section.headings, start=section.span.start, end=section.span.end)
            for section in parsed.sections
        ),
        content_hash=content_hash,
        span=span,
        is_cited_version=is_cited_version,
    )


# The page behind the links to documents in an answer: it opens in any browser, without a sign-in.


LINKED_PATH = "/v1/documents/linked"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 48rem; padding: 1rem; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_SCRIPT = f"""
"use strict";
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const show = (id, text) => {{ document.getElementById(id).textContent = text; }};
const open = async () => {{
  const response = await fetch("{LINKED_PATH}", {{
    method: "POST",
    headers: {{ "content-type": "application/json" }},
    body: JSON.stringify({{ token }}),
    credentials: "omit",
  }});
  const body = await response.json();
  if (!response.ok) {{
    show("title", body.title);
    show("note", body.detail);
    return;
  }}
  document.title = body.title;
  show("title", body.title);
  show("note", body.is_cited_version ? "" :
    "The document has changed since this answer was written, so the passage is not marked.");
  const letters = Array.from(body.text);
  const [start, end] = body.span ?? [0, 0];
  const passage = document.createElement("mark");
  passage.textContent = letters.slice(start, end).join("");
  const before = letters.slice(0, start).join(""), after = letters.slice(end).join("");
  document.getElementById("text").replaceChildren(before, passage, after);
  if (body.span !== null) passage.scrollIntoView({{ block: "center" }});
}};
if (token === "") {{
  show("title", "No document");
  show("note", "A link works once in each tab: open it from the answer again.");
}} else {{
  open().catch(() => {{
    show("title", "Not reachable");
    show("note", "The service did not answer. Open the link from the answer again.");
  }});
}}
"""


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_LINK_PAGE_HTML = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Stored text</title><style>{_STYLE}</style></head>
<body><main><h1 id="title">Opening…</h1><p id="note" role="status"></p><pre id="text"></pre></main>
<script>{_SCRIPT}</script></body></html>
"""
_LINK_PAGE_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hash_source(_SCRIPT)}; style-src {_hash_source(_STYLE)}; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
page_router = APIRouter(include_in_schema=False)


@page_router.get(LINK_PAGE)
async def link_page() -> HTMLResponse:
    return HTMLResponse(_LINK_PAGE_HTML, headers=_LINK_PAGE_HEADERS)


# Documents: their text for readers, their states and changes for knowledge owners.


router = APIRouter(tags=["documents"])
_LIMIT_S = 6.0
"""For stores that somebody waits for. Their adapters have the patience of the worker: a minute."""
_TEXT_OR_ORIGINAL: dict[str, Any] = {
    "description": "The text with its sections, or the original",
    "content": {"text/plain": {"schema": {"type": "string"}}},
}
_NOT_JSON = "The body is not valid JSON in UTF-8."
_REFUSALS: dict[str, type[AssistantError]] = {
    error.code: error for error in (DocumentInvalidError, LabelsWidenedError)
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
    """A page of the documents of the sources that the caller may write, in order of their ids, and how many
    are in each state."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    tenant = service.tenants[caller.tenant]
    listing = ListDocuments(tenant.knowledge.states, sources=tenant.sources)
    own = tenant.sources.writable_by(caller)
    page = await listing.page(own, states=state or (), after=after, limit=limit + 1)
    return DocumentPage(
        documents=tuple(page[:limit]),
        next_after=page[limit - 1].document_id if len(page) > limit else None,
        counts=dict(await listing.counts(own)),
    )


@router.post(
    "/v1/documents",
    status_code=202,
    responses=problems(400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra=body_of(Document),
)
async def bring_document(
    request: Request,
    service: ServiceOf,
    caller: Caller,
    knowledge_source: Annotated[str | None, Query(max_length=64)] = None,
) -> DocumentStatus:
    """Take the canonical document and have it indexed; its status tells how far it is, and its whole id.

    `knowledge_source` names the `[[sources]]` entry of the tenant file that the document belongs to, and may
    be left out where the tenant has one, or one without a namespace. A source with a namespace puts it before
    the id: `refill` of `wiki` becomes `wiki:refill`, by which all other operations know it; `document_id`
    itself holds no colon. (The field `source` is something else: what the document says of where it is from,
    shown to agents.) `labels` must be in the tenant's vocabulary; without the field the source's default
    labels count, and an empty list means that every agent may read it.
    Who does not hold all labels of a document may not make it readable to more: 403 `labels_widened`, and a
    record. A body that is refused takes what answers under its `document_id` out of the answers, state
    `withheld`, until the document is brought again: it may have been meant to restrict it.
    """
    require_role(caller, Role.KNOWLEDGE_OWNER)
    tenant = service.tenants[caller.tenant]
    source = _writable(tenant, caller).named(knowledge_source)
    body = await read_body(request.scope, request.receive, limit_bytes=DOCUMENT_LIMIT_BYTES)
    writer = Writer(caller.agent, caller.labels)
    try:
        refuse_double_keys(body)
        document = parse_body(body, Document)
    except (AssistantError, ValueError) as error:
        refusal = error if isinstance(error, AssistantError) else UnreadableRequestError(_NOT_JSON)
        async with _in_time():
            await tenant.add_documents([_refused(body, refusal)], source=source, writer=writer)
        raise refusal from None
    async with _in_time():
        summary = await tenant.add_documents([SourceDocument(document, "")], source=source, writer=writer)
        if summary.failures:
            raise _REFUSALS[summary.failures[0].code](summary.failures[0].reason)
        return await _status(tenant, caller, source.document_id(document.document_id))


@router.post(
    "/v1/documents/{document_id}/withhold",
    status_code=202,
    responses=problems(400, 401, 403, 404, 413, 422, 503),
    openapi_extra=body_of(WithholdRequest),
)
async def withhold_document(
    request: Request, service: ServiceOf, caller: Caller, document_id: str
) -> DocumentStatus:
    """Take the document out of the answers until it is brought again; its text is kept.

    For a sender who has a new content that it cannot read, and for an owner in doubt.
    """
    require_role(caller, Role.KNOWLEDGE_OWNER)
    body = await read_body(request.scope, request.receive)
    said = parse_body(body, WithholdRequest)
    tenant = service.tenants[caller.tenant]
    async with _in_time():
        status = await _status(tenant, caller, document_id)
        await tenant.withhold_documents([Withheld(status, "withheld", said.reason)])
        return await _status(tenant, caller, document_id)


@router.get("/v1/documents/{document_id}/status", responses=problems(401, 403, 404, 422, 503))
async def document_status(service: ServiceOf, caller: Caller, document_id: str) -> DocumentStatus:
    """Where the document is on its way into the index, and why it failed."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    return await _status(service.tenants[caller.tenant], caller, document_id)


@router.delete("/v1/documents/{document_id}", status_code=202, responses=problems(401, 403, 404, 422, 503))
async def withdraw_document(service: ServiceOf, caller: Caller, document_id: str) -> DocumentStatus:
    """Withdraw the document: it is no longer readable, and the worker takes it out of the index."""
    require_role(caller, Role.KNOWLEDGE_OWNER)
    tenant = service.tenants[caller.tenant]
    async with _in_time():
        await _status(tenant, caller, document_id)
        await tenant.withdraw_documents([document_id])
        return await _status(tenant, caller, document_id)


@router.get(
    "/v1/documents/{document_id}",
    response_model=DocumentText,
    responses=problems(401, 403, 404, 422, 503) | {200: _TEXT_OR_ORIGINAL},
)
async def read_document(
    service: ServiceOf,
    caller: Caller,
    document_id: str,
    content_hash: Annotated[str | None, Query(max_length=64)] = None,
    start: Annotated[int | None, Query(ge=0)] = None,
    end: Annotated[int | None, Query(ge=0)] = None,
    form: Annotated[Literal["text", "original"], Query(alias="format")] = "text",
) -> DocumentText | Response:
    """The stored text with its sections, or with ``format=original`` what was brought. Each read is recorded.

    ``content_hash``, ``start`` and ``end`` of a source mark its passage. They are no secret, and no right.
    """
    require_role(caller, *Role)
    if (start is None) != (end is None):
        raise InvalidRequestError("start and end name a passage together: send both or neither.")
    span = None if start is None or end is None else (start, end)
    reader = Reader(agent=caller.agent, labels=caller.labels, cited_content=content_hash, cited_span=span)
    reading = _reading(service.tenants[caller.tenant])
    async with _in_time():
        if form == "text":
            return await reading.text(document_id, reader=reader)
        original = await reading.original(document_id, reader=reader)
    return Response(original, media_type="text/plain; charset=utf-8", headers=_ORIGINAL_HEADERS)


@router.post(
    LINKED_PATH,
    response_model=DocumentText,
    responses=problems(400, 401, 404, 413, 422, 503),
    openapi_extra=body_of(LinkToken) | {"security": []},
)
async def read_linked_document(request: Request, service: ServiceOf) -> DocumentText:
    """The stored text that a link in an answer opens, for 10 minutes, in the name of the agent who asked.

    The token is all the right that a reader brings, so it is posted: addresses are kept by logs.
    """
    token = parse_body(await read_body(request.scope, request.receive), LinkToken).token
    tenant = service.tenants.get(tenant_of_link(token))
    if tenant is None:
        raise refused_link()
    grant = tenant.links.open(token)
    caller_is_identified.set(True)
    reader = Reader(
        agent=grant.agent,
        labels=frozenset(grant.labels),
        cited_content=grant.content_hash,
        cited_span=grant.span,
    )
    async with _in_time():
        return await _reading(tenant).text(grant.document_id, reader=reader)


def _reading(tenant: ServedTenant) -> ReadDocument:
    return ReadDocument(
        documents=tenant.knowledge.documents,
        states=tenant.knowledge.states,
        records=tenant.answering.records,
        clock=tenant.answering.clock,
    )


@asynccontextmanager
async def _in_time() -> AsyncGenerator[None]:
    """Raises DependencyError after the limit. What was begun may be asked for again: it is done once."""
    try:
        async with asyncio.timeout(_LIMIT_S):
            yield
    except TimeoutError:
        raise DependencyError(f"The stores of documents took over {_LIMIT_S:.0f} s; try again.") from None


async def _status(tenant: ServedTenant, caller: Identity, document_id: str) -> DocumentStatus:
    """Raises NotFoundError for what is unknown and for what is of a source that the caller may not write."""
    if tenant.sources.of_document(document_id) not in tenant.sources.writable_by(caller):
        raise NotFoundError(NOT_FOUND)
    status = await tenant.knowledge.states.get(document_id)
    if status is None:
        raise NotFoundError(NOT_FOUND)
    return tenant.sources.shown(status)


def _writable(tenant: ServedTenant, caller: Identity) -> KnowledgeSources:
    """Return the sources that the caller may write: of others they learn not even the names."""
    own = tenant.sources.writable_by(caller)
    if not own:
        raise NotFoundError(NOT_FOUND)
    return KnowledgeSources(own)


def _refused(body: bytes, error: AssistantError) -> SourceFailure:
    """Return what was refused, with the document that it was meant to be, where its body says so."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    own_id: object = cast("dict[str, object]", said).get("document_id") if isinstance(said, dict) else None
    return SourceFailure("", error.code, error.message, own_id if isinstance(own_id, str) else None)


# Who saw a document, and what an agent saw: for auditors.


audit_router = APIRouter(tags=["audit"])
_LOOKS_BACK = timedelta(days=30)
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]


@audit_router.get("/v1/audit", responses=problems(401, 403, 404, 422, 503))
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
