"""Learns a release of ranker weights from one tenant's feedback, and takes it through the gate.

A learner claims the next release's number, with the look that it is about to take, before it opens the sealed
half; of two learners at once one gets the number and the other a ConflictError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.clock import Clock
from assistant.domain.desk import RankerRelease, ReleaseState
from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.learning.ports import DeskStore, FeedbackStore
from assistant.tuning.gate import Check, Gate, GateReport, ProtectedSet, check_artifact
from assistant.tuning.ranking import Learned, LearningPlan, artifact_hash, learn
from assistant.tuning.releases import (
    TRIAL_DAYS,
    LearningReport,
    Release,
    Releases,
    of_state,
    report_of,
    weights_of,
)
from assistant.tuning.signals import Caps, SignalCollector

_UNCHANGED = "the learned weights are those in service"
_OFFSETS_SHOWN = 10
STEPS: Sequence[tuple[float, float]] = (
    (1.0, 1.0),
    (1.0, 0.5),
    (1.0, 0.0),
    (0.5, 0.5),
    (0.5, 0.0),
    (0.25, 0.0),
)
"""Shares of the learned weights and offsets that are tried on the open half, longest first."""
RankerReleases = Sequence[Release[RankerRelease]]


@dataclass(frozen=True, slots=True)
class LearningRequest:
    """What to learn from, and how the result is tried."""

    since: datetime
    until: datetime
    """[since, until)"""
    seed: int = 0
    share_percent: int = 10
    least_sample: int = 200
    dry_run: bool = False
    """Learn and ask the open half; store nothing and leave the sealed half closed."""
    plan: LearningPlan = field(default_factory=LearningPlan)
    caps: Caps = field(default_factory=Caps)


class LearnRanking:
    """Learns a release for one tenant."""

    def __init__(
        self, *, tenant: str, feedback: FeedbackStore, desk: DeskStore, protected: ProtectedSet, clock: Clock
    ) -> None:
        self._tenant = tenant
        self._feedback = feedback
        self._protected = protected
        self._clock = clock
        self._releases = Releases(desk, clock=clock)

    async def learn(self, request: LearningRequest) -> Release[RankerRelease]:
        """Return the release: a trial, or refused with its report. Nothing is stored where it raises.

        Raises InvalidRequestError for a window that cannot be learned from, ConflictError for a trial that
        runs, another learner or judgements like chance, ConfigurationError for questions that do not fit.
        """
        known = await self._releases.all()
        await self._end_trial(known, request)
        rankers = _rankers(known)
        gate, looks = self._gate(known, rankers)
        collector = SignalCollector(rankers=rankers)
        async for event in self._feedback.read(request.since, request.until):
            collector.add(event)
        step, report, content = await asyncio.to_thread(self._draft, collector, request, gate)
        refusal = step.failed or _unchanged(step.weights, gate.in_service) or gate.refusal(looks=looks)
        if request.dry_run:
            because = (refusal,) if refusal else ("the sealed half is closed",)
            return self._releases.next(known, _with_gate(content, report, refused_because=because), "dry run")
        if refusal:
            content = _with_gate(content, report, refused_because=(refusal,))
            return await self._claim(known, content, refusal)
        because = ("the sealed half was opened without a result",)
        opening = _with_gate(content, report, refused_because=because, look=looks + 1)
        claimed = await self._claim(known, opening, f"look {looks + 1} at the sealed half")
        checks = await asyncio.to_thread(gate.open_sealed, step.weights)
        failed = tuple(check.said for check in checks if not check.passed)
        judged = _with_gate(
            content, report, refused_because=failed, look=looks + 1, sealed_half=checks, passed=not failed
        )
        if failed:
            return await self._releases.move(
                claimed, ReleaseState.REFUSED, "; ".join(failed), report=judged.report
            )
        now = self._clock.now()
        return await self._releases.move(
            claimed,
            ReleaseState.TRIAL,
            "passed the gate",
            report=judged.report,
            trial_started_at=now,
            trial_ends_at=now + timedelta(days=TRIAL_DAYS),
        )

    async def _end_trial(self, known: RankerReleases, request: LearningRequest) -> None:
        """Raise ConflictError while a trial runs; end one whose time is over."""
        trial = of_state(known, ReleaseState.TRIAL)
        if trial is None:
            return
        ends_at = trial.content.trial_ends_at
        if ends_at is None or self._clock.now() < ends_at:
            raise ConflictError(
                f"{trial.name} is on trial. Promote it or roll it back before learning again."
            )
        if not request.dry_run:
            await self._releases.move(trial, ReleaseState.ROLLED_BACK, "the trial ended without its sample")

    def _gate(self, known: RankerReleases, rankers: Mapping[str, Weights]) -> tuple[Gate, int]:
        """Return the gate and the openings of its sealed half so far.

        Raises ConfigurationError where the questions were observed under unknown weights.
        """
        protected = self._protected
        if protected.ranker not in rankers:
            raise ConfigurationError(
                f"The protected questions were observed under a ranker that is not known here "
                f"({protected.ranker[:16]}…). Observe them again: assistant learn questions."
            )
        live = of_state(known, ReleaseState.LIVE)
        in_service = shipped_weights("ranker") if live is None else weights_of(live.content)
        gates = [report.gate for release in known if (report := report_of(release.content)) is not None]
        looks = sum(gate.look > 0 and gate.questions_sha256 == protected.questions_sha256 for gate in gates)
        return Gate(protected, rankers[protected.ranker], in_service), looks

    def _draft(
        self, collector: SignalCollector, request: LearningRequest, gate: Gate
    ) -> tuple[_Step, LearningReport, RankerRelease]:
        """Learn, and shorten the step until it loses nothing on the open half."""
        signals = collector.signals(seed=request.seed, caps=request.caps)
        learned = learn(signals, request.plan)
        fitted_on = (
            f"{learned.signals} answers of {self._tenant} by {learned.agents} agents, "
            f"{request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}, seed {request.seed}"
        )
        step = _longest_step(learned, gate, fitted_on)
        report = _report(learned, step, gate, left_out=signals.left_out)
        content = RankerRelease(
            artifact_hash=step.weights.sha256,
            weights_json=step.raw.decode(),
            state=ReleaseState.REFUSED,
            window=(request.since, request.until),
            signals=learned.signals,
            agents=learned.agents,
            prior_hash=shipped_weights("ranker").sha256,
            seed=request.seed,
            report=report.model_dump_json(),
            share_percent=request.share_percent,
            least_sample=request.least_sample,
        )
        return step, report, content

    async def _claim(
        self, known: RankerReleases, content: RankerRelease, note: str
    ) -> Release[RankerRelease]:
        release = self._releases.next(known, content, note)
        try:
            return await self._releases.put(release)
        except ConflictError:
            raise ConflictError(
                f"Another learner stored {release.name} meanwhile. Nothing of this one was stored and no "
                "look was taken. See what it made: assistant learn releases."
            ) from None


@dataclass(frozen=True, slots=True)
class _Step:
    """A share of what was learned, asked of the open half."""

    raw: bytes
    weights: Weights
    checks: tuple[Check, ...]
    of_weights: float
    of_offsets: float

    @property
    def failed(self) -> str:
        return "; ".join(check.said for check in self.checks if not check.passed)


def _longest_step(learned: Learned, gate: Gate, fitted_on: str) -> _Step:
    """Return the longest step that loses nothing on the open half, else the shortest."""
    step: _Step | None = None
    for of_weights, of_offsets in STEPS:
        raw = learned.file(share_of_weights=of_weights, share_of_offsets=of_offsets, fitted_on=fitted_on)
        weights = check_artifact(raw, expected_hash=artifact_hash(raw))
        step = _Step(raw, weights, gate.check_open(weights), of_weights, of_offsets)
        if not step.failed:
            break
    assert step is not None  # noqa: S101 - there are steps
    return step


def _rankers(known: RankerReleases) -> Mapping[str, Weights]:
    """Return the weights that have ever served, by SHA-256."""
    served = [release.content for release in known if release.content.trial_started_at is not None]
    shipped = shipped_weights("ranker")
    return {shipped.sha256: shipped} | {content.artifact_hash: weights_of(content) for content in served}


def _unchanged(weights: Weights, in_service: Weights) -> str | None:
    is_same = weights.features == in_service.features and weights.documents == in_service.documents
    return _UNCHANGED if is_same else None


def _with_gate(content: RankerRelease, report: LearningReport, **judged: object) -> RankerRelease:
    """Return the release with what the gate says now."""
    gate = report.gate.model_copy(update=judged)
    return content.model_copy(update={"report": report.model_copy(update={"gate": gate}).model_dump_json()})


def _report(learned: Learned, step: _Step, gate: Gate, *, left_out: Mapping[str, int]) -> LearningReport:
    by_size = sorted(step.weights.documents.items(), key=lambda offset: (-abs(offset[1]), offset[0]))
    channels = learned.behaviour.channels.items()
    return LearningReport(
        weights_before=gate.in_service.features,
        weights_after=step.weights.features,
        questions=learned.questions,
        offsets=len(step.weights.documents),
        largest_offsets=dict(by_size[:_OFFSETS_SHOWN]),
        loss_before=round(learned.loss[0], 5),
        loss_after=round(learned.loss[1], 5),
        channels={name: (round(rates.right, 3), round(rates.wrong, 3)) for name, rates in channels},
        agents_left_out=learned.behaviour.left_out,
        left_out=dict(left_out),
        gate=GateReport(
            artifact_hash=step.weights.sha256,
            questions_sha256=gate.protected.questions_sha256,
            index_version=gate.protected.index_version,
            passed=False,
            open_half=step.checks,
            share_of_weights=step.of_weights,
            share_of_offsets=step.of_offsets,
        ),
    )
