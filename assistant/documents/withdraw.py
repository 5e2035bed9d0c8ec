"""Takes documents out of the answers: withdrawal, withholding, and the worker's removal from the index.

A withdrawal deletes the text at once. A document is withheld, and its text kept, when a refused file may
have been meant to restrict it, or when its labels were narrowed: until it is sent again it answers nothing.
Both use the queue of withdrawals, so that they wait neither for a body to be parsed nor for a backlog of
documents: ``WithdrawDocuments`` or ``withhold`` writes the statuses and enqueues the ids, the worker's
``remove_documents`` empties the index. In these states ``live_content_hash`` tells whether that is done:

| state | live_content_hash | meaning |
| --- | --- | --- |
| withdrawn, withheld | a hash | nobody finds or reads it, but the index may hold it: its removal is due |
| withdrawn, withheld | None | the worker has removed it from the index |
| any other | a hash | searches find this content: the newest, or an older one until the newest is live |
| any other | None | nothing answers; if it was added again, the index may hold what was withdrawn before |

The receipt of a withdrawal lists each place where the document's text may be. Stores are asked what they
still hold. Places that cannot be asked (backups, copies that AWS keeps, what people sent) are named with the
setting or the rule that decides how long a text stays there. ``receipt_places.toml`` has the places and their
words.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any

import structlog
from opentelemetry import trace

from assistant.documents.readable import PAGE, ReadableDocuments, pages_of
from assistant.documents.sources import FirstLoads, KnowledgeSource, Writer
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import (
    DOCUMENT_SUBJECT,
    DocumentState,
    DocumentStatus,
    ReceiptPlace,
    ReceiptSignature,
    WithdrawalReceipt,
    signed_text,
)
from assistant.domain.errors import ConflictError, ContentsChangedError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.option import installed, joined
from assistant.stores.documents import KnowledgeStores, StoredDocuments
from assistant.stores.events import StoredErasureKeys
from assistant.stores.ports import AccessRecords, IndexVersions, PassageIndex, WriteTurn
from assistant.stores.store import Stores
from assistant.tenant.deployment import RECOVERY_DAYS, RETENTION, SNAPSHOT_DAYS
from assistant.tenant.tenant import TenantConfig
from assistant.text.caches import FORGET_EVERY_S

LABELS_NARROWED = "labels_narrowed"
"""Failure code of a document that fewer readers may see than before."""
RELEASE_NEEDED = "release_needed"
"""Failure code of a document that waits for a second person's release."""
_NOTHING_LIVE = {"live_content_hash": None, "passage_count": 0, "token_count": 0}
"""The fields of a status whose document the worker removed from the index. ``live_labels`` stay: who decides
on what comes in its place needs one of them."""
_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)


@dataclass(frozen=True, slots=True)
class WithdrawSummary:
    """The result of a withdrawal; both lists have the ids in the order of the request."""

    withdrawn: tuple[str, ...]
    unknown: tuple[str, ...]
    """Ids that no document ever had."""


