"""What the review desk and learned routers changed, loaded by each process that serves, without a restart.

``Adaptations.now`` is an immutable snapshot: approved answers, the glossary's live entries and the released
router. A task reads the desk's version every two seconds and loads what changed. While the desk's
store is away, the last snapshot serves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from pydantic import ValidationError

from assistant.answer.rank import CosineScale
from assistant.answer.route import Router, read_router
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.answers import APPROVED_PREFIX, source_kind
from assistant.domain.clock import Clock, Deadline
from assistant.domain.desk import GlossaryEntry, ItemState
from assistant.domain.documents import ParsedDocument
from assistant.domain.errors import AssistantError, ConfigurationError, RecordsUnavailableError
from assistant.domain.public import PublicModel
from assistant.domain.revisions import DeskItem, DeskKind, ReleaseState, RouterRelease
from assistant.options.desk.approved import ApprovedAnswers, LiveAnswer, approved_hash
from assistant.options.desk.domain import ApprovedAnswer
from assistant.stores.ports import DocumentTexts, LiveDesk, TextEmbedder
from assistant.tenant.tenant import TenantConfig

POLL_EVERY_S = 2.0
_POLL_LIMIT_S = 1.5
_LOAD_LIMIT_S = 20.0
_LONGEST_PAUSE_S = 15.0
"""Between polls while the store is away."""
_log = structlog.get_logger(__name__)
Body = TypeVar("Body", bound=PublicModel)


# Released routers


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


# Snapshots


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What changes the next answer."""

    vocabulary: Vocabulary
    """The tenant file's glossary with the desk's live entries."""
    approved: ApprovedAnswers | None = None
    """None where no approved answer is live."""
    router: Router | None = None
    """The released router of sources; None where none may serve."""
    version: int = 0
    """Of the desk, when it was loaded."""


