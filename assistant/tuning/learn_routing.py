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
from assistant.tuning.releases import DeskRelease, DeskReleases, number, of_state
from assistant.tuning.routing import LabelledQuestion, RoutingReport, cross_validated, learn, router_bytes

_BATCH = 32
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""Returns a unit-length vector for each text."""
Read = Callable[[str], str]
"""Returns a question as a router reads it."""


@dataclass(frozen=True, slots=True)
class LearnedRouter(DeskRelease[RouterRelease]):
    """A release of a router."""

    @classmethod
    def of(cls, item: DeskItem) -> LearnedRouter:
        return cls(item, RouterRelease.model_validate_json(item.body))

    @property
    def report(self) -> RoutingReport:
        return RoutingReport.model_validate_json(self.content.report)


class LearnRouting:
    """Learns and moves the routers of one tenant."""

    def __init__(self, tenant: TenantConfig, *, desk: DeskStore, clock: Clock) -> None:
        self._tenant = tenant
        self._releases = DeskReleases(desk, kind=DeskKind.ROUTER_RELEASE, read=LearnedRouter.of, clock=clock)

    async def learn(
        self,
        labelled: Sequence[RoutedQuestion],
        *,
        file_sha256: str,
        read: Read,
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
        routed = [(one, read(one.question)) for one in labelled if one.sources]
        vectors: list[list[float]] = []
        for at in range(0, len(routed), _BATCH):
            vectors += await embed([text for _, text in routed[at : at + _BATCH]])
        questions = [
            LabelledQuestion(text, tuple(vector), one.sources, one.group)
            for (one, text), vector in zip(routed, vectors, strict=True)
        ]
        content = await asyncio.to_thread(self._release, questions, file_sha256, seed)
        known = await self._releases.all()
        name = f"router-{number(known) + 1:06d}"
        if dry_run:
            return LearnedRouter(self._releases.item(name, 1, content, "dry run"), content)
        released = await self._releases.write(name, 1, content, content_note(content))
        if content.state is ReleaseState.LIVE:
            for one in known:
                if one.content.state is ReleaseState.LIVE:
                    await self._releases.move(one, ReleaseState.REPLACED, f"replaced by {name}")
        return released

    async def roll_back(self) -> tuple[LearnedRouter, LearnedRouter | None]:
        """Take the live router back and bring the one before back. Return both; without one before, the words
        of the kinds serve. Raises NotFoundError where none is live."""
        known = await self._releases.all()
        live = of_state(known, ReleaseState.LIVE)
        if live is None:
            raise NotFoundError("No learned router serves: the words of the kinds do.")
        return await self._releases.take_back(live, known)

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


def content_note(content: RouterRelease) -> str:
    """Return what the desk notes of a new release."""
    report = RoutingReport.model_validate_json(content.report)
    said = f"right source first {report.right_first:.1%}, by keywords {report.keywords_right_first:.1%}"
    return f"{said}; refused: {report.refused_because}" if report.refused_because else said