class WithdrawDocuments:
    """The use case behind ``DELETE /v1/documents/{id}`` and ``assistant knowledge withdraw``.

    On return the states are withdrawn, and no text is left in the document store. Searches no longer find the
    passages when the worker has removed them: within two seconds while it runs, else as soon as it starts.
    The worker polls the queue of withdrawals every fifth of a second at least, and waits for at most one
    write of the index. A status without ``live_content_hash`` shows that the removal is done.

    All documents of a source are withdrawn in two calls: ``contents_of``, which a person confirms, then
    ``all_of``.
    """

    def __init__(self, stores: KnowledgeStores, *, clock: Clock) -> None:
        self._stores = stores
        self._clock = clock

    async def __call__(self, document_ids: Sequence[str]) -> WithdrawSummary:
        """Withdraw the documents. A document that is withdrawn already is no error."""
        wanted = list(dict.fromkeys(document_ids))
        with _tracer.start_as_current_span("knowledge.withdraw") as span:
            known = await self._stores.states.get_many(wanted)
            update = {"updated_at": self._clock.now(), "failure_code": None, "failure_reason": None}
            statuses = [_hidden(status, DocumentState.WITHDRAWN, update) for status in known.values()]
            await self._stores.states.put_many(statuses)
            for document_id in known:
                await self._stores.documents.delete(document_id)
            await self._stores.withdrawals.send_many(list(known))
            span.set_attribute("knowledge.withdrawn", len(known))
        unknown = tuple(document_id for document_id in wanted if document_id not in known)
        return WithdrawSummary(tuple(document_id for document_id in wanted if document_id in known), unknown)

    async def contents_of(self, source: KnowledgeSource, *, labels: frozenset[str]) -> Mapping[str, str]:
        """Return id = content hash of every document of a source that an owner with these labels may know of.

        Withdrawn documents are included, so that the contents that a person confirmed stay the same when an
        interrupted withdrawal is repeated.
        """
        readable = ReadableDocuments(self._stores.documents, states=self._stores.states)
        return {
            status.document_id: status.content_hash
            for ids in source.id_ranges
            async for page in pages_of(self._stores.states, ids=ids)
            for status in page
            if await readable.may_decide_on(status, labels=labels)
        }

    async def not_withdrawn(self, contents: Mapping[str, str]) -> frozenset[str]:
        """Return the ids of the documents that still have these contents, and are not withdrawn."""
        ids = list(contents)
        return frozenset(
            [
                status.document_id
                for start in range(0, len(ids), PAGE)
                for status in (await self._stores.states.get_many(ids[start : start + PAGE])).values()
                if status.state is not DocumentState.WITHDRAWN
                and status.content_hash == contents[status.document_id]
            ]
        )

    async def all_of(self, contents: Mapping[str, str]) -> int:
        """Withdraw the documents that still have these contents; return how many were withdrawn now. A
        repeated call continues where an interrupted one ended."""
        remaining = sorted(await self.not_withdrawn(contents))
        for start in range(0, len(remaining), PAGE):
            await self(remaining[start : start + PAGE])
        return len(remaining)


def _hidden(
    status: DocumentStatus, state: DocumentState, update: Mapping[str, object], *, is_removed: bool = False
) -> DocumentStatus:
    """Return the status as withdrawn or withheld (``state``), with the fields of ``update``.

    ``live_content_hash`` says that the removal is due, unless the index has nothing of it (``is_removed``).
    """
    # Due also without live content: the worker may be making the newest content live at this moment.
    due = None if is_removed else status.live_content_hash or status.content_hash
    return status.model_copy(update={"state": state, "live_content_hash": due, **update})


@dataclass(frozen=True, slots=True)
class Withheld:
    """A document to withhold, with the reason that its owner reads in its status."""

    status: DocumentStatus
    code: str
    """``LABELS_NARROWED``, ``RELEASE_NEEDED``, or the code of the refused file's error."""
    reason: str


async def withhold(
    documents: Iterable[Withheld], *, stores: KnowledgeStores, clock: Clock
) -> list[DocumentStatus]:
    """Withhold the documents and return their new statuses. Withdrawn documents are skipped.

    On return nobody can read them, and the worker removes them from the index within two seconds. Their text
    stays in the document store.
    """
    now = clock.now()
    statuses = [
        _withheld_status(document, now)
        for document in documents
        if document.status.state is not DocumentState.WITHDRAWN
    ]
    if not statuses:
        return []
    await stores.states.put_many(statuses)
    to_remove = [status.document_id for status in statuses if status.live_content_hash is not None]
    if to_remove:
        await stores.withdrawals.send_many(to_remove)
    for status in statuses:
        _log.warning("document_withheld", document_id=status.document_id, code=status.failure_code)
    return statuses


def _withheld_status(withheld: Withheld, now: datetime) -> DocumentStatus:
    """Return the new status of a document that is withheld."""
    status = withheld.status
    # The new time invalidates what the worker has begun with the content that it received before.
    update: dict[str, object] = {"received_at": now, "updated_at": now}
    update |= {"failure_code": withheld.code, "failure_reason": withheld.reason}
    is_removed = status.state is DocumentState.WITHHELD and status.live_content_hash is None
    return _hidden(status, DocumentState.WITHHELD, update, is_removed=is_removed)


# Releases


@dataclass(frozen=True, slots=True)
class ReleaseSummary:
    """The result of a release."""

    released: tuple[str, ...]
    """Ids of the documents that the worker indexes now."""
    waiting: tuple[str, ...]
    """Ids that still wait, because the releasing person brought these documents: another person must release
    them."""


