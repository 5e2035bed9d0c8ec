"""What people's decisions change of the next answer, loaded by each process that serves, without a restart.

``Adaptations.now`` is an immutable snapshot: the glossary's live entries and the released router. A task
reads the version of the revisions every two seconds, and lets each offer load what changed, too. While their
store is away, the last snapshot serves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from assistant.answer.offers import OFFERS, Named
from assistant.answer.route import Router, read_router
from assistant.answer.services import TenantServices
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.desk import (
    Body,
    DeskItem,
    DeskKind,
    GlossaryEntry,
    ItemState,
    ReleaseState,
    RouterRelease,
)
from assistant.domain.documents import KnownWords
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.stores.ports import LiveDesk
from assistant.tenant.tenant import TenantConfig

POLL_EVERY_S = 2.0
LOAD_LIMIT_S = 20.0
_POLL_LIMIT_S = 1.5
_LONGEST_PAUSE_S = 15.0
"""Between polls while the store is away."""
_log = structlog.get_logger(__name__)


def read_released_router(items: Iterable[DeskItem], *, tenant: TenantConfig) -> Router | None:
    """Return the live router; None where none is live, or where it may not serve, which is logged.

    It may not where its hash is not that of its file, or where it was fitted on other sources or another
    embedding model: then the words of the kinds decide.
    """
    for item in items:
        try:
            release = RouterRelease.model_validate_json(item.body)
            if release.state is ReleaseState.LIVE:
                return _checked_router(release, tenant)
        except (ValidationError, ConfigurationError) as error:
            reason = error.message if isinstance(error, ConfigurationError) else "not a release"
            _log.error("router_release_refused", item_id=item.item_id, reason=reason)
    return None


def _checked_router(release: RouterRelease, tenant: TenantConfig) -> Router:
    """Return a release's router. Raises ConfigurationError saying why it may not serve."""
    raw = release.router_json.encode()
    if hashlib.sha256(raw).hexdigest() != release.artifact_hash:
        raise ConfigurationError("artifact_hash is not the hash of router_json")
    router, embedding = read_router(raw), tenant.embedding
    names = [source.name for source in tenant.sources]
    if not router.fits(sources=names, embedding_model=embedding.model, dimensions=embedding.dimensions):
        raise ConfigurationError("it was fitted on other sources or another embedding model")
    return router


def readable_bodies(items: Iterable[DeskItem], kind: type[Body]) -> list[tuple[DeskItem, Body]]:
    """Return the items with their bodies. An item that this release cannot read is logged and left out."""
    entries: list[tuple[DeskItem, Body]] = []
    for item in items:
        try:
            entries.append((item, kind.model_validate_json(item.body)))
        except ValidationError:
            _log.error("desk_item_unreadable", kind=item.kind.value, item_id=item.item_id)
    return entries


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What changes the next answer."""

    vocabulary: Vocabulary
    """The tenant file's glossary with the live entries."""
    router: Router | None = None
    """The released router of sources; None where none may serve."""
    version: int = 0
    """Of the revisions, when they were loaded."""


class Adaptations:
    """One tenant's snapshot and offers, and the task that keeps them current. For one event loop."""

    def __init__(self, services: TenantServices) -> None:
        """Without a store of revisions nothing is ever loaded."""
        self._tenant, self._revisions = services.tenant, services.revisions
        self.offers = tuple(open_offer(services) for open_offer in OFFERS.joined())
        self._glossary: Mapping[str, str] = {}
        self._is_away = False
        self.now = Snapshot(Vocabulary.of(services.tenant))

    def named(self, text: str, *, known: KnownWords | None) -> Named | None:
        """Return what a text names, as the first offer says that knows any."""
        named = (offer.named(text, known=known) for offer in self.offers)
        return next((one for one in named if one is not None), None)

    def without_names(self, question: str, *, known: KnownWords | None) -> str:
        """Return a question as a router reads it: with "it" for each thing that it names."""
        named = self.named(question, known=known)
        return question if named is None else named.pronouns

    async def run(self) -> None:
        """Refresh every two seconds until cancelled; pauses grow while the store is away."""
        pause_s = POLL_EVERY_S
        while True:
            is_current = await self.refresh()
            pause_s = POLL_EVERY_S if is_current else min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def refresh(self) -> bool:
        """Load what changed; return whether the snapshot is the current state. Raises nothing."""
        if self._revisions is None:
            return True
        try:
            async with asyncio.timeout(_POLL_LIMIT_S):
                version = await self._revisions.version()
            if version != self.now.version:
                async with asyncio.timeout(LOAD_LIMIT_S):
                    self.now = await self._load(self._revisions, version)
        except (AssistantError, TimeoutError) as error:
            if not self._is_away:
                _log.warning("desk_unavailable", tenant=self._tenant.name, error=type(error).__name__)
            self._is_away = True
            return False
        if self._is_away:
            _log.info("desk_available", tenant=self._tenant.name)
            self._is_away = False
        return True

    async def _load(self, revisions: LiveDesk, version: int) -> Snapshot:
        entries, routers, _ = await asyncio.gather(
            revisions.list(DeskKind.GLOSSARY_ENTRY),
            revisions.list(DeskKind.ROUTER_RELEASE),
            asyncio.gather(*(offer.load(revisions) for offer in self.offers)),
        )
        glossary = {
            body.said: body.means
            for _, body in reversed(readable_bodies(entries, GlossaryEntry))
            if body.state is ItemState.LIVE
        }
        vocabulary = self.now.vocabulary
        if glossary != self._glossary:
            vocabulary = Vocabulary.of(self._tenant, more=glossary)
        self._glossary = glossary
        _log.info("desk_loaded", tenant=self._tenant.name, version=version, glossary_entries=len(glossary))
        return Snapshot(vocabulary, read_released_router(routers, tenant=self._tenant), version)
