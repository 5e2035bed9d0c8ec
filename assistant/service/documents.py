"""Documents: text for readers, states and changes for knowledge owners, the audit for auditors.

A link in an answer opens the page ``linked_document.html`` in any browser, without a sign-in. The link's
token is in the fragment of its address, which a browser never sends. The page removes it from the address bar
and the history, posts it, and shows the text of the response. So no log has anything that opens a document.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BeforeValidator
from starlette.responses import HTMLResponse, StreamingResponse

from assistant.documents.files import (
    SourceDocument,
    SourceFailure,
    linked_ids,
    named_by_line,
    refuse_duplicate_keys,
)
from assistant.documents.readable import ListDocuments, ReadableDocument, ReadableDocuments
from assistant.documents.shared_links import LINK_LIFETIME_S, LINK_PAGE, refused_link, tenant_of_link
from assistant.documents.sources import KnowledgeSource, KnowledgeSources, Writer
from assistant.documents.uploads import BeginReadingAgain
from assistant.documents.withdraw import (
    RELEASE_NEEDED,
    ReleaseDocuments,
    WithdrawDocuments,
    Withheld,
    withhold,
)
from assistant.domain import errors
from assistant.domain.audit import AccessEntry, AccessQuery
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    OriginalFile,
    ParsedDocument,
    WithdrawalReceipt,
    contents_digest,
)
from assistant.domain.errors import AssistantError, NotFoundError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import fields_of
from assistant.service import wire
from assistant.service.audit import MOST_ENTRIES, Audit
from assistant.service.errors import NOT_FOUND, body_of, declared, links, problems
from assistant.service.health import caller_is_identified
from assistant.service.identity import Caller, ServiceOf, TenantOf, caller_with, require_role
from assistant.service.opened import ServedTenant
from assistant.service.streams import DOCUMENT_LIMIT_BYTES, json_body, parse_body, read_body, stores_within
from assistant.stores.desk import Contents
from assistant.stores.documents import StoredContent, read_editions
from assistant.text.editions import Editions

_STORES_TIMEOUT_S = 6.0
"""Limit of one request. The adapters' own timeouts are the worker's, a minute: too long for a caller."""
_EDITIONS_LIMIT_S = 2.0
"""Of that, for reading the states of all documents, to tell which replace others."""
_WHOLE_SOURCE_TIMEOUT_S = 60.0
"""A second withdraws some hundred documents; a repeat goes on."""
AUDIT_SPAN = timedelta(days=30)
"""Days before now that the audit shows by default."""
_TEXT_OR_ORIGINAL: dict[str, Any] = {
    "description": "The text with its sections, or the original",
    "content": {
        "text/plain": {"schema": {"type": "string"}},
        "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
_LINKS = links("document_status", "read_document", "withdraw_document", document_id="document_id")
_BROUGHT_BY_CALLER = "You brought these documents yourself; another person must release them."
_MOST_NAMED = 100
"""Documents or answers that a response lists."""
_MOST_SHOWN = 1_000
"""Documents of a source that ``source_contents`` lists."""
_MOST_LINKS = 500
"""Addresses of a document that are looked up when its text is read: a bound of work, not measured."""
_MOST_READ = 500
"""Entries of the audit that are read for the answers of one document."""
_NOT_JSON = "The body is not valid JSON in UTF-8."
# By the code of a failure: the error that refuses a document which was sent (``_add``)
_REFUSALS = {error.code: error for error in (errors.DocumentInvalidError, errors.LabelsWidenedError)}
_ORIGINAL_HEADERS = {"content-security-policy": "default-src 'none'; sandbox"}
_PDF = "application/pdf"
"""The only original that browsers show in place; others are downloaded."""
_Name = Annotated[str | None, Query(min_length=1, max_length=256)]
_Digest = Annotated[str | None, Query(pattern="^[0-9a-f]{64}$")]


Instant = Annotated[AwareDatetime | None, BeforeValidator(datetime.fromisoformat)]
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
    find: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str | None, Query(max_length=256)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> wire.DocumentPage:
    """Return a page of the documents of the sources that the caller may write, ordered by id, the number of
    documents in each state, and how far a first load is.

    `find` leaves those that have each of its words in their id or title. One request searches at most 10,000
    documents: with `next_after` a page may be short or empty, and the search goes on there.
    """
    require_role(caller, Role.KNOWLEDGE_OWNER)
    listing = ListDocuments(tenant.knowledge.states, sources=tenant.sources)
    writable, documents = tenant.sources.writable_by(caller), _documents(tenant)
    async with _stores_within():
        page, more = await listing.page(writable, states=state or (), find=find, after=after, limit=limit)
        shown = [status for status in page if await documents.may_decide_on(status, labels=caller.labels)]
        editions, today = Editions(), tenant.answering.clock.now().date()
        with suppress(TimeoutError):  # the list then has what each document says itself
            async with asyncio.timeout(_EDITIONS_LIMIT_S):
                editions = await read_editions(tenant.knowledge.states)
        return wire.DocumentPage(
            documents=tuple(editions.noted(status, today, labels=caller.labels) for status in shown),
            next_after=more,
            counts=dict(await listing.counts(writable)),
            loading=(await tenant.first_loads.look(KnowledgeSources(writable))).loading,
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
    source = writable_sources(tenant, caller).named(knowledge_source)
    body = await read_body(request.scope, request.receive, limit_bytes=DOCUMENT_LIMIT_BYTES)
    try:
        refuse_duplicate_keys(body)
        document = parse_body(body, Document).model_copy(update={"original": None})
    except (AssistantError, ValueError) as error:
        refusal = error if isinstance(error, AssistantError) else errors.UnreadableRequestError(_NOT_JSON)
        await _add(tenant, caller, source, _failure(body, refusal))
        raise refusal from None
    await _add(tenant, caller, source, SourceDocument(document, path))
    async with _stores_within():
        status = await tenant.knowledge.states.get(source.document_id(document.document_id))
    if status is None:
        raise NotFoundError(NOT_FOUND)
    return tenant.sources.with_source(status)


@router.post("/v1/documents/release", **declared(403, 404, 409, body=wire.ReleaseRequest))
async def release_documents(
    tenant: TenantOf, caller: _Owner, asked: Annotated[wire.ReleaseRequest, json_body(wire.ReleaseRequest)]
) -> wire.ReleasedDocuments:
    """Release what waits for a second person, in the contents that they looked at. Records the release.

    Under the deployment profile `hipaa`, documents of a source that every agent may read (`access =
    "everyone"`) wait, until somebody other than who brought them releases them; later ones do not. Each
    document that becomes readable to more agents waits too. `GET /v1/documents/{document_id}/waiting` shows
    the content and its hash. If one of them has another content by now, nothing is released (409
    `contents_changed`). If the caller brought all of them, the request is refused.
    """
    source = writable_sources(tenant, caller).named(asked.knowledge_source)
    if any(tenant.sources.of_document(document_id) != source for document_id in asked.contents):
        raise NotFoundError(NOT_FOUND)
    answering = tenant.answering
    release = ReleaseDocuments(tenant.knowledge, clock=answering.clock, accesses=answering.records)
    async with _stores_within():
        by = Writer(caller.agent, caller.labels)
        done = await release(source, by=by, contents=asked.contents)
    if done.waiting and not done.released:
        raise errors.ForbiddenError(_BROUGHT_BY_CALLER)
    return wire.ReleasedDocuments(released=len(done.released), waiting=done.waiting[:_MOST_NAMED])


@router.get("/v1/documents/{document_id}/waiting", **declared(404))
async def waiting_document(tenant: TenantOf, caller: _Owner, document_id: str) -> wire.WaitingDocument:
    """Return the content that waits for a second person's release, and the one that answered before. Records
    the read."""
    async with _stores_within():
        status = await document_of(tenant, caller, document_id)
        both = await _documents(tenant).waiting(status, labels=caller.labels)
        if status.failure_code != RELEASE_NEEDED or both is None:
            raise NotFoundError(NOT_FOUND)
        await _record_read(tenant, document_id, agent=caller.agent)
    waiting, answered = both
    return wire.WaitingDocument(
        content_hash=status.content_hash, brought_by=status.brought_by, document=waiting, answered=answered
    )


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
        status = await document_of(tenant, caller, document_id)
        withheld = Withheld(status, "withheld", asked.reason)
        await withhold([withheld], stores=tenant.knowledge, clock=tenant.answering.clock)
        return await document_of(tenant, caller, document_id)


@router.get("/v1/documents/{document_id}/status", **declared(404))
async def document_status(tenant: TenantOf, caller: _Owner, document_id: str) -> DocumentStatus:
    """Return the document's indexing state, and the reason if indexing failed."""
    async with _stores_within():
        return await document_of(tenant, caller, document_id)