class ReleaseDocuments:
    """The use case behind ``POST /v1/documents/release``.

    A released document answers as soon as the worker has indexed it. A release is recorded before it takes
    effect.
    """

    def __init__(self, stores: KnowledgeStores, *, clock: Clock, accesses: AccessRecords) -> None:
        self._stores = stores
        self._clock = clock
        self._accesses = accesses
        self._readable = ReadableDocuments(stores.documents, states=stores.states)

    async def __call__(
        self, source: KnowledgeSource, *, by: Writer, contents: Mapping[str, str]
    ) -> ReleaseSummary:
        """Release documents of a source. ``contents``: id = content hash of each document, as the person
        ``by`` saw it.

        Raises NotFoundError for a document that the person may not know of, ContentsChangedError for one that
        has another content now, or no longer waits. Then nothing is released.
        """
        known = await self._stores.states.get_many([*contents])
        changed: list[str] = []
        for document_id, content_hash in contents.items():
            status = known.get(document_id)
            if status is None or not await self._readable.may_decide_on(status, labels=by.labels):
                raise NotFoundError(f"There is no document {document_id} of {source.name}.")
            if (status.failure_code, status.content_hash) != (RELEASE_NEEDED, content_hash):
                changed.append(document_id)
        if changed:
            raise ContentsChangedError(
                f"{changed[0]} has another content now, or waits no more ({len(changed)} of {len(contents)} "
                "documents). Nothing is released. Read what waits, and decide again."
            )
        waiting = tuple(name for name, status in known.items() if status.brought_by == by.name)
        others = [status for status in known.values() if status.brought_by != by.name]
        return ReleaseSummary(tuple(await self._release(source, others, by)), waiting)

    async def _release(
        self, source: KnowledgeSource, statuses: Sequence[DocumentStatus], by: Writer
    ) -> Sequence[str]:
        """Record the release, mark the documents as received and enqueue them; return the ids of those still
        waiting when their state was written, which ``advance_many`` tells."""
        if not statuses:
            return ()
        now = self._clock.now()
        entry = AccessEntry(
            at=now,
            agent=by.name,
            kind="release",
            subject_id=source.name,
            documents=tuple(status.document_id for status in statuses),
            contents=tuple(status.content_hash for status in statuses),
        )
        await self._accesses.record_access(entry)
        is_first = await FirstLoads(self._stores.states).is_first(source)
        update: dict[str, object] = {
            "state": DocumentState.RECEIVED,
            "updated_at": now,
            "first_load": is_first,
        }
        update |= dict.fromkeys(
            ("brought_by", "failure_code", "failure_reason", "live_content_hash", "live_labels")
        )
        written = await self._stores.states.advance_many(
            [status.model_copy(update=update) for status in statuses]
        )
        await self._stores.queue.send_many(sorted(written))
        return sorted(written)


# What the worker does


async def remove_documents(
    document_ids: Sequence[str],
    *,
    stores: KnowledgeStores,
    index: PassageIndex,
    index_writes: WriteTurn,
    clock: Clock,
    keys: StoredErasureKeys | None = None,
) -> None:
    """Remove documents from the index that are withdrawn or withheld, or were so before they were added
    again.

    Withdrawn documents are deleted from the document store too, and their key in ``keys`` is destroyed: then
    their texts in feedback are unreadable, and their signals are left out. Ids without a status are skipped.
    The call may be repeated; it holds ``index_writes``.
    """
    with _tracer.start_as_current_span("ingest.remove") as span:
        span.set_attribute("ingest.documents", len(document_ids))
        async with index_writes:
            known = (await stores.states.get_many(document_ids)).values()
            withdrawn = [status for status in known if status.state == DocumentState.WITHDRAWN]
            withheld = [status for status in known if status.state == DocumentState.WITHHELD]
            removed = [*withdrawn, *withheld]
            # Added again and not live yet: the index may still hold the former content. A document that is
            # live again is left alone: to make it live, the worker replaced the former content.
            added_again = [s for s in known if s not in removed and s.live_content_hash is None]
            await index.delete_documents([status.document_id for status in (*removed, *added_again)])
            for status in withdrawn:
                # A second time: the worker may have stored parsed text after the withdrawal deleted it.
                await stores.documents.delete(status.document_id)
                if keys is not None:
                    await keys.destroy(f"{DOCUMENT_SUBJECT}{status.document_id}")
            # The new time is the receipt's ``withdrawn_at``: its periods count from the end of the removal.
            update = _NOTHING_LIVE | {"updated_at": clock.now()}
            await stores.states.advance_many([status.model_copy(update=update) for status in removed])
        _log.info("documents_removed", documents=len(removed))


