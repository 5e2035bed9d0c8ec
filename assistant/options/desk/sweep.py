"""Finds the sent replies whose cited words changed in their documents.

A run has three steps:

1. Note which documents and approved answers have another content than at the last run. It looks at documents
   whose status was written since, the first run of a day (UTC) at all.
2. Take what was sent since the last run: keep a reply under each document that its answer cites, and judge it
   by the document's known content.
3. Look at what changed: judge every reply that rests on it.

Each step may be repeated, by this process after a kill and by others at the same time: a reply has one item
in the list, and its item is written only while the content that it was judged by is the known one
(docs/decisions/0136-recall-by-a-sweep.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import structlog

from assistant.documents.readable import pages_of
from assistant.domain.answers import APPROVED_PREFIX, AnswerRecord, QuotedUnit, StoredSent, source_kind
from assistant.domain.desk import DeskItem, DeskKind, ItemState, body_of_item
from assistant.domain.documents import DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import AssistantError, ConflictError, DocumentInvalidError
from assistant.options.desk.approved import REMOVED_TEXT, ApprovedAnswer, approved_hash
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.lines import KeptContents, units_of
from assistant.options.desk.recalls import (
    GONE,
    RECALL,
    KnownContent,
    RecallChange,
    RecallRevision,
    RecallState,
    SentReply,
    StoredRecalls,
    StoredSends,
    digest_of,
)
from assistant.options.desk.upkeep import is_expired
from assistant.stores.table import sortable

EVERY_S = 300.0
"""Seconds between two runs."""
_STATES_AT_ONCE = 100
"""States of one read: parsing so many blocks the event loop, which also answers, for 20 ms."""
_AGAIN_S = 30.0
"""Seconds after which a run that failed is repeated."""
_OVERLAP = timedelta(hours=24)
"""What was sent and written so long before the last run is read again: the clock of a task may have been
wrong, and a run may have been killed."""
_Content = str | None
"""What a document or approved answer says now: a content's hash; GONE; None while that is undecided, as for a
withheld document, or one that was never live. The known content then stays as it is."""
_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class RecallSweep:
    """Keeps one tenant's list of replies consistent with its documents. For one event loop."""

    services: DeskServices
    recalls: StoredRecalls
    sends: StoredSends
    due_days: int
    _version: int = field(default=-1, init=False)
    """Version of the desk whose approved answers were looked at: they are read again when it has changed."""
    _taken: set[str] = field(default_factory=set[str], init=False)
    """Places of the sends and statuses that were taken within ``_OVERLAP``, so that they are not taken
    twice."""

    async def run(self) -> None:
        """Run every 300 s until cancelled; after 30 s where a store is unavailable, or a person or another
        process wrote at the same moment."""
        while True:
            pause_s = EVERY_S
            try:
                await self()
            except AssistantError as error:
                _log.warning("recall_sweep_not_ended", reason=error.code)
                pause_s = _AGAIN_S
            await asyncio.sleep(pause_s)

    async def __call__(self) -> None:
        """Run once. Raises RecordsUnavailableError, DependencyError, ConflictError where a person decides, or
        another process notes or judges, at the same moment."""
        judge = _Judge(self.services, self.recalls, KeptContents(self._read), self.due_days)
        # The time is read first: the next run reads what is recorded meanwhile.
        now, until = await self.services.store.now(), await self.recalls.walked_until()
        begin = "" if until is None else sortable(min(until, now) - _OVERLAP)  # a clock may have gone back
        self._taken = {place for place in self._taken if place > begin}
        # A last day passes without a write, and releases before listed none: all are looked at once a day.
        is_full = until is None or until.date() != now.date()
        states = self.services.knowledge.states
        written: Mapping[str, str] = {} if is_full else await states.written_since(begin)
        names = [name for name, place in written.items() if place not in self._taken]
        version = await self.services.store.version()
        changed = await self._note_documents(None if is_full else names, today=now.date())
        if version != self._version:
            changed += await self._note_approved()
        await self._take_sends(judge, begin, today=now.date())
        while changed:
            for known in changed:
                await judge.look(known)
            # What an earlier run noted and did not look at may hide a newer content: that is noted now.
            again = [known.document_id for known in changed]
            changed = await self._note_documents(again, today=now.date()) + await self._note_approved(again)
        # Last: what a run that was killed has noted and not looked at is read again.
        self._taken |= {written[name] for name in names}
        self._version = version
        await self.recalls.walk_until(now)

    async def _read(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        """Return a stored text without regard to labels; None where it is not stored, or damaged."""
        if source_kind(document_id) == "document":
            with suppress(DocumentInvalidError):
                return await self.services.knowledge.documents.get_parsed(document_id, content_hash)
            return None
        item_id = document_id.removeprefix(APPROVED_PREFIX)
        items = await self.services.store.history(DeskKind.APPROVED_ANSWER, item_id)
        texts = (body_of_item(item, ApprovedAnswer).text for item in items)
        return next((ParsedDocument(text, ()) for text in texts if approved_hash(text) == content_hash), None)

    # Step 1: what changed

    async def _note_documents(self, names: Sequence[str] | None, *, today: date) -> list[KnownContent]:
        """``_note`` for the documents of these names; None: for all."""
        changed: list[KnownContent] = []
        async for statuses in self._statuses(names):
            changed += await self._note({status.document_id: _content(status, today) for status in statuses})
        return changed

    async def _note_approved(self, names: Sequence[str] | None = None) -> list[KnownContent]:
        """``_note`` for the approved answers of these names; None: for all."""
        if names is not None and not any(name.startswith(APPROVED_PREFIX) for name in names):
            return []
        items = await self.services.store.list(DeskKind.APPROVED_ANSWER)
        contents = {f"{APPROVED_PREFIX}{item.item_id}": _approved_content(item) for item in items}
        return await self._note(
            {name: content for name, content in contents.items() if names is None or name in names}
        )

    async def _statuses(self, names: Sequence[str] | None) -> AsyncIterator[Iterable[DocumentStatus]]:
        states = self.services.knowledge.states
        if names is None:
            async for page in pages_of(states, size=_STATES_AT_ONCE):
                yield page
            return
        for start in range(0, len(names), _STATES_AT_ONCE):
            yield (await states.get_many(names[start : start + _STATES_AT_ONCE])).values()

    async def _note(self, contents: Mapping[str, _Content]) -> list[KnownContent]:
        """Note those of these contents, by document id, that changed; return those whose replies have to be
        looked at. The first content of a document is noted, and is no change."""
        now = await self.services.store.now()
        known = await self.recalls.known(list(contents))
        first = [
            KnownContent(document_id=name, content=content, noted_at=now)
            for name, content in contents.items()
            if name not in known and content is not None and content != GONE
        ]
        await asyncio.gather(*map(self.recalls.add_known, first))
        noted = [await self._note_one(before, contents[name], now) for name, before in known.items()]
        return [content for content in noted if content is not None]

    async def _note_one(self, known: KnownContent, now: _Content, noted_at: datetime) -> KnownContent | None:
        """Return the content of a document whose replies have to be looked at; None if there is none. Raises
        ConflictError if another process noted one first.

        | known | now | result |
        | --- | --- | --- |
        | not looked at: an earlier run was killed | any | known; the next run notes a newer content |
        | looked at | undecided, or as known | None |
        | looked at | another | the new content, noted |
        """
        if not known.is_looked_at:
            return known
        if now is None or now == known.content:
            return None
        new = KnownContent(
            document_id=known.document_id,
            content=now,
            before=known.content,
            number=known.number + 1,
            noted_at=noted_at,
            is_looked_at=False,
        )
        if not await self.recalls.put_known(new, after=known):
            raise ConflictError("Another process looks at the same change. This run is repeated.")
        return new

    # Step 2: what was sent

    async def _take_sends(self, judge: _Judge, begin: str, *, today: date) -> None:
        """Take every send after the place ``begin`` that was not taken: keep it as replies, and judge
        them."""
        async for place, send in self.sends.after(begin):
            if place in self._taken:
                continue
            record = await self.services.records.get_answer(send.answer_id)
            if record is None:  # it may still be written: the next runs look again
                continue
            for reply in _replies_of(send, record):
                # Before the known content is read: another process that then notes a change finds this reply.
                await self.recalls.add_reply(reply)
                await judge.judge(reply, await self._known_content(reply.units[0], today))
            self._taken.add(place)

    async def _known_content(self, cited: QuotedUnit, today: date) -> KnownContent:
        """Return the known content of a cited document. If there is none, what the document says now is
        noted as known, or the cited content where that is undecided."""
        name = cited.document_id
        known = await self.recalls.known([name])
        if not known:
            now, status = await self.services.store.now(), await self.services.knowledge.states.get(name)
            content = None if status is None else _content(status, today)
            content = cited.content_hash if content is None else content
            first = KnownContent(document_id=name, content=content, noted_at=now)
            await self.recalls.add_known(first)  # unless another process added one meanwhile
            known = await self.recalls.known([name])
        return known[name]


def _content(status: DocumentStatus, today: date) -> _Content:
    """Return the hash of the content that answers; GONE of a document that is withdrawn or whose last day is
    over, None while it is withheld."""
    last = status.in_force.until if status.in_force is not None else None
    if status.state is DocumentState.WITHDRAWN or (last is not None and last < today):
        return GONE
    return None if status.state is DocumentState.WITHHELD else status.live_content_hash


def _approved_content(item: DeskItem) -> _Content:
    """Return the text's hash while the answer is live, GONE if it was suspended or withdrawn; None before it
    is live, and if only its date has passed: until then it was right."""
    body = body_of_item(item, ApprovedAnswer)
    if body.state is ItemState.LIVE:
        return approved_hash(body.text)
    if body.state is ItemState.PROPOSED or (is_expired(body) and body.text != REMOVED_TEXT):
        return None
    return GONE


def _replies_of(send: StoredSent, record: AnswerRecord) -> Iterator[SentReply]:
    """Yield a send as one reply for each document that its answer cites."""
    for document_id, units in units_of(record).items():
        yield SentReply(
            send_id=send.sent.send_id,
            answer_id=send.answer_id,
            conversation_id=record.conversation_id,
            agent=send.agent,
            customer=record.customer,
            chat=record.chat,
            sent_at=send.at,
            reader_labels=record.labels,
            document_id=document_id,
            units=tuple(units),
        )


# Step 3: which replies fell


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges replies by the known contents of their documents. For one run: ``contents`` keeps texts in
    memory."""

    services: DeskServices
    recalls: StoredRecalls
    contents: KeptContents
    due_days: int

    async def look(self, known: KnownContent) -> None:
        """Judge every reply that rests on a changed document, store the change if words changed, and mark the
        content as looked at."""
        replies, affected = 0, 0
        async for reply in self.recalls.replies(known.document_id):
            item = await self.judge(reply, known)
            replies += 1
            # Its newest revision is by this content: of this look, or of an earlier one that was killed.
            if item is not None and item.number == known.number and item.reply.units:
                affected += 1
        if await self._has_other_words(known):
            kind = "withdrawn" if known.content == GONE else "restored" if known.before == GONE else "changed"
            change = RecallChange(
                # Each task and each repeated look makes the same id, so the change is kept once.
                change_id=f"{sortable(known.noted_at)}#{digest_of(known.document_id)}#{known.number}",
                document_id=known.document_id,
                kind=kind,
                before=known.before,
                now=known.content,
                noted_at=known.noted_at,
                looked_at=await self.services.store.now(),
                replies=replies,
                affected=affected,
            )
            await self.recalls.add_change(change)
        await self.recalls.put_known(known.model_copy(update={"is_looked_at": True}), after=known)
        _log.info("recall_looked", document_id=known.document_id, replies=replies, affected=affected)

    async def _has_other_words(self, known: KnownContent) -> bool:
        """Return whether the words changed, and not only labels, questions or how the file was parsed."""
        before = await self.contents.get(known.document_id, known.before)
        now = await self.contents.get(known.document_id, known.content)
        return before is None or now is None or not await asyncio.to_thread(now.has_words_of, before)

    async def judge(self, reply: SentReply, known: KnownContent) -> RecallRevision | None:
        """Judge a reply by the known content, and return its item in the work list; None if it has none.

        A reply without an item gets an open one if a line fell. An item gets another revision if its fallen
        lines (``units``) are others now, unless it was judged by a later content. Raises ConflictError where
        a person decides, or another process judges, at the same moment.
        """
        fallen = await self.contents.fallen(reply.units, known.content)
        item = await self.recalls.item(reply.item_id)
        fallen_before = () if item is None else item.reply.units
        if fallen == fallen_before or (item is not None and item.number > known.number):
            return item
        now = await self.services.store.now()
        state, note = (RecallState.OPEN, "") if item is None else _state_and_note(item, fallen)
        new = RecallRevision(
            reply=reply.model_copy(update={"units": fallen}),
            number=known.number,
            revision=1 if item is None else item.revision + 1,
            at=now,
            by=RECALL,
            note=note,
            state=state,
            owner=None if item is None else item.owner,
            due_on=(now + timedelta(days=self.due_days)).date(),
        )
        await self.recalls.put_item(new, known=known)
        return new


def _state_and_note(item: RecallRevision, fallen: Sequence[QuotedUnit]) -> tuple[RecallState, str]:
    """Return state and note of an item's next revision: now other lines have fallen than in ``item``.

    | its state | fallen now | next state |
    | --- | --- | --- |
    | any | a line that had not fallen | open |
    | told | fewer lines, or none | open: the patient was told of new words, and the old ones are back |
    | open, not needed | no line | not needed |
    | open, not needed | fewer lines | as before, with its note |
    """
    if set(fallen) - set(item.reply.units):
        return RecallState.OPEN, "More of its words changed."
    if item.state is RecallState.TOLD:
        return RecallState.OPEN, "Words that were replaced stand again."
    return (item.state, item.note) if fallen else (RecallState.NOT_NEEDED, "Its words stand again.")