@router.get("/v1/documents/{document_id}/details", **declared(404))
async def document_details(tenant: TenantOf, caller: _Owner, document_id: str) -> wire.DocumentDetails:
    """Return a document's state, the contents that are kept of it, and the answers of the last 30 days that
    had it as a source: which and when, without their questions and agents."""
    async with _stores_within():
        status = await document_of(tenant, caller, document_id)
        answers, has_more = await _citing_answers(tenant, document_id)
        contents = await _contents(tenant, caller, status)
    return wire.DocumentDetails(
        status=status,
        contents=tuple(
            wire.KeptContent(
                content_hash=kept.document.content_hash(),
                stored_at=kept.stored_at,
                title=kept.document.title,
                labels=kept.document.labels,
                characters=len(kept.document.content),
                is_newest=number == 0,
            )
            for number, kept in enumerate(contents)
        ),
        answers=answers,
        has_more_answers=has_more,
    )


@router.post(
    "/v1/documents/{document_id}/restore", status_code=202, **declared(404, body=wire.RestoreContentRequest)
)
async def restore_document(
    tenant: TenantOf,
    caller: _Owner,
    document_id: str,
    asked: Annotated[wire.RestoreContentRequest, json_body(wire.RestoreContentRequest)],
) -> DocumentStatus:
    """Make a content that is kept the newest again, with its own labels. Wider labels are refused or wait for
    a second person, as those of a document that is sent."""
    async with _stores_within():
        status = await document_of(tenant, caller, document_id)
        contents = await _contents(tenant, caller, status)
        matching = (kept.document for kept in contents if kept.document.content_hash() == asked.content_hash)
        source, document = tenant.sources.of_document(document_id), next(matching, None)
        if document is None or source is None:
            raise NotFoundError(NOT_FOUND)
        own_id = document_id.removeprefix(source.id_prefix)
        document = document.model_copy(update={"document_id": own_id})
        await _add(tenant, caller, source, SourceDocument(document, status.origin or ""))
        return await document_of(tenant, caller, document_id)


