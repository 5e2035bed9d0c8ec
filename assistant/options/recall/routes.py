"""Recall's routes: the work list of replies whose words were changed in their documents, and the changes that
were looked at. Reviewers and knowledge owners may call.

``DeskServices.may_see`` decides who sees a reply or a change; words and titles of documents are read under
the reader's own labels when they are shown. Every read is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from starlette.responses import StreamingResponse

from assistant.domain.answers import APPROVED_PREFIX, QuotedUnit, source_kind
from assistant.domain.desk import DeskKind, body_of_item
from assistant.domain.errors import ConflictError
from assistant.domain.identity import Identity
from assistant.domain.public import RecordId, csv_line
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.cases import DeskServices, not_found
from assistant.options.desk.routes import CONFLICTS, Digest, Name, Reviewer, exported
from assistant.options.recall import domain
from assistant.options.recall.domain import (
    Recall,
    RecallChange,
    RecallDecision,
    RecallRevision,
    RecallState,
    SentReply,
)
from assistant.options.recall.lines import KeptContents
from assistant.options.recall.section import PLACE_OF_CHAT, PLACE_OF_ID
from assistant.options.recall.store import Page, Row, StoredRecalls
from assistant.service.errors import declared, problems
from assistant.service.identity import TenantOf
from assistant.service.streams import json_body, stores_within
from assistant.stores.desk import Contents
from assistant.stores.ports import DocumentTexts

_TIMEOUT_S = 20.0
"""For one request: a page may read the texts of a hundred documents."""
# Decision = the state that it gives; the others open the item.
_STATES = {"told": RecallState.TOLD, "not_needed": RecallState.NOT_NEEDED}
_MEDIA_TYPES = {"csv": "text/csv", "ndjson": "application/x-ndjson"}
_EXPORTED: dict[str, Any] = {
    "description": "A row, or a line of JSON, for each reply or change",
    "content": {media_type: {"schema": {"type": "string"}} for media_type in _MEDIA_TYPES.values()},
}
# Returns the page of the keyword arguments ``after`` and ``limit``.
_Pages = Callable[..., Awaitable[Page[Row]]]
_Limit = Annotated[int, Query(ge=1, le=100)]


@dataclass(frozen=True, slots=True)
class ReadRecalls:
    """Recall of one tenant. All methods raise RecordsUnavailableError, DependencyError."""

    services: DeskServices
    store: StoredRecalls
    texts: DocumentTexts
    conversation_url: str | None
    """Address of a conversation in the helpdesk, with ``PLACE_OF_ID`` or ``PLACE_OF_CHAT``; None: it has
    none."""

    async def page(
        self,
        state: RecallState | None,
        document_id: str | None,
        *,
        identity: Identity,
        after: str | None,
        limit: int,
    ) -> Page[Recall]:
        """Return those of the next ``limit`` items that the caller may see, and the next ``after``; None at
        the end. A page may be empty and not the last."""
        if state is not None and document_id is None:
            items, after = await self.store.items_in(state, after=after, limit=limit)
        else:
            items, after = await self.store.items(document_id, after=after, limit=limit)
        visible = [item for item in items if state in (None, item.state) and self._is_visible(item, identity)]
        return await self._shown(visible, "recalls", identity), after

    async def changes(self, *, identity: Identity, after: str | None, limit: int) -> Page[RecallChange]:
        """Return those of the next ``limit`` changes whose document the caller may know of, and the next
        ``after``; None at the end."""
        page, after = await self.store.changes(after=after, limit=limit)
        titles = await self._titles({change.document_id for change in page}, identity)
        await self.services.record_read("recalls", titles, identity=identity)
        shown = [
            change.model_copy(update={"title": titles[change.document_id]})
            for change in page
            if change.document_id in titles and self.services.may_see(identity, (), [change.document_id])
        ]
        return shown, after

    async def find(self, item_id: str, identity: Identity) -> RecallRevision:
        """Return the newest revision. Raises NotFoundError (unknown, or not visible)."""
        item = await self.store.item(item_id)
        if item is None or not self._is_visible(item, identity):
            raise not_found()
        return item

    async def one(self, item_id: str, *, identity: Identity) -> domain.RecallDetail:
        """Return one reply with the text that was sent. Raises as ``find``."""
        item = await self.find(item_id, identity)
        (shown,) = await self._shown([item], f"recall:{item_id}", identity)
        sends = await self.services.records.list_sent(item.reply.answer_id)
        text = next((stored.sent.text for stored in sends if stored.sent.send_id == item.reply.send_id), "")
        history = await self.store.history(item_id)
        return domain.RecallDetail(recall=shown, sent=text, history=tuple(history))

    async def decide(self, item_id: str, asked: RecallDecision, *, identity: Identity) -> None:
        """Add the revision that a decision makes. ``take`` makes the caller the owner, and so does any
        decision on an item without one.

        Raises as ``find``, ConflictError (made on an older revision, or its state does not allow this).
        """
        item = await self.find(item_id, identity)
        if (asked.do == "reopen") is (item.state is RecallState.OPEN):
            raise ConflictError(f"It is {item.state} already.")
        update: dict[str, object] = {
            "revision": asked.revision + 1,
            "at": await self.services.store.now(),
            "by": identity.agent,
            "note": asked.note,
            "state": _STATES.get(asked.do, RecallState.OPEN),
            "owner": identity.agent if asked.do == "take" or item.owner is None else item.owner,
        }
        await self.store.put_item(item.model_copy(update=update))

    async def contents(self) -> Contents:
        """Return the digest of every item with its revision, and of every change.

        Two people who ask for an export name it, so that both ask for the same contents.
        """
        items = [item async for item in _every(partial(self.store.items, None))]
        revisions = {item.reply.item_id: str(item.revision) for item in items}
        revisions |= {change.change_id: "" async for change in _every(self.store.changes)}
        return Contents.of(revisions, f"{len(revisions):,} replies and changes")

    def _is_visible(self, item: RecallRevision, identity: Identity) -> bool:
        return self.services.may_see(identity, item.reply.reader_labels, [item.reply.document_id])

    async def _titles(self, names: Collection[str], identity: Identity) -> dict[str, str]:
        """Return the titles of documents, and the first questions of approved answers, that the reader may
        know of."""
        titles = await self.services.titles(names, identity=identity)
        for name in names:
            item_id = name.removeprefix(APPROVED_PREFIX)
            item = await self.services.store.get(DeskKind.APPROVED_ANSWER, item_id)
            if item is not None and source_kind(name) == "approved":
                body = body_of_item(item, ApprovedAnswer)
                titles |= {name: body.questions[0]} if identity.labels.issuperset(body.labels) else {}
        return titles

    def _address(self, reply: SentReply) -> str | None:
        """Return the address of a reply's conversation; None where that needs a chat, and there is none."""
        if self.conversation_url is None or (reply.chat is None and PLACE_OF_CHAT in self.conversation_url):
            return None
        url = self.conversation_url.replace(PLACE_OF_ID, reply.conversation_id)
        return url.replace(PLACE_OF_CHAT, quote(reply.chat or "", safe=""))

    async def _shown(self, items: Sequence[RecallRevision], subject: str, identity: Identity) -> list[Recall]:
        """Return items with their words, as this reader may see them; the read is recorded first."""
        names = list(dict.fromkeys(item.reply.document_id for item in items))
        titles, known = await self._titles(names, identity), await self.store.known(names)
        await self.services.record_read(subject, dict.fromkeys(names, "") | titles, identity=identity)
        contents = KeptContents(partial(self.texts.read, labels=identity.labels))
        shown: list[Recall] = []
        for item in items:
            reply, now = item.reply, known[item.reply.document_id].content
            recall = Recall(
                item_id=reply.item_id,
                item=item,
                title=titles.get(reply.document_id, ""),
                is_gone=now == domain.GONE,
                lines=tuple([await _line(unit, now, contents) for unit in reply.units]),
                conversation_url=self._address(reply),
            )
            shown.append(recall)
        return shown