async def resume_withdrawals(stores: KnowledgeStores) -> int:
    """Enqueue each withdrawn or withheld document whose removal from the index is not confirmed. Return their
    number."""
    resumed = 0
    async for page in pages_of(stores.states, (DocumentState.WITHDRAWN, DocumentState.WITHHELD)):
        unfinished = [status.document_id for status in page if status.live_content_hash is not None]
        if unfinished:
            await stores.withdrawals.send_many(unfinished)
            resumed += len(unfinished)
    if resumed:
        _log.warning("withdrawals_resumed", documents=resumed)
    return resumed


# Receipts

# By the names that ``after`` in receipt_places.toml has: how long a text stays on one machine
_PERIODS = {
    "memory": timedelta(seconds=FORGET_EVERY_S),
    "snapshots": timedelta(days=SNAPSHOT_DAYS),
    "recovery": timedelta(days=RECOVERY_DAYS),
}
_MIDNIGHT = 1
"""Days that AWS may take longer: S3 counts an age from the next midnight. AWS Backup deletes a recovery point
within eight hours after its end, and a copy that ran at the withdrawal had begun at most eight hours
before."""


class _Place(PublicModel):
    """A place as ``receipt_places.toml`` describes it."""

    place: str
    title: str
    what: str
    rule: str
    by_worker: bool = False
    """Whether the worker removes the texts: the place is pending until the worker has done so, even if it is
    empty."""
    when: str = "always"
    """The condition of the place: a word that ``_unasked_places`` adds to ``holds``, or an option's
    ``KeptTexts.holds``. A place whose word nothing adds is in no receipt."""
    after: tuple[str, ...] = ()
    """Keys of ``_PERIODS``, or of ``Retention`` on AWS: the text stays for their sum; () means until it is
    deleted."""

    def filled(self, facts: Mapping[str, object], **outcome: Any) -> ReceiptPlace:
        """Return the place for a receipt: "{older}" in its words is replaced by ``facts["older"]``;
        ``outcome`` has the other fields of ``ReceiptPlace``."""
        words = {name: getattr(self, name).format_map(facts) for name in ("title", "what", "rule")}
        return ReceiptPlace(place=self.place, **words, **outcome)


class _Places(PublicModel):
    asked: tuple[_Place, ...] = ()
    """Places whose store is asked what it holds."""
    remains: tuple[_Place, ...] = ()
    """Places that cannot be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTexts:
    """What an option keeps of documents' texts, beside the stores that ``WithdrawalReceipts`` asks itself.
    None: the option does not need that function. ``counts`` and ``remove`` get one tenant's stores and a
    document's id."""

    counts: Callable[[Stores, str], Awaitable[Mapping[str, int]]] | None = None
    """Returns how many texts of a document are left, by ``place`` of the option's receipt_places.toml."""
    remove: Callable[[Stores, str], Awaitable[int]] | None = None
    """Removes the texts of a withdrawn document at once and returns their number, for ``knowledge withdraw``;
    None: the worker removes them."""
    holds: Callable[[TenantConfig], Collection[str]] | None = None
    """Returns the conditions ``when`` of its places that hold for a tenant."""


