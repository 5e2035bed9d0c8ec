"""Learns a router of sources from a file of labelled questions, and releases it where it routes better than
the words of the kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

from assistant.domain.clock import Clock
from assistant.domain.desk import ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.routing import RoutedQuestion
from assistant.learning.ports import DeskStore
from assistant.settings.tenant import TenantConfig
from assistant.tuning.releases import Release, RouterReleases
from assistant.tuning.routing import LabelledQuestion, RoutingReport, cross_validated, learn, router_bytes

_BATCH = 32
Embed = Callable[[Sequence[str]], Awaitable[list[list[float]]]]
"""Returns a unit-length vector for each text."""
Read = Callable[[str], str]
"""Returns a question as a router reads it."""


class LearnRouting:
    """Learns the routers of one tenant."""

    def __init__(self, tenant: TenantConfig, *, desk: DeskStore, clock: Clock) -> None:
        self._tenant = tenant
        self._releases = RouterReleases(desk, clock=clock)

    async def learn(
        self,
        labelled: Sequence[RoutedQuestion],
        *,
        file_sha256: str,
        read: Read,
        embed: Embed,
        seed: int = 0,
        dry_run: bool = False,
    ) -> Release[RouterRelease]:
        """Return the release: live, or refused with its report.

        Raises ConfigurationError for a tenant with one source and for questions that cannot be learned from,
        ConflictError where another learner releases at the same moment.
        """
        if len(self._tenant.sources) < 2:
            raise ConfigurationError(f"{self._tenant.name} has one source: there is nothing to route.")
        routed = [(question, read(question.question)) for question in labelled if question.sources]
        vectors: list[list[float]] = []
        for at in range(0, len(routed), _BATCH):
            vectors += await embed([text for _, text in routed[at : at + _BATCH]])
        questions = [
            LabelledQuestion(text, vector, question.sources, question.group)
            for (question, text), vector in zip(routed, vectors, strict=True)
        ]
        content = await asyncio.to_thread(self._learned, questions, file_sha256, seed)
        note = "dry run" if dry_run else content_note(content)
        release = self._releases.next(await self._releases.all(), content, note)
        if not dry_run:
            await self._releases.put(release)
            if content.state is ReleaseState.LIVE:
                await self._releases.replace_live(by=release.name)
        return release

    def _learned(
        self, questions: Sequence[LabelledQuestion], questions_sha256: str, seed: int
    ) -> RouterRelease:
        sources = self._tenant.sources
        report = cross_validated(questions, sources=sources, seed=seed)
        content = learn(
            questions,
            sources=[source.name for source in sources],
            embedding_model=self._tenant.embedding.model,
            fitted_on=f"{len(questions)} labelled questions of {self._tenant.name}, {questions_sha256[:16]}",
        )
        raw = router_bytes(content)
        return RouterRelease(
            artifact_hash=sha256(raw).hexdigest(),
            router_json=raw.decode(),
            state=ReleaseState.REFUSED if report.refused_because else ReleaseState.LIVE,
            questions=len(questions),
            questions_sha256=questions_sha256,
            seed=seed,
            report=report.model_dump_json(),
        )


def routing_report_of(content: RouterRelease) -> RoutingReport:
    return RoutingReport.model_validate_json(content.report)


def content_note(content: RouterRelease) -> str:
    """Return what the desk notes of a new release."""
    report = routing_report_of(content)
    told = f"right source first {report.right_first:.1%}, by keywords {report.keywords_right_first:.1%}"
    return f"{told}; refused: {report.refused_because}" if report.refused_because else told