@router.post("/v1/documents/{document_id}/read-again", status_code=202, **declared(404, 409))
async def read_document_again(tenant: TenantOf, caller: _Owner, document_id: str) -> wire.ReadingAgain:
    """Read the document again from what is kept of it, by the readers of this release.

    `GET /v1/uploads` with the `upload_id` tells what became of it; null: these readers have read it, or it
    does not answer. The text before answers until the new one is indexed. A file that is refused now changes
    nothing. 409 where the file that it was converted from is not kept.
    """
    async with _stores_within():
        status = await document_of(tenant, caller, document_id)
    source = tenant.sources.of_document(document_id)
    if source is None or tenant.uploads is None:
        raise NotFoundError(NOT_FOUND)
    begin = BeginReadingAgain(tenant.knowledge, tenant.uploads, tenant.answering.clock)
    async with stores_within(_WHOLE_SOURCE_TIMEOUT_S, stores="The document stores"):
        upload = await begin(status, source=source, by=caller.agent, labels=caller.labels)
    return wire.ReadingAgain(upload_id=upload.upload_id if upload else None)


async def _contents(
    tenant: ServedTenant, caller: Identity, status: DocumentStatus
) -> Sequence[StoredContent]:
    """Return the kept contents that the caller's labels open, the newest first. A withdrawn document has
    none: its withdrawal deletes them."""
    contents = await tenant.knowledge.documents.contents(status.document_id)
    labels = caller.labels
    return [
        kept for kept in contents if not kept.document.labels or not labels.isdisjoint(kept.document.labels)
    ]


