"""The receipt of a withdrawal: each place where a document's text may be, looked at after the removal.

Stores are asked what they still hold. What no store can be asked for (backups, copies that AWS keeps, what
people sent) is named with the setting or the rule that decides how long it stays. ``receipt_places.toml`` has
the places and their words.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from assistant.domain.clock import Clock
from assistant.domain.documents import (
    DocumentState,
    DocumentStatus,
    ReceiptPlace,
    ReceiptSignature,
    WithdrawalReceipt,
    signed_text,
)
from assistant.domain.errors import ConflictError
from assistant.domain.public import PublicModel
from assistant.option import Place
from assistant.stores.documents import StoredDocuments
from assistant.stores.ports import IndexVersions
from assistant.tenant.deployment import RECOVERY_DAYS, RETENTION, SNAPSHOT_DAYS
from assistant.tenant.tenant import TenantConfig
from assistant.text.caches import FORGET_EVERY_S

_PERIODS = {
    "memory": timedelta(seconds=FORGET_EVERY_S),
    "snapshots": timedelta(days=SNAPSHOT_DAYS),
    "recovery": timedelta(days=RECOVERY_DAYS),
    "local_capture": timedelta(days=RETENTION["dev"].capture_texts),
}
_MIDNIGHT = 1
"""Days more: S3 counts an age from the midnight after. AWS Backup deletes within eight hours after a point's
end, and a copy that ran when the document was withdrawn began at most eight hours before."""


class _Place(PublicModel):
    """A place as ``receipt_places.toml`` describes it."""

    place: str
    title: str
    what: str
    rule: str
    by_worker: bool = False
    """Whether the worker removes what is there: its store may be empty before the worker came to it."""
    when: str = "always"
    after: tuple[str, ...] = ()

    def told(self, facts: Mapping[str, object], **found: Any) -> ReceiptPlace:
        """Return it with its words filled in, and what was found."""
        words = {name: getattr(self, name).format_map(facts) for name in ("title", "what", "rule")}
        return ReceiptPlace(place=self.place, **words, **found)


class _Places(PublicModel):
    asked: tuple[_Place, ...] = ()
    remains: tuple[_Place, ...] = ()


class Stores(Protocol):
    """One tenant's stores, by the ports of ``assistant.stores.opened``."""

    async def of(self, port: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTexts:
    """What an option keeps of documents' texts."""

    places: Path
    """As ``receipt_places.toml``."""
    counts: Callable[[Stores, str], Awaitable[Mapping[str, int]]] | None = None
    """Returns what is left about a document, by place."""
    remove: Callable[[Stores, str], Awaitable[int]] | None = None
    """Removes what is left about a withdrawn document; None where the worker does."""
    holds: Callable[[TenantConfig], Collection[str]] | None = None
    """Returns which further ``when`` of the places hold for a tenant."""


KEPT_TEXTS = Place[KeptTexts]("texts of documents")


@cache
def _places() -> _Places:
    files = [Path(__file__).with_name("receipt_places.toml"), *(kept.places for kept in KEPT_TEXTS.joined())]
    each = [_Places.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))) for file in files]
    return _Places(
        asked=tuple(place for places in each for place in places.asked),
        remains=tuple(place for places in each for place in places.remains),
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
        places = [*await self._asked(status), *self._remaining(status.updated_at)]
        receipt = WithdrawalReceipt(
            document_id=status.document_id,
            title=status.title,
            withdrawn_at=status.updated_at,
            made_at=self.clock.now(),
            is_complete=all(place.state != "pending" for place in places),
            places=tuple(places),
        )
        if self.sign is None:
            return receipt
        signature = await self.sign(signed_text(receipt.model_dump(mode="json")))
        return receipt.model_copy(update={"signature": signature})

    async def _asked(self, status: DocumentStatus) -> list[ReceiptPlace]:
        """Return the places whose stores are asked."""
        document_id, worker_is_due = status.document_id, status.live_content_hash is not None
        live, *older = (await self.versions.rows_of(document_id)).values()
        counts = {
            "document": await self.documents.holdings(document_id),
            "index": live,
            "older_indices": sum(older),
            "vectors": live + sum(older),
        }
        for kept in KEPT_TEXTS.joined():
            if kept.counts is not None:
                counts |= await kept.counts(self.stores, document_id)
        facts, places = {"older": len(older)}, list[ReceiptPlace]()
        for place in _places().asked:
            found = counts.get(place.place)
            is_pending = bool(found) or (worker_is_due and place.by_worker)
            places.append(place.told(facts, state="pending" if is_pending else "removed", found=found))
        return places

    def _remaining(self, withdrawn_at: datetime) -> list[ReceiptPlace]:
        """Return the places whose stores are not asked, by the settings of tenant and deployment."""
        deployed, vectors = self.tenant.records.deployed, self.tenant.embedding.vectors
        here, periods = {"always"}, _PERIODS
        facts: dict[str, object] = {"local_capture": _PERIODS["local_capture"].days}
        if vectors is not None:
            here.add("kept_vectors")
            facts["kept_vectors"] = vectors
        if deployed is None:
            here.add("undeclared" if self.on_aws else "local")
        else:
            captured = "texts" if deployed.capture_texts == "redacted" else deployed.capture
            here |= {"deployed", f"capture_{captured}", *(["training"] if deployed.training else [])}
            days = asdict(RETENTION[deployed.profile])
            here |= {"backup"} if days["backup"] else set()
            facts |= {"profile": deployed.profile, **days}
            periods = _PERIODS | {name: timedelta(days=days[name] + _MIDNIGHT) for name in days}
        for kept in KEPT_TEXTS.joined():
            here |= set() if kept.holds is None else set(kept.holds(self.tenant))
        places: list[ReceiptPlace] = []
        for place in (one for one in _places().remains if one.when in here):
            kept_for = sum((periods[name] for name in place.after), timedelta())
            until = withdrawn_at + kept_for if kept_for else None
            places.append(place.told(facts, state="remains", until=until))
        return places