async def _line(unit: QuotedUnit, now: str, contents: KeptContents) -> domain.RecallLine:
    """Return a cited line as it was, and the line in its place in the content ``now``, as far as they are
    readable."""
    old = await contents.get(unit.document_id, unit.content_hash)
    if old is None:
        return domain.RecallLine(old=None, new=None)
    new, (start, end) = await contents.get(unit.document_id, now), unit.span
    in_place = None if new is None else await asyncio.to_thread(new.in_place_of, start, old)
    return domain.RecallLine(old=old.parsed.text[start:end], new=in_place)


async def _every(pages: _Pages[Row]) -> AsyncIterator[Row]:
    """Yield the rows of all pages."""
    after: str | None = None
    while True:
        page, after = await pages(after=after, limit=100)
        for row in page:
            yield row
        if after is None:
            return


router = APIRouter(tags=["recall"])


async def _reading(tenant: TenantOf, _caller: Reviewer) -> AsyncGenerator[ReadRecalls]:
    async with stores_within(_TIMEOUT_S, stores="Recall's stores"):
        yield tenant.part(ReadRecalls)


_Reading = Annotated[ReadRecalls, Depends(_reading, scope="function")]


@router.get("/v1/recalls", **declared())
async def list_recalls(
    reading: _Reading,
    caller: Reviewer,
    state: RecallState | None = None,
    document_id: Name = None,
    after: Name = None,
    limit: _Limit = 50,
) -> domain.RecallPage:
    """Return a page of the replies that rest on words which do not stand any more.

    A reply is visible to a reviewer who holds all labels under which its question was asked, and to a
    knowledge owner who does and may write the document's source. The read is recorded.
    """
    found, after = await reading.page(state, document_id, identity=caller, after=after, limit=limit)
    return domain.RecallPage(recalls=tuple(found), next_after=after)


