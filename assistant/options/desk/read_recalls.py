"""Recall as a reader sees it: the work list of replies whose words were changed in their documents, and the
changes that were looked at.

``DeskServices.may_see`` decides who sees a reply or a change; words and titles of documents are read under
the reader's own labels when they are shown. Every read is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from assistant.domain.answers import APPROVED_PREFIX, QuotedUnit, source_kind
from assistant.domain.desk import DeskKind, body_of_item
from assistant.domain.errors import ConflictError
from assistant.domain.identity import Identity
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.cases import DeskServices, not_found
from assistant.options.desk.lines import KeptContents
from assistant.options.desk.recalls import (
    GONE,
    Page,
    Recall,
    RecallChange,
    RecallDecision,
    RecallDetail,
    RecallLine,
    RecallRevision,
    RecallState,
    Row,
    SentReply,
    StoredRecalls,
)
from assistant.options.desk.section import PLACE_OF_CHAT, PLACE_OF_ID
from assistant.stores.desk import Contents
from assistant.stores.ports import DocumentTexts

# Decision = the state that it gives; the others open the item.
_STATES = {"told": RecallState.TOLD, "not_needed": RecallState.NOT_NEEDED}
# Returns the page of the keyword arguments ``after`` and ``limit``.
_Pages = Callable[..., Awaitable[Page[Row]]]


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

    async def one(self, item_id: str, *, identity: Identity) -> RecallDetail:
        """Return one reply with the text that was sent. Raises as ``find``."""
        item = await self.find(item_id, identity)
        (shown,) = await self._shown([item], f"recall:{item_id}", identity)
        sends = await self.services.records.list_sent(item.reply.answer_id)
        text = next((stored.sent.text for stored in sends if stored.sent.send_id == item.reply.send_id), "")
        history = await self.store.history(item_id)
        return RecallDetail(recall=shown, sent=text, history=tuple(history))

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
        items = [item async for item in every(partial(self.store.items, None))]
        revisions = {item.reply.item_id: str(item.revision) for item in items}
        revisions |= {change.change_id: "" async for change in every(self.store.changes)}
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
                is_gone=now == GONE,
                lines=tuple([await _line(unit, now, contents) for unit in reply.units]),
                conversation_url=self._address(reply),
            )
            shown.append(recall)
        return shown


async def _line(unit: QuotedUnit, now: str, contents: KeptContents) -> RecallLine:
    """Return a cited line as it was, and the line in its place in the content ``now``, as far as they are
    readable."""
    old = await contents.get(unit.document_id, unit.content_hash)
    if old is None:
        return RecallLine(old=None, new=None)
    new, (start, end) = await contents.get(unit.document_id, now), unit.span
    in_place = None if new is None else await asyncio.to_thread(new.in_place_of, start, old)
    return RecallLine(old=old.parsed.text[start:end], new=in_place)


async def every(pages: _Pages[Row]) -> AsyncIterator[Row]:
    """Yield the rows of all pages."""
    after: str | None = None
    while True:
        page, after = await pages(after=after, limit=100)
        for row in page:
            yield row
        if after is None:
            return
