"""Loads what people changed at the review desk, so that the next answer uses it without a restart.

``Adaptations.now`` is an immutable snapshot: the glossary's live entries and the released router. A task
(``Adaptations.run``) reads the desk's version number every two seconds; where it changed, the task loads a
new snapshot and lets each option's offer load its part. While the desk's store is unavailable, the last
snapshot serves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog
from pydantic import ValidationError

from assistant.answer.offers import Named
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
from assistant.option import joined
from assistant.stores.ports import LiveDesk
from assistant.tenant.tenant import TenantConfig

POLL_EVERY_S = 2.0
LOAD_LIMIT_S = 20.0
"""For loading all items, after a change."""
_POLL_LIMIT_S = 1.5
"""For reading the version number."""
_LONGEST_PAUSE_S = 15.0
"""Between polls while the store is unavailable."""
_log = structlog.get_logger(__name__)


def read_released_router(items: Iterable[DeskItem], *, tenant: TenantConfig) -> Router | None:
    """Return the router of the first live release in ``items``; None where none can serve.

    A release that cannot be read, whose ``artifact_hash`` differs, or that was fitted on other sources or
    another embedding model is logged and skipped. Without a router, ``route`` chooses by the kinds' words.
    """
    for item, release in readable_bodies(items, RouterRelease):
        try:
            if release.state is ReleaseState.LIVE:
                return _checked_router(release, tenant)
        except ConfigurationError as error:
            _log.error("router_release_refused", item_id=item.item_id, reason=error.message)
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
    """Return (item, its body as ``kind``) in order. An item whose body does not validate is logged and left
    out."""
    entries: list[tuple[DeskItem, Body]] = []
    for item in items:
        try:
            entries.append((item, kind.model_validate_json(item.body)))
        except ValidationError:
            _log.error("desk_item_unreadable", kind=item.kind.value, item_id=item.item_id)
    return entries


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the next answer uses of the review desk."""

    vocabulary: Vocabulary
    """The tenant file's glossary with the live entries."""
    router: Router | None = None
    """The released router of sources; None where none may serve."""
    version: int = 0
    """``LiveDesk.version`` read just before the load; 0: nothing was loaded yet."""


class Adaptations:
    """One tenant's snapshot and offers, and the task that keeps them current. For one event loop.

    Example::

        adaptations = Adaptations(services)  # the tenant file's glossary, no router
        await adaptations.refresh()  # True: the snapshot has what the desk has
        adaptations.now.vocabulary, adaptations.now.router
    """

    def __init__(self, services: TenantServices) -> None:
        """``services.revisions`` None: there is no desk, and nothing is ever loaded."""
        self._tenant, self._revisions = services.tenant, services.revisions
        self.offers = tuple(joined(lambda option: option.offer(services)))
        self._glossary: Mapping[str, str] = {}
        """The desk's live entries that ``now.vocabulary`` has: term to meaning."""
        self._is_away = False
        """Whether the last refresh failed; a change is logged once."""
        self.now = Snapshot(Vocabulary.of(services.tenant))

    def named(self, text: str, *, known: KnownWords | None) -> Named | None:
        """Return the things that a text names, by the first offer that recognises any; else None.

        ``known``: words of the index; None before it was read.
        """
        results = (offer.named(text, known=known) for offer in self.offers)
        return next((named for named in results if named is not None), None)

    def without_names(self, question: str, *, known: KnownWords | None) -> str:
        """Return a question as a router reads it, with "it" for each named thing: "Is it in stock?"."""
        named = self.named(question, known=known)
        return question if named is None else named.pronouns

    async def run(self) -> None:
        """Refresh every two seconds until cancelled; pauses double while the store is unavailable."""
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
        """Let the offers load, and return a snapshot; its vocabulary is made again only where the glossary
        changed. Of two entries for a term the latest changed one wins: the desk lists it first."""
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