@cache
def _places() -> _Places:
    """Return the places of receipt_places.toml in this folder, then of those in the folders of options."""
    packages = ("assistant.documents", *(option.package for option in installed()))
    paths = (files(package).joinpath("receipt_places.toml") for package in packages)
    texts = [file.read_text("utf-8") for file in paths if file.is_file()]
    lists = [_Places.model_validate(tomllib.loads(text)) for text in texts]
    return _Places(
        asked=tuple(place for places in lists for place in places.asked),
        remains=tuple(place for places in lists for place in places.remains),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalReceipts:
    """Makes receipts of one tenant's withdrawn documents."""

    tenant: TenantConfig
    documents: StoredDocuments
    versions: IndexVersions
    stores: Stores
    on_aws: bool
    clock: Clock
    sign: Callable[[bytes], Awaitable[ReceiptSignature]] | None = None
    """Signs a text by the deployment's key; None on a machine of one's own."""

    async def of(self, status: DocumentStatus) -> WithdrawalReceipt:
        """Return the receipt as the stores are now.

        Raises ConflictError for a document that is not withdrawn, DependencyError.
        """
        if status.state is not DocumentState.WITHDRAWN:
            raise ConflictError(
                f"The document {status.document_id} is {status.state}; a receipt is made of a withdrawn one."
            )
        places = [*await self._asked_places(status), *self._unasked_places(status.updated_at)]
        receipt = WithdrawalReceipt(
            document_id=status.document_id,
            title=status.title,
            withdrawn_at=status.updated_at,  # see ``WithdrawalReceipt``: the worker's removal moves it
            made_at=self.clock.now(),
            is_complete=all(place.state != "pending" for place in places),
            places=tuple(places),
        )
        if self.sign is None:
            return receipt
        signature = await self.sign(signed_text(receipt.model_dump(mode="json")))
        return receipt.model_copy(update={"signature": signature})

    async def _asked_places(self, status: DocumentStatus) -> list[ReceiptPlace]:
        """Return the places whose stores are asked, each pending or removed. Pending: the store still counts
        a text, or the worker removes the place's texts (``by_worker``) and has not done so yet."""
        document_id, worker_is_due = status.document_id, status.live_content_hash is not None
        rows_by_version = await self.versions.rows_of(document_id)
        live_rows, *older_rows = rows_by_version.values()  # the live version is first
        # By ``place`` of receipt_places.toml. A place without a count here never holds a text.
        counts = {
            "document": await self.documents.holdings(document_id),
            "index": live_rows,
            "older_indices": sum(older_rows),
            "vectors": sum(rows_by_version.values()),
        }
        for kept in joined(lambda option: option.kept_texts()):
            if kept.counts is not None:
                counts |= await kept.counts(self.stores, document_id)
        facts, places = {"older": len(older_rows)}, list[ReceiptPlace]()
        for place in _places().asked:
            count = counts.get(place.place)
            is_pending = bool(count) or (worker_is_due and place.by_worker)
            places.append(place.filled(facts, state="pending" if is_pending else "removed", found=count))
        return places

    def _unasked_places(self, withdrawn_at: datetime) -> list[ReceiptPlace]:
        """Return the places that cannot be asked and whose condition ``when`` holds, with the time until a
        text stays.

        Three names here are used by receipt_places.toml, and must match it: ``holds`` has the words of
        ``when``, ``facts`` the values for the braces in the texts, ``periods`` the lengths of time of
        ``after``. Of a deployment, ``facts`` and ``periods`` have each field of ``Retention``. Example: with
        "backup" in ``holds``, the place "recovery_points" (``after = ["backup"]``) stays 35 days and one
        (``_MIDNIGHT``) after ``withdrawn_at``.
        """
        deployed, vectors = self.tenant.records.deployed, self.tenant.embedding.vectors
        holds, periods = {"always"}, _PERIODS
        facts = dict[str, object]()
        if vectors is not None:
            holds.add("kept_vectors")
            facts["kept_vectors"] = vectors
        if deployed is None:
            holds.add("undeclared" if self.on_aws else "local")
        else:
            captured = "texts" if deployed.capture_texts == "redacted" else deployed.capture
            # "capture_texts", "capture_quarantine", "capture_direct" or "capture_off"
            holds |= {"deployed", f"capture_{captured}", *(["training"] if deployed.training else [])}
            days = asdict(RETENTION[deployed.profile])
            holds |= {"backup"} if days["backup"] else set()
            holds |= {"recovery_copies"} if deployed.recovery_copies else set()
            facts |= {"profile": deployed.profile, "recovery_copies": deployed.recovery_copies, **days}
            periods = _PERIODS | {name: timedelta(days=days[name] + _MIDNIGHT) for name in days}
        for kept in joined(lambda option: option.kept_texts()):
            holds |= set() if kept.holds is None else set(kept.holds(self.tenant))
        places: list[ReceiptPlace] = []
        for place in _places().remains:
            if place.when not in holds:
                continue
            kept_for = sum((periods[name] for name in place.after), timedelta())
            until = withdrawn_at + kept_for if kept_for else None
            places.append(place.filled(facts, state="remains", until=until))
        return places
