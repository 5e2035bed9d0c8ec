"""Finds the sent replies whose cited words changed in their documents.

A run notes which documents and approved answers have another content than at the last run, then reads what
was sent since, then looks at every reply that rests on what changed. Each step may be repeated, by this
process after a kill and by others at the same time: a reply has one item in the list, and its item is written
only while the content that it was judged by is the known one (docs/decisions/0136-recall-by-a-sweep.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from assistant.documents.readable import pages_of
from assistant.domain.answers import APPROVED_PREFIX, AnswerRecord, QuotedUnit, StoredSent, source_kind
from assistant.domain.desk import DeskKind, ItemState, body_of_item
from assistant.domain.documents import DocumentState, DocumentStatus, ParsedDocument
from assistant.domain.errors import AssistantError, DocumentInvalidError
from assistant.options.desk.approved import REMOVED_TEXT, ApprovedAnswer, approved_hash
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.upkeep import is_expired
from assistant.options.recall import domain
from assistant.options.recall.domain import GONE, KnownContent, RecallRevision, RecallState, SentReply
from assistant.options.recall.lines import KeptContents, units_of
from assistant.options.recall.store import StoredRecalls, StoredSends
from assistant.stores.table import sortable

EVERY_S = 300.0
"""Seconds between two runs: each reads the states of all documents, on DynamoDB 0.5 read units for each 4
KB."""
_STATES_AT_ONCE = 100
"""So many are parsed in 20 ms, in which no answer goes on."""
_AGAIN_S = 30.0
"""Seconds after which a run that failed is repeated."""
_OVERLAP = timedelta(hours=24)
"""Sends of so long before the last run are read again: the clock of a task may have been wrong."""
_log = structlog.get_logger(__name__)


class RecallSweep:
    """Keeps one tenant's list of replies consistent with its documents. For one event loop."""

    def __init__(
        self, services: DeskServices, recalls: StoredRecalls, sends: StoredSends, *, due_days: int
    ) -> None:
        self._services = services
        self._recalls = recalls
        self._sends = sends
        self._due_days = due_days
        self._contents = KeptContents(self._read)
        self._approved: dict[str, str | None] = {}
        """As ``_approved_contents`` returns them, at the desk's ``_version``."""
        self._version = -1
        self._taken: set[str] = set()
        """Places of the sends that were taken within ``_OVERLAP``, so that they are not taken twice."""

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
        """Run once. Raises RecordsUnavailableError, DependencyError."""
        self._contents = KeptContents(self._read)
        changed = [known async for known in self._note_changes()]
        await self._take_sends()
        for known in changed:
            await self._look(known)
        self._contents = KeptContents(self._read)

    # What changed

    async def _note_changes(self) -> AsyncIterator[KnownContent]:
        """Note the contents that changed, and yield those whose replies have to be looked at."""
        async for page in pages_of(self._services.knowledge.states, size=_STATES_AT_ONCE):
            for known in await self._note({status.document_id: _content(status) for status in page}):
                yield known
        for known in await self._note(await self._approved_contents()):
            yield known

    async def _note(self, contents: Mapping[str, str | None]) -> list[KnownContent]:
        """Note these contents; return the changed ones, and those of an earlier run that was killed.

        ``contents``: by document id the hash of its live content, GONE, or None where that is undecided: a
        withheld document, or one that was never live. A document that is new here is noted, and is no change.
        """
        if not contents:
            return []
        now = await self._services.store.now()
        known = await self._recalls.known_between(min(contents), max(contents))
        unknown = ((name, content) for name, content in contents.items() if content and name not in known)
        await asyncio.gather(*(self._add_known(name, content, now) for name, content in unknown))
        changed: list[KnownContent] = []
        for name, before in known.items():
            content = contents.get(name)
            if not before.is_looked_at:  # an earlier run was killed; the next run notes a newer content
                changed.append(before)
            if not before.is_looked_at or content is None or content == before.content:
                continue
            new = KnownContent(
                document_id=name,
                content=content,
                before=before.content,
                number=before.number + 1,
                noted_at=now,
                is_looked_at=False,
            )
            if await self._recalls.put_known(new, after=before):
                changed.append(new)
        return changed

    async def _add_known(self, name: str, content: str, now: datetime) -> None:
        await self._recalls.add_known(KnownContent(document_id=name, content=content, noted_at=now))

    async def _approved_contents(self) -> Mapping[str, str | None]:
        """Return the contents of approved answers as ``_note`` takes them."""
        version = await self._services.store.version()
        if version != self._version:
            items = await self._services.store.list(DeskKind.APPROVED_ANSWER)
            bodies = ((item.item_id, body_of_item(item, ApprovedAnswer)) for item in items)
            self._approved = {f"{APPROVED_PREFIX}{item_id}": _text_hash(body) for item_id, body in bodies}
            self._version = version
        return self._approved

    async def _read(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        """Return a stored text without regard to labels; None where it is not stored, or damaged."""
        if source_kind(document_id) == "document":
            with suppress(DocumentInvalidError):
                return await self._services.knowledge.documents.get_parsed(document_id, content_hash)
            return None
        item_id = document_id.removeprefix(APPROVED_PREFIX)
        items = await self._services.store.history(DeskKind.APPROVED_ANSWER, item_id)
        texts = (body_of_item(item, ApprovedAnswer).text for item in items)
        return next((ParsedDocument(text, ()) for text in texts if approved_hash(text) == content_hash), None)

    # What was sent

    async def _take_sends(self) -> None:
        """Take every send that was recorded since the last run: keep it under its documents, and judge it."""
        now, until = await self._services.store.now(), await self._recalls.walked_until()
        begin = "" if until is None else sortable(until - _OVERLAP)
        self._taken = {taken for taken in self._taken if taken > begin}
        async for at, stored in self._sends.after(begin):
            if at in self._taken:
                continue
            record = await self._services.records.get_answer(stored.answer_id)
            if record is not None:
                await self._take(stored, record)
                self._taken.add(at)
        await self._recalls.walk_until(now)

    async def _take(self, stored: StoredSent, record: AnswerRecord) -> None:
        for document_id, units in units_of(record).items():
            reply = SentReply(
                send_id=stored.sent.send_id,
                answer_id=stored.answer_id,
                conversation_id=record.conversation_id,
                agent=stored.agent,
                sent_at=stored.at,
                reader_labels=record.labels,
                document_id=document_id,
                units=tuple(units),
            )
            # Before the known content is read: another process that then notes a change finds this reply.
            await self._recalls.add_reply(reply)
            await self._judge(reply, await self._known(document_id, units[0]))

    async def _known(self, document_id: str, cited: QuotedUnit) -> KnownContent:
        """Return the known content of a cited document. If there is none, the cited content is noted as
        known, so that the next run finds the live one as a change."""
        while not (known := await self._recalls.known([document_id])):
            await self._add_known(document_id, cited.content_hash, await self._services.store.now())
        return known[document_id]

    # Which replies fell

    async def _look(self, known: KnownContent) -> None:
        """Judge every reply that rests on a changed document, store the change, and mark it as looked at."""
        replies, affected = 0, 0
        async for reply in self._recalls.replies(known.document_id):
            item = await self._judge(reply, known)
            affected += item is not None and item.number == known.number and bool(item.reply.units)
            replies += 1
        if await self._has_other_words(known):
            change = domain.RecallChange(
                # Each task and each repeated look makes the same id, so the change is kept once.
                change_id=f"{sortable(known.noted_at)}#{domain.digest_of(known.document_id)}#{known.number}",
                document_id=known.document_id,
                kind="withdrawn" if known.content == GONE else "changed" if known.before else "restored",
                before=known.before,
                now=known.content,
                noted_at=known.noted_at,
                looked_at=await self._services.store.now(),
                replies=replies,
                affected=affected,
            )
            await self._recalls.add_change(change)
        await self._recalls.put_known(known.model_copy(update={"is_looked_at": True}), after=known)
        _log.info("recall_looked", document_id=known.document_id, replies=replies, affected=affected)

    async def _has_other_words(self, known: KnownContent) -> bool:
        """Return whether the words changed, and not only labels, questions or how the file was parsed."""
        before = await self._contents.get(known.document_id, known.before)
        now = await self._contents.get(known.document_id, known.content)
        return before is None or now is None or not await asyncio.to_thread(now.has_words_of, before)

    async def _judge(self, reply: SentReply, known: KnownContent) -> RecallRevision | None:
        """Judge a reply by the known content, write its item if that changes it, and return the item; None if
        it has none.

        | the item before | lines that fell now | the item after |
        | --- | --- | --- |
        | none | some | open |
        | any | some that had not fallen before | open: more of its words changed |
        | told | fewer | open: the patient was told of words that are back |
        | open, not needed | none | not needed |
        | open, not needed | fewer | as before |

        An item that was judged by a later content stays. Raises ConflictError where a person decides, or
        another process judges, at the same moment.
        """
        fallen = await self._contents.fallen(reply.units, known.content)
        item = await self._recalls.item(reply.item_id)
        is_newer = item is None or item.number <= known.number
        if not is_newer or (() if item is None else item.reply.units) == fallen:
            return item
        now = await self._services.store.now()
        new = RecallRevision(
            reply=reply.model_copy(update={"units": fallen}),
            number=known.number,
            revision=1,
            at=now,
            by=domain.RECALL,
            due_on=(now + timedelta(days=self._due_days)).date(),
        )
        if item is not None:
            state, note = item.state, item.note
            if set(fallen) - set(item.reply.units):
                state, note = RecallState.OPEN, "More of its words changed."
            elif item.state is RecallState.TOLD:
                state, note = RecallState.OPEN, "Words that were replaced stand again."
            elif not fallen:
                state, note = RecallState.NOT_NEEDED, "Its words stand again."
            update = {"revision": item.revision + 1, "state": state, "note": note, "owner": item.owner}
            new = new.model_copy(update=update)
        await self._recalls.put_item(new, known=known)
        return new


def _content(status: DocumentStatus) -> str | None:
    """Return a document's content as ``_note`` takes it."""
    if status.state is DocumentState.WITHDRAWN:
        return GONE
    return None if status.state is DocumentState.WITHHELD else status.live_content_hash


def _text_hash(body: ApprovedAnswer) -> str | None:
    """Return the content of an approved answer as ``_note`` takes it: the text's hash while it is live, GONE
    if it was suspended or withdrawn; None before it is live, and if only its date has passed: until then it
    was right."""
    if body.state is ItemState.LIVE:
        return approved_hash(body.text)
    if body.state is ItemState.PROPOSED or (is_expired(body) and body.text != REMOVED_TEXT):
        return None
    return GONE