@router.get("/v1/recalls/changes", **declared())
async def list_recall_changes(
    reading: _Reading, caller: Reviewer, after: Name = None, limit: _Limit = 50
) -> domain.RecallChangePage:
    """Return a page of the changes that were looked at, the latest first, also those on whose words nothing
    was sent. The read is recorded."""
    found, after = await reading.changes(identity=caller, after=after, limit=limit)
    return domain.RecallChangePage(changes=tuple(found), next_after=after)


@router.get(
    "/v1/recalls/export",
    response_class=StreamingResponse,
    responses=problems(401, 403, 409, 422, 429, 503) | {200: _EXPORTED},
)
async def export_recalls(
    tenant: TenantOf,
    caller: Reviewer,
    what: Literal["replies", "changes"] = "replies",
    form: Literal["csv", "ndjson"] = "csv",
    contents: Digest = None,
) -> StreamingResponse:
    """Return every reply, or every change, that the caller may see. The read is recorded.

    Under the deployment profile `hipaa` two people ask for it, as for the export of the review desk.
    """
    reading = tenant.part(ReadRecalls)
    await tenant.two_people.admit(
        "export", "recalls", by=caller.agent, contents=reading.contents, named=contents
    )
    pages: Any = reading.changes if what == "changes" else partial(reading.page, None, None)
    rows = _every(partial(pages, identity=caller))
    lines = (f"{row.model_dump_json()}\n" async for row in rows) if form == "ndjson" else _csv(rows)
    return await exported(lines, _MEDIA_TYPES[form], name=f"recall-{what}.{form}")


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


@router.get("/v1/recalls/{item_id}", **declared(404))
async def read_recall(reading: _Reading, caller: Reviewer, item_id: RecordId) -> domain.RecallDetail:
    """Return one reply: what was sent, and all its revisions. The read is recorded."""
    return await reading.one(item_id, identity=caller)


@router.post("/v1/recalls/{item_id}", **declared(404, 409, body=RecallDecision, meanings=CONFLICTS))
async def decide_recall(
    caller: Reviewer,
    item_id: RecordId,
    asked: Annotated[RecallDecision, json_body(RecallDecision)],
    reading: _Reading,
) -> domain.RecallDetail:
    """Take a reply, or close it: the patient was told, or need not be. `reopen` takes that back."""
    await reading.decide(item_id, asked, identity=caller)
    return await reading.one(item_id, identity=caller)


REQUEST_BODIES = (RecallDecision,)
STREAMED_LINES = (Recall, RecallChange)
"""Models of which an export has a line each, for the OpenAPI file."""