async def _citing_answers(
    tenant: ServedTenant, document_id: str
) -> tuple[tuple[wire.CitingAnswer, ...], bool]:
    """Return the latest answers of the last 30 days that had the document as a source, and whether there may
    be more."""
    until = tenant.answering.clock.now()
    query = AccessQuery(since=until - AUDIT_SPAN, until=until, document_id=document_id, limit=_MOST_READ)
    page = await tenant.answering.records.list_accesses(query)
    asked = [
        wire.CitingAnswer(answer_id=entry.subject_id, at=entry.at)
        for entry in page.entries
        if entry.kind == "asked"
    ]
    return tuple(asked[::-1][:_MOST_NAMED]), len(asked) > _MOST_NAMED or page.next_after is not None


@router.delete("/v1/documents/{document_id}", status_code=202, **declared(404))
async def withdraw_document(tenant: TenantOf, caller: _Owner, document_id: str) -> DocumentStatus:
    """Withdraw the document: it is unreadable immediately, and the worker deletes it from the index. Its
    `receipt` tells what was removed and what remains."""
    async with _stores_within():
        await document_of(tenant, caller, document_id)
        await WithdrawDocuments(tenant.knowledge, clock=tenant.answering.clock)([document_id])
        return await document_of(tenant, caller, document_id)


@router.get("/v1/knowledge-sources/{name}/contents", **declared(404))
async def source_contents(tenant: TenantOf, caller: _Owner, name: str) -> wire.SourceContents:
    """Return what a withdrawal of the source would withdraw."""
    source = writable_sources(tenant, caller).named(name)
    async with stores_within(_WHOLE_SOURCE_TIMEOUT_S, stores="The document stores"):
        withdraw = WithdrawDocuments(tenant.knowledge, clock=tenant.answering.clock)
        hash_by_id = await withdraw.contents_of(source, labels=caller.labels)
        remaining = await withdraw.not_withdrawn(hash_by_id)
    return wire.SourceContents(
        name=source.name,
        contents=contents_digest(hash_by_id),  # the digest that ``withdraw_source`` is asked with
        documents=len(remaining),
        listed={document_id: hash_by_id[document_id] for document_id in sorted(remaining)[:_MOST_SHOWN]},
    )


@router.delete("/v1/knowledge-sources/{name}/documents", status_code=202, **declared(404, 409))
async def withdraw_source(
    tenant: TenantOf, caller: _Owner, name: str, contents: _Digest = None
) -> wire.WithdrawnSource:
    """Withdraw every document of a source that the caller may know of.

    Under the deployment profile `hipaa` two people ask for it: the first request is recorded and refused with
    409 `second_person_needed`, and that of another person within 24 hours runs, where it names the `contents`
    of `GET /v1/knowledge-sources/{name}/contents`. Where these changed, it is refused with 409
    `contents_changed`. That person may repeat it for an hour, as when it was cut off.
    """
    source = writable_sources(tenant, caller).named(name)
    async with stores_within(_WHOLE_SOURCE_TIMEOUT_S, stores="The document stores"):
        withdraw = WithdrawDocuments(tenant.knowledge, clock=tenant.answering.clock)
        hash_by_id = await withdraw.contents_of(source, labels=caller.labels)

        async def shown_to_both() -> Contents:
            """Return the digest of what is withdrawn, and its number in words: "412 documents"."""
            return Contents.of(hash_by_id, f"{len(await withdraw.not_withdrawn(hash_by_id)):,} documents")

        # ``contents``, the digest that this person names, must be the one of ``shown_to_both``
        await tenant.two_people.admit(
            "withdraw_source", source.name, by=caller.agent, contents=shown_to_both, named=contents
        )
        withdrawn = await withdraw.all_of(hash_by_id)
    return wire.WithdrawnSource(name=source.name, withdrawn=withdrawn)


