"""What the review desk and the learners changed, loaded by each process that serves, without a restart.

``Adaptations.now`` is an immutable snapshot: approved answers, the glossary's live entries and the released
ranker weights. A task reads the desk's version every two seconds and loads what changed. While the desk's
store is away, the last snapshot serves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog
from pydantic import ValidationError

from assistant.answering.approved import ApprovedAnswers, LiveAnswer
from assistant.answering.ports import DocumentTexts, LiveDesk, TextEmbedder
from assistant.answering.rank import CosineScale
from assistant.answering.releases import NO_RELEASES, Releases, read_released_router, read_releases
from assistant.answering.routing import Router
from assistant.answering.vocabulary import Vocabulary
from assistant.domain.answers import APPROVED_PREFIX, source_kind
from assistant.domain.clock import Clock, Deadline
from assistant.domain.desk import ApprovedAnswer, DeskItem, DeskKind, GlossaryEntry, ItemState
from assistant.domain.documents import ParsedDocument
from assistant.domain.errors import AssistantError, RecordsUnavailableError
from assistant.domain.public import PublicModel
from assistant.settings.tenant import TenantConfig

POLL_EVERY_S = 2.0
_POLL_LIMIT_S = 1.5
_LOAD_LIMIT_S = 20.0
_LONGEST_PAUSE_S = 15.0
"""Between polls while the store is away."""
_log = structlog.get_logger(__name__)
Body = TypeVar("Body", bound=PublicModel)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What changes the next answer."""

    vocabulary: Vocabulary
    """The tenant file's glossary with the desk's live entries."""
    approved: ApprovedAnswers | None = None
    """None where no approved answer is live."""
    releases: Releases = NO_RELEASES
    router: Router | None = None
    """The released router of sources; None where none may serve."""
    version: int = 0
    """Of the desk, when it was loaded."""


@dataclass(slots=True)
class _Loaded:
    """Parsed items of the last load by (id, revision), so that only what changed is parsed and embedded."""

    bodies: dict[tuple[DeskKind, str, int], PublicModel | None] = field(
        default_factory=dict[tuple[DeskKind, str, int], PublicModel | None]
    )
    answers: tuple[LiveAnswer, ...] = ()
    glossary: Mapping[str, str] = field(default_factory=dict[str, str])


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
        self._loaded = _Loaded()
        self._is_away = False
        self.now = Snapshot(Vocabulary.of(tenant))

    @property
    def refused_releases(self) -> int:
        """Number of live or trial releases that may not serve: each is an alarm."""
        return self.now.releases.refused

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
        before = self._loaded
        answers, entries, releases, routers = await asyncio.gather(
            desk.list(DeskKind.APPROVED_ANSWER),
            desk.list(DeskKind.GLOSSARY_ENTRY),
            desk.list(DeskKind.RANKER_RELEASE),
            desk.list(DeskKind.ROUTER_RELEASE),
        )
        loaded = _Loaded()
        # Thousands of vectors are parsed and read in a thread: the loop goes on answering.
        found = await asyncio.to_thread(_parsed, answers, ApprovedAnswer, before=before, into=loaded)
        live = [
            LiveAnswer(item.item_id, item.revision, item.at, body)
            for item, body in found
            if body.state is ItemState.LIVE
        ]
        loaded.answers = await self._with_vectors(live)
        loaded.glossary = {
            body.said: body.means
            for _, body in reversed(_parsed(entries, GlossaryEntry, before=before, into=loaded))
            if body.state is ItemState.LIVE
        }
        snapshot = await asyncio.to_thread(self._compiled, loaded, version, read_releases(releases))
        snapshot = replace(snapshot, router=read_released_router(routers, tenant=self._tenant))
        self._loaded = loaded
        _log.info(
            "desk_loaded",
            tenant=self._tenant.name,
            version=version,
            approved_answers=len(loaded.answers),
            glossary_entries=len(loaded.glossary),
        )
        return snapshot

    def _compiled(self, loaded: _Loaded, version: int, releases: Releases) -> Snapshot:
        """Compile what changed; what did not is taken from the last snapshot."""
        now, before = self.now, self._loaded
        vocabulary, approved = now.vocabulary, now.approved
        if loaded.glossary != before.glossary:
            vocabulary = Vocabulary.of(self._tenant, more=loaded.glossary)
        if loaded.answers != before.answers:
            approved = self.matcher_of(loaded.answers) if loaded.answers else None
        return Snapshot(vocabulary, approved, releases, version=version)

    async def _with_vectors(self, live: Sequence[LiveAnswer]) -> tuple[LiveAnswer, ...]:
        """Return the answers with vectors of the model that embeds what is asked; others are made again."""
        embedding = self._tenant.embedding
        ready: list[LiveAnswer] = []
        kept = {(one.item_id, one.revision): one for one in self._loaded.answers}
        for one in live:
            if (one.item_id, one.revision) in kept:
                ready.append(kept[one.item_id, one.revision])
            elif _fits(one.answer, model=embedding.model, dimensions=embedding.dimensions):
                ready.append(one)
            else:
                ready.append(await self._embedded(one))
        return tuple(ready)

    async def _embedded(self, one: LiveAnswer) -> LiveAnswer:
        """Return an answer with new vectors of its questions; there are 20 at most."""
        deadline = Deadline.after(_LOAD_LIMIT_S, clock=self._clock)
        vectors = tuple(map(tuple, await self._embedder.embed(one.answer.questions, deadline=deadline)))
        update = {"vectors": vectors, "embedding_model": self._tenant.embedding.model}
        return replace(one, answer=one.answer.model_copy(update=update))


def _fits(answer: ApprovedAnswer, *, model: str, dimensions: int) -> bool:
    return (
        answer.embedding_model == model
        and len(answer.vectors) == len(answer.questions)
        and all(len(vector) == dimensions for vector in answer.vectors)
    )


def _parsed(
    items: Sequence[DeskItem], kind: type[Body], *, before: _Loaded, into: _Loaded
) -> list[tuple[DeskItem, Body]]:
    """Return the items with their bodies. An item that this release cannot read is logged and left out."""
    found: list[tuple[DeskItem, Body]] = []
    for item in items:
        key = (item.kind, item.item_id, item.revision)
        if key in before.bodies:
            body = before.bodies[key]
        else:
            try:
                body = kind.model_validate_json(item.body)
            except ValidationError:
                _log.error("desk_item_unreadable", kind=item.kind.value, item_id=item.item_id)
                body = None
        into.bodies[key] = body
        if isinstance(body, kind):
            found.append((item, body))
    return found


# Texts of approved answers


def approved_hash(text: str) -> str:
    """Return what names one text of an approved answer, as a content hash names a document's."""
    return hashlib.sha256(text.encode()).hexdigest()


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
