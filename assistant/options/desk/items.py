"""Items that reviewers make at the desk: approved answers and glossary entries.

Each is a desk item. Going live, withdrawing and putting an earlier revision back add a revision; under the
deployment profile ``hipaa`` an item goes live by a second person's decision only.

    proposed → live        another person approves it (``hipaa`` only)
    live → withdrawn       somebody withdraws it
    withdrawn → live       somebody puts it back (``hipaa``: to proposed first)
    live → suspended       its source changed, or it expired (approved answers: ``upkeep.py``)

``Resolutions`` decides on cases, which makes items; ``DeskItems`` makes and moves items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress

import structlog

from assistant.domain.clock import Deadline
from assistant.domain.desk import (
    JOINED,
    BoundSource,
    Case,
    CaseState,
    DeskItem,
    DeskKind,
    GlossaryEntry,
    ItemState,
    Resolution,
    body_of_item,
    first_revision,
)
from assistant.domain.documents import DocumentStatus
from assistant.domain.errors import AssistantError, ConflictError, ForbiddenError, InvalidRequestError
from assistant.domain.identity import Identity, Role
from assistant.options.desk import bodies
from assistant.options.desk.approved import REMOVED_TEXT, ApprovedAnswer
from assistant.options.desk.cases import (
    OPENED_AGAIN,
    DeskServices,
    ReviewDesk,
    StoredCase,
    check_revision,
    is_open_to,
    not_found,
    read_cases,
)
from assistant.stores.desk import Contents

Served = ApprovedAnswer | GlossaryEntry
MODELS: Mapping[DeskKind, type[Served]] = {
    DeskKind.APPROVED_ANSWER: ApprovedAnswer,
    DeskKind.GLOSSARY_ENTRY: GlossaryEntry,
}
"""The kinds that reviewers make. Releases of weights have commands of their own."""
_KINDS = {model: kind for kind, model in MODELS.items()}
_EMBEDDING_TIMEOUT_S = 10.0
_OWN_APPROVAL = "You proposed this yourself. Under this tenant's profile another person must approve it."
_log = structlog.get_logger(__name__)


def served_body(item: DeskItem) -> Served:
    """Return the body of an item of ``MODELS``."""
    return body_of_item(item, MODELS[item.kind])


class DeskItems:
    """Makes, lists and moves items. All methods raise RecordsUnavailableError.

    ``approved_answer`` and ``glossary_entry`` check a request and return the body of an item that is not
    stored; ``put_new`` stores it. Stored items change by ``set_state``, ``restore``, ``approve`` and
    ``move``.
    """

    def __init__(self, services: DeskServices) -> None:
        self._services = services

    async def approved_answer(
        self, request: bodies.NewApprovedAnswer, *, case: Case, identity: Identity
    ) -> Served:
        """Return the body, bound to its sources' live content, with the labels of its sources and its case.

        Raises InvalidRequestError (expiry, labels), NotFoundError (a source that the caller may not read, or
        as a knowledge owner not write), ConflictError (a source without live content), and as the embedder.
        """
        if request.expires_on <= self._services.clock.now().date():
            raise InvalidRequestError(f"expires_on is {request.expires_on}; give a day in the future.")
        if not request.document_ids and Role.REVIEWER not in identity.roles:
            raise InvalidRequestError("document_ids is empty; name a document of your own that says this.")
        statuses = await self._sources(request.document_ids, identity=identity)
        if unknown := sorted(set(request.labels) - {*self._services.labels, *case.reader_labels}):
            raise InvalidRequestError(f"labels: {', '.join(unknown)} is no label of this tenant.")
        labels = _checked({*request.labels, *case.reader_labels, *_labels_of(statuses)}, identity)
        return ApprovedAnswer(
            questions=request.questions,
            vectors=await self._vectors(request.questions),
            embedding_model=self._services.embedding_model,
            text=request.text,
            owner=identity.agent,
            expires_on=request.expires_on,
            labels=labels,
            sources=tuple(_bound(status) for status in statuses),
            from_answer=case.answer_id,
            state=self._first_state(),
            proposed_by=identity.agent,
        )

    async def glossary_entry(self, request: bodies.NewGlossaryEntry, *, identity: Identity) -> Served:
        """Return the body. Raises ForbiddenError (it changes every question of the tenant, so reviewers alone
        may), ConflictError (a live entry has the same words)."""
        if Role.REVIEWER not in identity.roles:
            raise ForbiddenError("A glossary entry acts on every question: the role reviewer is required.")
        entry = GlossaryEntry(
            said=request.said, means=request.means, state=self._first_state(), proposed_by=identity.agent
        )
        await self._check_entry(entry)
        return entry

    async def list(self, kinds: Sequence[DeskKind], *, identity: Identity) -> list[DeskItem]:
        """Return the newest revisions that the reader may see, the latest changed first."""
        items: list[DeskItem] = []
        for kind in kinds:
            items += await self._visible(await self._services.store.list(kind), identity)
        await self._record_read("items", items, identity=identity)
        return sorted(items, key=lambda item: item.at, reverse=True)

    async def find(self, kind: DeskKind, item_id: str, *, identity: Identity) -> DeskItem:
        """Return the newest revision. Raises NotFoundError for an unknown item, and equally for one that is
        not visible to the caller."""
        item = await self._services.store.get(kind, item_id) if kind in MODELS else None
        if item is None or not await self._visible([item], identity):
            raise not_found()
        return item

    async def history(self, kind: DeskKind, item_id: str, *, identity: Identity) -> list[DeskItem]:
        """Return the revisions that the reader may see, oldest first. Raises as ``find``."""
        await self.find(kind, item_id, identity=identity)
        revisions = await self._services.store.history(kind, item_id)
        if kind is DeskKind.APPROVED_ANSWER:
            revisions = [
                revision
                for revision in revisions
                if identity.labels.issuperset(body_of_item(revision, ApprovedAnswer).labels)
            ]
        await self._record_read(f"{kind}:{item_id}", revisions, identity=identity)
        return revisions

    async def set_state(self, item: DeskItem, change: bodies.StateChange, *, identity: Identity) -> DeskItem:
        """Withdraw an item, or make it live again. Under ``hipaa`` the first call with ``live`` proposes it,
        and the call of another person makes it live.

        Raises ConflictError (an older revision, or an item whose case decides), ForbiddenError (the second
        person is the first), InvalidRequestError (expired), and as ``approved_answer``.
        """
        check_revision(item, change.revision)
        await self._check_no_case_decides(item)
        body = served_body(item)
        if change.state == "withdrawn":
            if body.state is ItemState.WITHDRAWN:
                raise ConflictError("It is withdrawn already.")
            return await self.move(item, body, ItemState.WITHDRAWN, identity=identity, note=change.note)
        if body.state is ItemState.LIVE:
            raise ConflictError("It is live already.")
        if body.state is ItemState.PROPOSED:
            return await self.approve(item, identity=identity, note=change.note)
        return await self._propose(item, body, identity=identity, note=change.note)

    async def restore(self, item: DeskItem, change: bodies.Restoring, *, identity: Identity) -> DeskItem:
        """Put an earlier revision back, as a new one. It goes live as a new item would; one that was not live
        comes back withdrawn. Raises as ``set_state``, NotFoundError."""
        check_revision(item, change.revision)
        await self._check_no_case_decides(item)
        earlier = [
            revision
            for revision in await self.history(item.kind, item.item_id, identity=identity)
            if revision.revision == change.to_revision and revision.revision < item.revision
        ]
        if not earlier:
            raise InvalidRequestError(f"to_revision is {change.to_revision}; give an earlier revision of it.")
        body = served_body(earlier[0])
        if body.state is not ItemState.LIVE:
            return await self.move(item, body, ItemState.WITHDRAWN, identity=identity, note=change.note)
        return await self._propose(item, body, identity=identity, note=change.note)

    async def put_new(self, item_id: str, body: Served, *, identity: Identity, note: str) -> DeskItem:
        """Store the first revision of an item. Repeating the call, as after a lost response, changes nothing.

        Raises ConflictError (somebody else decided on the same revision of the case).
        """
        kind = _KINDS[type(body)]
        existing = await self._services.store.get(kind, item_id)
        if existing is not None and existing.by == identity.agent and served_body(existing) == body:
            return existing
        now = self._services.clock.now()
        item = first_revision(kind, item_id, body, by=identity.agent, at=now, note=note)
        await self._services.store.put(item)
        return item

    async def approve(self, item: DeskItem, *, identity: Identity, note: str) -> DeskItem:
        """Make a proposed item live. Raises ForbiddenError (the caller proposed it), ConflictError (it is not
        proposed, or a source changed since)."""
        body = served_body(item)
        if body.state is not ItemState.PROPOSED:
            raise ConflictError(f"It is {body.state}; only a proposed item can be approved.")
        if body.proposed_by == identity.agent:
            raise ForbiddenError(_OWN_APPROVAL)
        if isinstance(body, ApprovedAnswer):
            proposed = body.sources
            body = await self._bound_again(body, identity=identity)
            if body.sources != proposed:
                raise ConflictError(
                    "A source changed since this was proposed. Refuse it, and write it again."
                )
        else:
            await self._check_entry(body, beside=item.item_id)
        return await self.move(item, body, ItemState.LIVE, identity=identity, note=note)

    async def move(
        self, item: DeskItem, body: Served, state: ItemState, *, identity: Identity, note: str
    ) -> DeskItem:
        """Store a revision with this body and state. The caller has checked that the item may have the
        state."""
        update: dict[str, object] = {"state": state}
        if state is ItemState.LIVE:
            update["approved_by"] = identity.agent if body.proposed_by != identity.agent else None
        if isinstance(body, ApprovedAnswer) and state is not ItemState.SUSPENDED:
            update["suspended_because"] = ""
        body = body.model_copy(update=update)
        return await self._services.put_next(item, body, by=identity.agent, note=note)

    async def _propose(self, item: DeskItem, body: Served, *, identity: Identity, note: str) -> DeskItem:
        if isinstance(body, ApprovedAnswer):
            body = await self._bound_again(body, identity=identity)
        body = body.model_copy(update={"proposed_by": identity.agent, "approved_by": None})
        if isinstance(body, GlossaryEntry):
            await self._check_entry(body, beside=item.item_id)
        return await self.move(item, body, self._first_state(), identity=identity, note=note)

    async def _sources(self, names: Sequence[str], *, identity: Identity) -> list[DocumentStatus]:
        """Return the documents' states. Raises NotFoundError for one that the caller may not read, or as a
        knowledge owner not write; ConflictError for one without live content."""
        statuses = await self._services.knowledge.states.get_many(names)
        owns, sources = self._services.owns(identity), list[DocumentStatus]()
        for name in dict.fromkeys(names):
            status, may_use = statuses.get(name), Role.REVIEWER in identity.roles or owns(name)
            if status is None or not may_use or not is_open_to(status, identity.labels):
                raise not_found()
            if status.live_content_hash is None:
                raise ConflictError(f"The document {name} is {status.state} and answers nothing now.")
            sources.append(status)
        return sources

    async def _bound_again(self, body: ApprovedAnswer, *, identity: Identity) -> ApprovedAnswer:
        """Return the answer bound to its sources' live content, with their labels of today, and vectors of
        the model that serves now. Raises InvalidRequestError (expired, or labels that the caller lacks),
        ConflictError (a source is gone), NotFoundError (the caller may not read a source as it is today)."""
        if body.expires_on <= self._services.clock.now().date():
            raise InvalidRequestError(f"It expired on {body.expires_on}. Write a new one from its case.")
        if body.text == REMOVED_TEXT:
            raise ConflictError("A source's withdrawal removed its text. Write a new one from its case.")
        names = [bound.document_id for bound in body.sources]
        statuses = await self._services.knowledge.states.get_many(names)
        gone = [name for name in names if name not in statuses or statuses[name].live_content_hash is None]
        if gone:
            raise ConflictError(f"Its source {gone[0]} answers nothing now. Write a new one from its case.")
        if not all(is_open_to(statuses[name], identity.labels) for name in names):
            raise not_found()
        update: dict[str, object] = {"sources": tuple(_bound(statuses[name]) for name in names)}
        update["labels"] = _checked({*body.labels, *_labels_of(statuses.values())}, identity)
        if body.embedding_model != self._services.embedding_model:
            update["vectors"] = await self._vectors(body.questions)
            update["embedding_model"] = self._services.embedding_model
        return body.model_copy(update=update)

    async def _vectors(self, questions: Sequence[str]) -> tuple[tuple[float, ...], ...]:
        deadline = Deadline.after(_EMBEDDING_TIMEOUT_S, clock=self._services.clock)
        vectors = await self._services.embedder.embed(questions, deadline=deadline)
        return tuple(tuple(vector) for vector in vectors)

    async def _check_entry(self, entry: GlossaryEntry, *, beside: str = "") -> None:
        """Raise ConflictError if another live entry has the same words. ``beside``: id of the entry's own
        item."""
        for item in await self._services.store.list(DeskKind.GLOSSARY_ENTRY):
            other = body_of_item(item, GlossaryEntry)
            is_same = other.said.casefold() == entry.said.casefold() and item.item_id != beside
            if is_same and other.state is ItemState.LIVE:
                raise ConflictError(f'"{entry.said}" has a live entry already. Withdraw that one first.')

    async def _check_no_case_decides(self, item: DeskItem) -> None:
        """Raise ConflictError while the item's case waits for the second person."""
        if served_body(item).state is not ItemState.PROPOSED:
            return
        async for stored, case in read_cases(self._services.store, (CaseState.PROPOSED,)):
            if case.resolution is not None and case.resolution.item_id == item.item_id:
                raise ConflictError(f"Approve or refuse it in its case, {stored.item_id}.")

    async def _record_read(self, subject: str, items: Sequence[DeskItem], *, identity: Identity) -> None:
        """Record the documents that the items' texts rest on, with "" for a title that the reader may not
        know."""
        names = [name for item in items for name in _documents_of(served_body(item))]
        titles = await self._services.titles(names, identity=identity)
        await self._services.record_read(subject, dict.fromkeys(names, "") | titles, identity=identity)

    async def contents(self) -> Contents:
        """Return the digest of every case and item with its revision, whoever may see it.

        Two people who ask for an export name it, so that both ask for the same contents.
        """
        store = self._services.store
        items = [item async for item, _ in read_cases(store, (*CaseState, JOINED))]
        for kind in MODELS:
            items += await store.list(kind)
        revisions = {f"{item.kind}/{item.item_id}": str(item.revision) for item in items}
        return Contents.of(revisions, f"{len(items):,} cases and items")

    async def _visible(self, items: Sequence[DeskItem], identity: Identity) -> list[DeskItem]:
        """Return the items that the reader may see."""
        return [item for item in items if self._is_visible(served_body(item), identity)]

    def _is_visible(self, body: Served, identity: Identity) -> bool:
        is_reviewer, owns = Role.REVIEWER in identity.roles, self._services.owns(identity)
        match body:
            case ApprovedAnswer():
                names = [bound.document_id for bound in body.sources]
                is_own = bool(names) and all(map(owns, names))
                return identity.labels.issuperset(body.labels) and (is_reviewer or is_own)
            case GlossaryEntry():
                return is_reviewer

    def _first_state(self) -> ItemState:
        """Return the state in which an item begins, or comes back."""
        return ItemState.PROPOSED if self._services.needs_two_people else ItemState.LIVE


