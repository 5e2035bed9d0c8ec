"""Learns a router of sources from a file of labelled questions, and releases it where it routes better than
the words of the kinds.

Releases are desk items ``router-000001``, ``router-000002``, …; each revision moves one. A router serves all
conversations from its release on: unlike ranker weights it is judged by labels, not by what agents do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from assistant.domain.clock import Clock
from assistant.domain.desk import DeskItem, DeskKind, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.evaluation.routing import RoutedQuestion
from assistant.learning.ports import DeskStore
from assistant.settings.tenant import TenantConfig
from assistant.tuning.routing import LabelledQuestion, RoutingReport, cross_validated, learn, router_bytes

_BY = "learner"
_BATCH = 32
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""Returns a unit-length vector for each text."""


@dataclass(frozen=True, slots=True)
class LearnedRouter:
    """A release as the desk has it; ``item`` is not stored after a dry run."""

    item: DeskItem
    content: RouterRelease

    @property
    def name(self) -> str:
        return self.item.item_id

    @property
    def report(self) -> RoutingReport:
        return RoutingReport.model_validate_json(self.content.report)


class LearnRouting:
    """Learns and moves the routers of one tenant."""

    def __init__(self, tenant: TenantConfig, *, desk: DeskStore, clock: Clock) -> None:
        self._tenant = tenant
        self._desk = desk
        self._clock = clock

    async def learn(
        self,
        labelled: Sequence[RoutedQuestion],
        *,
        file_sha256: str,
        embed: Embed,
        seed: int = 0,
        dry_run: bool = False,
    ) -> LearnedRouter:
        """Return the release: live, or refused with its report.

        Raises ConfigurationError for a tenant with one source and for questions that cannot be learned from,
        ConflictError where another learner releases at the same moment.
        """
        if len(self._tenant.sources) < 2:
            raise ConfigurationError(f"{self._tenant.name} has one source: there is nothing to route.")
        routed = [one for one in labelled if one.sources]
        vectors: list[list[float]] = []
        for at in range(0, len(routed), _BATCH):
            vectors += await embed([one.question for one in routed[at : at + _BATCH]])
        questions = [
            LabelledQuestion(one.question, tuple(vector), one.sources, one.group)
            for one, vector in zip(routed, vectors, strict=True)
        ]
        content = await asyncio.to_thread(self._release, questions, file_sha256, seed)
        known = await self.all()
        name = f"router-{1 + max((int(one.name.rpartition('-')[2]) for one in known), default=0):06d}"
        if dry_run:
            return LearnedRouter(self._item(name, 1, content, "dry run"), content)
        released = await self._write(name, 1, content, content_note(content))
        if content.state is ReleaseState.LIVE:
            for one in known:
                if one.content.state is ReleaseState.LIVE:
                    await self._move(one, ReleaseState.REPLACED, f"replaced by {name}")
        return released

    async def all(self) -> list[LearnedRouter]:
        """Return every release, newest first. Raises RecordsUnavailableError."""
        items = await self._desk.list(DeskKind.ROUTER_RELEASE)
        found = [LearnedRouter(item, RouterRelease.model_validate_json(item.body)) for item in items]
        return sorted(found, key=lambda one: one.name, reverse=True)

    async def roll_back(self) -> tuple[LearnedRouter, LearnedRouter | None]:
        """Take the live router back and bring the one before back. Return both; without one before, the words
        of the kinds serve. Raises NotFoundError where none is live."""
        known = await self.all()
        live = next((one for one in known if one.content.state is ReleaseState.LIVE), None)
        if live is None:
            raise NotFoundError("No learned router serves: the words of the kinds do.")
        taken = await self._move(live, ReleaseState.ROLLED_BACK, "rolled back")
        before = next((one for one in known if one.content.state is ReleaseState.REPLACED), None)
        if before is None:
            return taken, None
        return taken, await self._move(
            before, ReleaseState.LIVE, f"brought back: {live.name} was rolled back"
        )

    def _release(self, questions: Sequence[LabelledQuestion], file_hash: str, seed: int) -> RouterRelease:
        sources = self._tenant.sources
        report = cross_validated(questions, sources=sources, seed=seed)
        content = learn(
            questions,
            sources=[source.name for source in sources],
            embedding_model=self._tenant.embedding.model,
            fitted_on=f"{len(questions)} labelled questions of {self._tenant.name}, {file_hash[:16]}",
        )
        raw = router_bytes(content)
        return RouterRelease(
            artifact_hash=sha256(raw).hexdigest(),
            router_json=raw.decode(),
            state=ReleaseState.REFUSED if report.refused_because else ReleaseState.LIVE,
            questions=len(questions),
            questions_sha256=file_hash,
            seed=seed,
            report=report.model_dump_json(),
        )

    async def _move(self, release: LearnedRouter, state: ReleaseState, note: str) -> LearnedRouter:
        content = release.content.model_copy(update={"state": state})
        return await self._write(release.name, release.item.revision + 1, content, note)

    async def _write(self, name: str, revision: int, content: RouterRelease, note: str) -> LearnedRouter:
        item = self._item(name, revision, content, note)
        await self._desk.put(item)
        return LearnedRouter(item, content)

    def _item(self, name: str, revision: int, content: RouterRelease, note: str) -> DeskItem:
        return DeskItem(
            kind=DeskKind.ROUTER_RELEASE,
            item_id=name,
            revision=revision,
            at=self._clock.now(),
            by=_BY,
            note=note[:2_000],
            body=content.model_dump_json(),
        )


def content_note(content: RouterRelease) -> str:
    """Return what the desk notes of a new release."""
    report = RoutingReport.model_validate_json(content.report)
    said = f"right source first {report.right_first:.1%}, by keywords {report.keywords_right_first:.1%}"
    return f"{said}; refused: {report.refused_because}" if report.refused_because else said