@router.get("/v1/documents/{document_id}/receipt", **declared(404, 409))
async def withdrawal_receipt(tenant: TenantOf, caller: _Owner, document_id: str) -> WithdrawalReceipt:
    """Return place by place what a withdrawal removed, and what remains until when by which rule.

    The stores are asked for each receipt. A place is `pending` until its removal ended: ask again. 409 for a
    document that is not withdrawn.
    """
    async with _stores_within():
        return await tenant.receipts.of(await document_of(tenant, caller, document_id))


@router.get(
    "/v1/documents/{document_id}",
    response_model=wire.DocumentText,
    responses=problems(401, 403, 404, 422, 429, 503) | {200: _TEXT_OR_ORIGINAL},
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
        return await _original(tenant, document_id, reader=reader)


@router.post(
    "/v1/documents/linked",
    response_model=wire.DocumentText,
    responses=problems(400, 401, 404, 413, 422, 429, 503) | {200: _TEXT_OR_ORIGINAL},
    openapi_extra=body_of(wire.LinkToken) | {"security": []},
)
async def read_linked_document(
    service: ServiceOf, link: Annotated[wire.LinkToken, json_body(wire.LinkToken)]
) -> wire.DocumentText | Response:
    """Return the stored text that a link in an answer opens, or the received file.

    The link is valid for 10 minutes, and the read is recorded for the agent who asked.

    The token alone gives access, so it is sent in the body: logs record addresses.
    """
    tenant = service.tenants.get(tenant_of_link(link.token))
    if tenant is None:
        raise refused_link()
    grant = tenant.links.open(link.token)
    caller_is_identified.set(True)
    issued_s = grant.expires_s - LINK_LIFETIME_S
    await service.verifier.require_unrevoked(grant.tenant, grant.agent, issued_s=issued_s)
    labels = frozenset(grant.labels)
    service.count(Identity(grant.tenant, grant.agent, frozenset(), labels), "reads")
    reader = _Reader(
        agent=grant.agent,
        labels=labels,
        cited_content=grant.content_hash,
        cited_span=grant.span,
    )
    async with _stores_within():
        read = _read_text if link.format == "text" else _original
        return await read(tenant, grant.document_id, reader=reader)


@audit_router.get("/v1/audit", **declared(404))
async def audit(
    tenant: TenantOf,
    caller: Caller,
    document_id: _Name = None,
    agent: _Name = None,
    since: Instant = None,
    until: Instant = None,
    after: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
) -> wire.AuditPage:
    """Return who saw a document (its readers, and agents who got an answer with it as a source), what an
    agent saw, or both; by default in the last 30 days. The audit itself is recorded."""
    require_role(caller, Role.AUDITOR)
    clock = tenant.answering.clock
    until = until or clock.now()
    since = since or until - AUDIT_SPAN
    query = AccessQuery(
        since=since, until=until, document_id=document_id, agent=agent, after=after, limit=limit
    )
    audited = Audit(records=tenant.answering.records, documents=tenant.knowledge.states, clock=clock)
    page = await audited.page(query, auditor=caller.agent)
    return wire.AuditPage(since=since, until=until, entries=page.entries, next_after=page.next_after)


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
    """Who reads, with which labels, and which passage of which content (by its hash) to mark."""

    agent: str
    labels: frozenset[str]
    cited_content: str | None = None
    cited_span: tuple[int, int] | None = None


async def _read_text(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> wire.DocumentText:
    """Return the parsed text of the cited content while it is kept, else of the content that answers now.

    The read is recorded before the text is returned. Raises NotFoundError (unknown, withdrawn, withheld,
    never parsed, or not for this reader's labels), RecordsUnavailableError.
    """
    document = await _readable(tenant, document_id, reader=reader)
    kept = await _kept_text(tenant, document, reader=reader)
    if kept is None:
        raise NotFoundError(NOT_FOUND)
    content_hash, parsed = kept
    is_cited = reader.cited_content in (None, content_hash)
    span = reader.cited_span
    is_inside = span is not None and span[0] <= span[1] <= len(parsed.text)
    span = span if is_cited and is_inside else None
    original = None
    if (file := parsed.original) is not None:
        original = wire.DocumentOriginal(
            name=file.name,
            size_bytes=file.size_bytes,
            media_type=_media_type(file),
            page=parsed.page_at(span[0]) if span else None,
        )
    linked = await _links(tenant, document.status, parsed, labels=reader.labels)
    await _record_read(tenant, document_id, agent=reader.agent)
    return wire.DocumentText(
        **fields_of(document.document, wire.DocumentText, but=("original",)),
        original=original,
        links=linked,
        text=parsed.text,
        sections=tuple(
            wire.DocumentSection(headings=section.headings, start=section.span.start, end=section.span.end)
            for section in parsed.sections
        ),
        content_hash=content_hash,
        span=span,
        is_cited_version=is_cited,
        tables=tuple(
            wire.DocumentTable(
                header=table.header,
                rows=tuple(tuple((cell.start, cell.end) for cell in row) for row in table.rows),
            )
            for table in parsed.tables
        ),
    )


async def _links(
    tenant: ServedTenant, status: DocumentStatus, parsed: ParsedDocument, *, labels: frozenset[str]
) -> tuple[wire.DocumentLink, ...]:
    """Return the links in the text to web pages, and to documents that the reader may open now.

    An address may mean several documents (``linked_ids``); the first that can be opened counts.
    """
    addresses = islice(dict.fromkeys(address for *_, address in parsed.links), _MOST_LINKS)
    linked = partial(linked_ids, document_id=status.document_id, origin=status.origin or "")
    meant = {address: list(linked(address)) for address in addresses}
    readable = await _documents(tenant).readable_ids(
        [linked_id for ids in meant.values() for linked_id in ids], labels=labels
    )
    links: list[wire.DocumentLink] = []
    for start, end, address in parsed.links:
        opened = next((linked_id for linked_id in meant.get(address, ()) if linked_id in readable), None)
        url = address if address.startswith(("https://", "http://")) else None
        if opened or url:
            links.append(wire.DocumentLink(start=start, end=end, document_id=opened, url=url))
    return tuple(links)


async def _original(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> Response:
    """Return the file of ``_file_to_send``, in parts; without one, the newest content as it was received.
    Records the read and raises as ``_read_text``."""
    document = await _readable(tenant, document_id, reader=reader)
    kept = await _kept_text(tenant, document, reader=reader)
    original = _file_to_send(document.document, parsed=kept[1] if kept else None)
    if original is None:
        await _record_read(tenant, document_id, agent=reader.agent)
        text = document.document.content
        return Response(text, media_type="text/plain; charset=utf-8", headers=_ORIGINAL_HEADERS)
    store = tenant.knowledge.documents
    first = await store.read_original(document_id, original, start=0)
    if first is None:
        raise NotFoundError(NOT_FOUND)
    await _record_read(tenant, document_id, agent=reader.agent)

    async def parts() -> AsyncIterator[bytes]:
        sent, part = 0, first
        while part:
            yield part
            sent += len(part)
            if sent >= original.size_bytes:
                return
            async with _stores_within():
                part = await store.read_original(document_id, original, start=sent) or b""

    disposition_type = "inline" if (media_type := _media_type(original)) == _PDF else "attachment"
    disposition = f"{disposition_type}; filename*=UTF-8''{quote(original.name, safe='')}"
    headers = {"content-disposition": disposition, "content-length": str(original.size_bytes)}
    return StreamingResponse(parts(), media_type=media_type, headers=_ORIGINAL_HEADERS | headers)


def _file_to_send(newest: Document, *, parsed: ParsedDocument | None) -> OriginalFile | None:
    """Return the file that a reader gets; None where the newest content has none: it was sent as a document.

    | ``parsed``, the content of ``_kept_text`` | file |
    | --- | --- |
    | was converted from a file | that file |
    | was sent as a document, or was parsed by a release that kept no file | the newest content's file |
    | None: not kept | the newest content's file |

    So the file may be newer than the cited content. ``_read_text`` offers only a file of the first case.
    """
    return (parsed and parsed.original) or newest.original


def _media_type(original: OriginalFile) -> str:
    """Return the media type by which a file is sent: browsers show PDFs, and run nothing else."""
    is_pdf = original.name.lower().endswith(".pdf")
    return _PDF if is_pdf else "application/octet-stream"


def _documents(tenant: ServedTenant) -> ReadableDocuments:
    return ReadableDocuments(tenant.knowledge.documents, states=tenant.knowledge.states)


async def _readable(tenant: ServedTenant, document_id: str, *, reader: _Reader) -> ReadableDocument:
    """Return the document if the reader may read it. Raises NotFoundError."""
    document = await _documents(tenant).document(document_id, labels=reader.labels)
    if document is None:
        raise NotFoundError(NOT_FOUND)
    return document


async def _kept_text(
    tenant: ServedTenant, document: ReadableDocument, *, reader: _Reader
) -> tuple[str, ParsedDocument] | None:
    """Return hash and text of the cited content, or where it is not kept, of the live one. None where neither
    is kept, or open to the reader."""
    for content_hash in (reader.cited_content, document.status.live_content_hash):
        if content_hash is not None:
            parsed = await _documents(tenant).text_of(document, content_hash, labels=reader.labels)
            if parsed is not None:
                return content_hash, parsed
    return None


async def _record_read(tenant: ServedTenant, document_id: str, *, agent: str) -> None:
    """Record for the audit that the agent read a document. Raises RecordsUnavailableError."""
    entry = AccessEntry(
        at=tenant.answering.clock.now(),
        agent=agent,
        kind="document",
        subject_id=document_id,
        documents=(document_id,),
    )
    await tenant.answering.records.record_access(entry)


async def document_of(tenant: ServedTenant, caller: Identity, document_id: str) -> DocumentStatus:
    """Return the state of a document that the caller may change, with the name of its source.

    Raises NotFoundError for a document that is unknown, of a source that the caller may not write, or with
    labels of which the caller has none.
    """
    if tenant.sources.of_document(document_id) not in tenant.sources.writable_by(caller):
        raise NotFoundError(NOT_FOUND)
    status = await tenant.knowledge.states.get(document_id)
    if status is None or not await _documents(tenant).may_decide_on(status, labels=caller.labels):
        raise NotFoundError(NOT_FOUND)
    return tenant.sources.with_source(status)


async def _add(
    tenant: ServedTenant, caller: Identity, source: KnowledgeSource, item: SourceDocument | SourceFailure
) -> None:
    """Store and enqueue a document that the caller sent; for a ``SourceFailure``, a body that the caller of
    this function refuses itself, withhold the document that it names.

    Raises the error by which the document is refused, and NotFoundError where the item concerns a document
    with labels of which the caller has none.
    """
    writer = Writer(caller.agent, caller.labels, sees_all=False)
    async with _stores_within():
        failures = (await tenant.add_documents([item], source=source, writer=writer)).failures
    if any(failure.code == NotFoundError.code for failure in failures):
        raise NotFoundError(NOT_FOUND)
    if failures and isinstance(item, SourceDocument):
        # No other code comes: a ConflictError is of two items, or of a file, and this is one without a file.
        raise _REFUSALS[failures[0].code](failures[0].reason)


def writable_sources(tenant: ServedTenant, caller: Identity) -> KnowledgeSources:
    """Return the sources that the caller may write. Raises NotFoundError without one. Error messages must
    name no other source."""
    writable = tenant.sources.writable_by(caller)
    if not writable:
        raise NotFoundError(NOT_FOUND)
    return KnowledgeSources(writable)


def _failure(body: bytes, error: AssistantError) -> SourceFailure:
    """Return the failure for a body that is refused, with the ``document_id`` that it names, if one can be
    found: also in a body that is no JSON."""
    failure = SourceFailure("", error.code, error.message)
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return named_by_line(failure, body, key="document_id")
    own_id: object = cast("dict[str, object]", data).get("document_id") if isinstance(data, dict) else None
    return replace(failure, own_id=own_id) if isinstance(own_id, str) else failure