def _labels_of(statuses: Iterable[DocumentStatus]) -> set[str]:
    return {label for status in statuses for label in status.live_labels or ()}


def _checked(labels: Set[str], identity: Identity) -> tuple[str, ...]:
    """Return the labels of an answer, sorted. Raises InvalidRequestError where the caller lacks one."""
    if missing := sorted(labels - identity.labels):
        raise InvalidRequestError(
            f"This answer would need the labels {', '.join(missing)}, which you do not hold, so you could not"
            " read it yourself. Ask a reviewer who holds them."
        )
    return tuple(sorted(labels))


def _documents_of(body: Served) -> tuple[str, ...]:
    return tuple(bound.document_id for bound in body.sources) if isinstance(body, ApprovedAnswer) else ()


def _bound(status: DocumentStatus) -> BoundSource:
    return BoundSource(document_id=status.document_id, content_hash=status.live_content_hash or "")


# Decisions on cases


_OPEN = (CaseState.OPEN, CaseState.ASKED_OWNER)
"""States in which a case can be resolved."""
_TAKEN_BACK = "Its case was decided otherwise at the same moment."


class Resolutions:
    """Decides on cases. Every decision names the revision that it was made on.

    The item is written before its case. Its id is a hash of the case and its revision, so of two decisions on
    the same revision one is refused: because the item exists, or because the case has a newer revision, and
    then it withdraws its item. All methods raise NotFoundError, ConflictError, RecordsUnavailableError.
    """

    def __init__(self, desk: ReviewDesk, items: DeskItems) -> None:
        self._desk = desk
        self._items = items

    async def resolve(self, case_id: str, request: bodies.CaseResolution, *, identity: Identity) -> None:
        """Resolve an open case; where two people are needed, propose its resolution. Raises
        InvalidRequestError, ForbiddenError, and as the methods of ``DeskItems``."""
        stored = await self._find(case_id, request, identity)
        if stored.case.state not in _OPEN:
            raise ConflictError(f"The case is {stored.case.state}. Open it again before you decide anew.")
        items = self._items
        if request.approved_answer is not None:
            body = await items.approved_answer(request.approved_answer, case=stored.case, identity=identity)
        elif request.glossary_entry is not None:
            body = await items.glossary_entry(request.glossary_entry, identity=identity)
        else:
            update = _without_item(stored.case, request)
            return await self._desk.put_case(stored, update, by=identity.agent, note=request.note)
        item_id = hashlib.sha256(f"{case_id}#{request.revision}".encode()).hexdigest()[:32]
        item = await items.put_new(item_id, body, identity=identity, note=request.note)
        is_live = served_body(item).state is ItemState.LIVE
        resolution = Resolution(kind=request.kind, item_id=item_id, note=request.note)
        update = {
            "state": CaseState.RESOLVED if is_live else CaseState.PROPOSED,
            "resolution": resolution,
            "resolved_by": identity.agent,
            "approved_by": None,
        }
        try:
            await self._desk.put_case(stored, update, by=identity.agent, note=request.note)
        except ConflictError:
            with suppress(AssistantError):  # the item stays listed, and can be withdrawn there
                await items.move(item, body, ItemState.WITHDRAWN, identity=identity, note=_TAKEN_BACK)
            raise

    async def approve(self, case_id: str, request: bodies.CaseApproval, *, identity: Identity) -> None:
        """Approve a proposal, or refuse it, which opens the case again. Raises ForbiddenError (the caller
        proposed it)."""
        stored = await self._find(case_id, request, identity)
        if stored.case.state is not CaseState.PROPOSED:
            raise ConflictError(f"The case is {stored.case.state}; nothing is proposed in it.")
        if request.approve and stored.case.resolved_by == identity.agent:
            raise ForbiddenError(_OWN_APPROVAL)
        item = await self._item_of(stored.case, identity=identity)
        if request.approve:
            # It is live where the response to an earlier approval was lost.
            if item is not None and served_body(item).state is not ItemState.LIVE:
                await self._items.approve(item, identity=identity, note=request.note)
            update: Mapping[str, object] = {"state": CaseState.RESOLVED, "approved_by": identity.agent}
        else:
            await self._withdraw(item, identity=identity, note=request.note)
            update = OPENED_AGAIN
        await self._desk.put_case(stored, update, by=identity.agent, note=request.note)

    async def reopen(self, case_id: str, request: bodies.CaseReopening, *, identity: Identity) -> None:
        """Open a case again, and withdraw the item that its resolution made."""
        stored = await self._find(case_id, request, identity)
        if stored.case.state is CaseState.OPEN:
            raise ConflictError("The case is open already.")
        item = await self._item_of(stored.case, identity=identity)
        await self._withdraw(item, identity=identity, note=request.note)
        await self._desk.put_case(stored, OPENED_AGAIN, by=identity.agent, note=request.note)

    async def _item_of(self, case: Case, *, identity: Identity) -> DeskItem | None:
        """Return the item that the case's resolution made; None for a dismissal or a correction, and for a
        question that an earlier release added to a document.

        Raises NotFoundError where the caller may not see it: nobody may approve what they may not read.
        """
        resolution = case.resolution
        if resolution is None or resolution.item_id is None or resolution.kind == "document_question":
            return None
        return await self._items.find(DeskKind(resolution.kind), resolution.item_id, identity=identity)

    async def _withdraw(self, item: DeskItem | None, *, identity: Identity, note: str) -> None:
        if item is not None and (body := served_body(item)).state is not ItemState.WITHDRAWN:
            await self._items.move(item, body, ItemState.WITHDRAWN, identity=identity, note=note)

    async def _find(
        self,
        case_id: str,
        request: bodies.CaseResolution | bodies.CaseApproval | bodies.CaseReopening,
        identity: Identity,
    ) -> StoredCase:
        """Return the case. Raises ConflictError unless the decision was made on its newest revision."""
        stored = await self._desk.find(case_id, identity=identity)
        check_revision(stored.item, request.revision)
        return stored


def _without_item(case: Case, request: bodies.CaseResolution) -> Mapping[str, object]:
    """Return the update of the case's fields for a dismissal or a correction.

    The first correction asks the document's owner, a second one says that it is done. Raises
    InvalidRequestError for a correction of a case without documents.
    """
    if request.kind == "dismissed":
        state = CaseState.DISMISSED
    elif not case.documents:
        raise InvalidRequestError("No document belongs to this case, so no owner can be asked.")
    else:
        state = CaseState.RESOLVED if case.state is CaseState.ASKED_OWNER else CaseState.ASKED_OWNER
    return {"state": state, "resolution": Resolution(kind=request.kind, note=request.note)}