class Adaptations:
    """One tenant's snapshot, and the task that keeps it current. For one event loop."""

    def __init__(
        self, tenant: TenantConfig, *, desk: LiveDesk | None, embedder: TextEmbedder, clock: Clock
    ) -> None:
        """``desk`` None: nothing is ever loaded."""
        self._tenant = tenant
        self._desk = desk
        self._embedder = embedder
        self._clock = clock
        self._scale = CosineScale.of(tenant.embedding)
        self._answers: tuple[LiveAnswer, ...] = ()
        """Those of the snapshot, by revision: only what changed is parsed and embedded."""
        self._glossary: Mapping[str, str] = {}
        self._is_away = False
        self.now = Snapshot(Vocabulary.of(tenant))

    def matcher_of(self, answers: Iterable[LiveAnswer]) -> ApprovedAnswers:
        """Return a matcher of these answers alone, which judges as serving does now."""
        return ApprovedAnswers.of(answers, language=self.now.vocabulary.language, scale=self._scale)

    async def run(self) -> None:
        """Refresh every two seconds until cancelled; pauses grow while the store is away."""
        pause_s = POLL_EVERY_S
        while True:
            is_current = await self.refresh()
            pause_s = POLL_EVERY_S if is_current else min(2 * pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def refresh(self) -> bool:
        """Load what changed; return whether the snapshot is the desk's current state. Raises nothing."""
        if self._desk is None:
            return True
        try:
            async with asyncio.timeout(_POLL_LIMIT_S):
                version = await self._desk.version()
            if version != self.now.version:
                async with asyncio.timeout(_LOAD_LIMIT_S):
                    self.now = await self._load(self._desk, version)
        except (AssistantError, TimeoutError) as error:
            if not self._is_away:
                _log.warning("desk_unavailable", tenant=self._tenant.name, error=type(error).__name__)
            self._is_away = True
            return False
        if self._is_away:
            _log.info("desk_available", tenant=self._tenant.name)
            self._is_away = False
        return True

    async def _load(self, desk: LiveDesk, version: int) -> Snapshot:
        items, entries, routers = await asyncio.gather(
            desk.list(DeskKind.APPROVED_ANSWER),
            desk.list(DeskKind.GLOSSARY_ENTRY),
            desk.list(DeskKind.ROUTER_RELEASE),
        )
        answers = await self._live_answers(items)
        glossary = {
            body.said: body.means
            for _, body in reversed(_parsed(entries, GlossaryEntry))
            if body.state is ItemState.LIVE
        }
        vocabulary, approved = self.now.vocabulary, self.now.approved
        if glossary != self._glossary:
            vocabulary = Vocabulary.of(self._tenant, more=glossary)
        if answers != self._answers:
            approved = await asyncio.to_thread(self.matcher_of, answers) if answers else None
        router = read_released_router(routers, tenant=self._tenant)
        snapshot = Snapshot(vocabulary, approved, router, version=version)
        self._answers, self._glossary = answers, glossary
        _log.info(
            "desk_loaded",
            tenant=self._tenant.name,
            version=version,
            approved_answers=len(answers),
            glossary_entries=len(glossary),
        )
        return snapshot

    async def _live_answers(self, items: Sequence[DeskItem]) -> tuple[LiveAnswer, ...]:
        """Return the live answers with vectors of the model that embeds what is asked."""
        known = {(answer.item_id, answer.revision): answer for answer in self._answers}
        changed = [item for item in items if (item.item_id, item.revision) not in known]
        # Thousands of vectors are parsed in a thread: the loop goes on answering.
        for item, body in await asyncio.to_thread(_parsed, changed, ApprovedAnswer):
            if body.state is ItemState.LIVE:
                answer = await self._with_vectors(body)
                known[item.item_id, item.revision] = LiveAnswer(item.item_id, item.revision, item.at, answer)
        keys = ((item.item_id, item.revision) for item in items)
        return tuple(known[key] for key in keys if key in known)

    async def _with_vectors(self, answer: ApprovedAnswer) -> ApprovedAnswer:
        """Return an answer with vectors of its questions by this tenant's model; there are 20 at most."""
        model, dimensions = self._tenant.embedding.model, self._tenant.embedding.dimensions
        is_whole = len(answer.vectors) == len(answer.questions)
        if answer.embedding_model == model and is_whole and {*map(len, answer.vectors)} <= {dimensions}:
            return answer
        deadline = Deadline.after(_LOAD_LIMIT_S, clock=self._clock)
        vectors = tuple(map(tuple, await self._embedder.embed(answer.questions, deadline=deadline)))
        return answer.model_copy(update={"vectors": vectors, "embedding_model": model})


def _parsed(items: Iterable[DeskItem], kind: type[Body]) -> list[tuple[DeskItem, Body]]:
    """Return the items with their bodies. An item that this release cannot read is logged and left out."""
    entries: list[tuple[DeskItem, Body]] = []
    for item in items:
        try:
            entries.append((item, kind.model_validate_json(item.body)))
        except ValidationError:
            _log.error("desk_item_unreadable", kind=item.kind.value, item_id=item.item_id)
    return entries


# Texts of approved answers


class TextsWithApproved:
    """``DocumentTexts`` of documents and approved answers alike.

    Records keep an approved answer's text by its place, as a document's. A withdrawn one is gone from them,
    and so is one whose source its reader may not read any more (docs/decisions/0046).
    """

    def __init__(self, documents: DocumentTexts, *, desk: LiveDesk) -> None:
        self._documents = documents
        self._desk = desk

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        if source_kind(document_id) == "document":
            return await self._documents.is_readable(document_id, labels=labels)
        return bool(await self._revisions(document_id, labels=labels))

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        if source_kind(document_id) == "document":
            return await self._documents.read(document_id, content_hash, labels=labels)
        for answer in await self._revisions(document_id, labels=labels):
            if approved_hash(answer.text) == content_hash:
                return ParsedDocument(answer.text, ())
        return None

    async def _revisions(self, document_id: str, *, labels: frozenset[str]) -> list[ApprovedAnswer]:
        """Return an approved answer's revisions; none where the newest one may not be read."""
        item_id = document_id.removeprefix(APPROVED_PREFIX)
        items = await self._desk.history(DeskKind.APPROVED_ANSWER, item_id)
        try:
            answers = [ApprovedAnswer.model_validate_json(item.body) for item in items]
        except ValidationError:
            raise RecordsUnavailableError(
                f"The desk's item {item_id} is of another release. Update this process."
            ) from None
        newest = answers[-1] if answers else None
        if newest is None or newest.state is ItemState.WITHDRAWN or not labels.issuperset(newest.labels):
            return []
        for source in newest.sources:
            if not await self._documents.is_readable(source.document_id, labels=labels):
                return []
        return answers
