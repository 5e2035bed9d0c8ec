"""Decisions on cases: how one is resolved, who approves it, and how it is opened again."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from assistant.domain.desk import Case, CaseState, DeskItem, DeskKind, ItemState, Resolution
from assistant.domain.desk_decisions import CaseApproval, CaseReopening, CaseResolution
from assistant.domain.errors import AssistantError, ConflictError, ForbiddenError, InvalidRequestError
from assistant.domain.identity import Identity
from assistant.learning.desk import OPENED_AGAIN, ReviewDesk, StoredCase, check_revision
from assistant.learning.desk_items import DeskItems, Served, served_body

_OPEN = (CaseState.OPEN, CaseState.ASKED_OWNER)
_TAKEN_BACK = "Its case was decided otherwise at the same moment."


class Resolutions:
    """Decides on cases. Every decision names the revision that it was made on.

    The item is written before its case. Its id follows from the case's revision, so of two decisions on the
    same revision one finds the item there and is refused, or loses the case and takes its item back.
    All methods raise NotFoundError, ConflictError, RecordsUnavailableError.
    """

    def __init__(self, desk: ReviewDesk, items: DeskItems) -> None:
        self._desk = desk
        self._items = items

    async def resolve(self, case_id: str, asked: CaseResolution, *, identity: Identity) -> None:
        """Resolve an open case, or propose how where two people are needed. Raises InvalidRequestError,
        ForbiddenError, and as the methods of ``DeskItems``."""
        stored = await self._desk.find(case_id, identity=identity)
        check_revision(stored.item, asked.revision)
        if stored.case.state not in _OPEN:
            raise ConflictError(f"The case is {stored.case.state}. Open it again before you decide anew.")
        if asked.kind in ("correction", "dismissed"):
            await self._put(stored, _without_item(stored.case, asked), identity=identity, note=asked.note)
            return
        body = await self._made(asked, stored.case, identity=identity)
        item_id = hashlib.sha256(f"{case_id}#{asked.revision}".encode()).hexdigest()[:32]
        item = await self._items.put_new(item_id, body, identity=identity, note=asked.note)
        is_live = served_body(item).state is ItemState.LIVE
        resolution = Resolution(kind=asked.kind, item_id=item_id, note=asked.note)
        update = {
            "state": CaseState.RESOLVED if is_live else CaseState.PROPOSED,
            "resolution": resolution,
            "resolved_by": identity.agent,
            "approved_by": None,
        }
        try:
            case = stored.case.model_copy(update=update)
            await self._put(stored, case, identity=identity, note=asked.note)
        except ConflictError:
            with suppress(AssistantError):  # the item stays listed, and can be withdrawn there
                await self._items.move(item, body, ItemState.WITHDRAWN, identity=identity, note=_TAKEN_BACK)
            raise
        await self._items.take_effect(body, by=identity.agent)

    async def approve(self, case_id: str, asked: CaseApproval, *, identity: Identity) -> None:
        """Approve a proposal, or refuse it. Raises ForbiddenError (by who proposed it)."""
        stored = await self._desk.find(case_id, identity=identity)
        check_revision(stored.item, asked.revision)
        if stored.case.state is not CaseState.PROPOSED:
            raise ConflictError(f"The case is {stored.case.state}; nothing is proposed in it.")
        if asked.approve and stored.case.resolved_by == identity.agent:
            raise ForbiddenError(
                "You proposed this yourself. Under this tenant's profile another person must approve it."
            )
        item = await self._item_of(stored.case, identity=identity)
        if asked.approve:
            if item is not None and served_body(item).state is not ItemState.LIVE:  # else its answer was lost
                await self._items.approve(item, identity=identity, note=asked.note)
            update: dict[str, object] = {"state": CaseState.RESOLVED, "approved_by": identity.agent}
        else:
            await self._withdraw(item, identity=identity, note=asked.note)
            update = dict(OPENED_AGAIN)
        await self._put(stored, stored.case.model_copy(update=update), identity=identity, note=asked.note)

    async def reopen(self, case_id: str, asked: CaseReopening, *, identity: Identity) -> None:
        """Open a case again, and withdraw what its resolution made."""
        stored = await self._desk.find(case_id, identity=identity)
        check_revision(stored.item, asked.revision)
        if stored.case.state is CaseState.OPEN:
            raise ConflictError("The case is open already.")
        item = await self._item_of(stored.case, identity=identity)
        await self._withdraw(item, identity=identity, note=asked.note)
        case = stored.case.model_copy(update=OPENED_AGAIN)
        await self._put(stored, case, identity=identity, note=asked.note)

    async def _made(self, asked: CaseResolution, case: Case, *, identity: Identity) -> Served:
        if asked.approved_answer is not None:
            return await self._items.approved_answer(asked.approved_answer, case=case, identity=identity)
        if asked.document_question is not None:
            return await self._items.document_question(asked.document_question, identity=identity)
        if asked.glossary_entry is not None:
            return await self._items.glossary_entry(asked.glossary_entry, identity=identity)
        raise InvalidRequestError(f"kind {asked.kind} has no field that says what to make.")

    async def _item_of(self, case: Case, *, identity: Identity) -> DeskItem | None:
        """Return the item that the case's resolution made. Raises NotFoundError where the caller may not see
        it: who cannot read an answer cannot approve it."""
        resolution = case.resolution
        if resolution is None or resolution.item_id is None:
            return None
        return await self._items.find(DeskKind(resolution.kind), resolution.item_id, identity=identity)

    async def _withdraw(self, item: DeskItem | None, *, identity: Identity, note: str) -> None:
        if item is not None and (body := served_body(item)).state is not ItemState.WITHDRAWN:
            await self._items.move(item, body, ItemState.WITHDRAWN, identity=identity, note=note)

    async def _put(self, stored: StoredCase, case: Case, *, identity: Identity, note: str) -> None:
        await self._desk.put_case(stored, case, by=identity.agent, note=note)


def _without_item(case: Case, asked: CaseResolution) -> Case:
    """Return the case after a dismissal or a correction: the first asks the owner, the next one says that it
    is done."""
    if asked.kind == "dismissed":
        state = CaseState.DISMISSED
    elif not case.documents:
        raise InvalidRequestError("No document belongs to this case, so no owner can be asked.")
    else:
        state = CaseState.RESOLVED if case.state is CaseState.ASKED_OWNER else CaseState.ASKED_OWNER
    return case.model_copy(
        update={"state": state, "resolution": Resolution(kind=asked.kind, note=asked.note)}
    )
