"""Learns a release of ranker weights from one tenant's feedback, and takes it through the gate.

A learner claims the next release's number, with the look that it is about to take, before it opens the sealed
half; of two learners at once one gets the number and the other a ConflictError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.clock import Clock
from assistant.domain.desk import RankerRelease, ReleaseState
from assistant.domain.errors import ConfigurationError, ConflictError
from assistant.learning.ports import DeskStore, FeedbackStore
from assistant.tuning.gate import Check, Gate, GateReport, ProtectedSet, check_artifact
from assistant.tuning.ranking import Learned, LearningPlan, artifact_hash, learn
from assistant.tuning.releases import TRIAL_DAYS, LearningReport, Release, Releases, number, of_state
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
    deleted: Collection[str] = ()
    """Answer ids whose signals are left out."""
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

    async def learn(self, request: LearningRequest) -> Release:
        """Return the release: a trial, or refused with its report. Nothing is stored where it raises.

        Raises InvalidRequestError for a window that cannot be learned from, ConflictError for a trial that
        runs, another learner or judgements like chance, ConfigurationError for questions that do not fit.
        """
        known = await self._releases.all()
        await self._end_trial(known, request)
        standing = _Standing.of(known, self._protected)
        collector = SignalCollector(tenant=self._tenant, rankers=standing.rankers, deleted=request.deleted)
        async for event in self._feedback.read(request.since, request.until):
            collector.add(event)
        draft = await asyncio.to_thread(_draft, collector, request, standing, self._tenant)
        name = f"ranker-{number(known) + 1:06d}"
        if request.dry_run:
            return Release(self._releases.item(name, 1, draft.content, "dry run"), draft.content)
        claimed = await self._claim(name, draft, look=standing.looks + 1)
        if draft.refusal is not None:
            return claimed
        checks = await asyncio.to_thread(standing.gate.open_sealed, draft.weights)
        return await self._settle(claimed, draft, checks)

    async def _end_trial(self, known: Sequence[Release], request: LearningRequest) -> None:
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

    async def _claim(self, name: str, draft: _Draft, *, look: int) -> Release:
        """Store the draft as refused: with its reason, or with the look that is about to be taken."""
        content, note = draft.content, draft.refusal or f"look {look} at the sealed half"
        if draft.refusal is None:
            gate = draft.report.gate.model_copy(
                update={"look": look, "refused_because": ("the sealed half was opened without a result",)}
            )
            content = draft.with_gate(gate, state=ReleaseState.REFUSED)
        try:
            return await self._releases.write(name, 1, content, note)
        except ConflictError:
            raise ConflictError(
                f"Another learner stored {name} meanwhile. Nothing of this one was stored and no look was "
                "taken. See what it made: assistant learn releases."
            ) from None

    async def _settle(self, claimed: Release, draft: _Draft, checks: tuple[Check, ...]) -> Release:
        """Store what the sealed half said."""
        report = claimed.report
        assert report is not None  # noqa: S101 - this process wrote it
        failed = tuple(check.said for check in checks if not check.passed)
        gate = report.gate.model_copy(
            update={"sealed_half": checks, "passed": not failed, "refused_because": failed}
        )
        now = self._clock.now()
        state = ReleaseState.REFUSED if failed else ReleaseState.TRIAL
        content = draft.with_gate(gate, state=state)
        if not failed:
            ends_at = now + timedelta(days=TRIAL_DAYS)
            content = content.model_copy(update={"trial_started_at": now, "trial_ends_at": ends_at})
        return await self._releases.move(
            Release(claimed.item, content), state, "; ".join(failed) or "passed the gate"
        )


@dataclass(frozen=True, slots=True)
class _Standing:
    """What serves before a learner starts."""

    rankers: Mapping[str, Weights]
    """By SHA-256: the shipped one and those of all releases."""
    gate: Gate
    looks: int
    """Openings of this sealed half so far."""

    @classmethod
    def of(cls, known: Sequence[Release], protected: ProtectedSet) -> _Standing:
        """Raises ConfigurationError where the questions were observed under unknown weights."""
        shipped = shipped_weights("ranker")
        rankers = {shipped.sha256: shipped}
        for release in known:
            if release.content.trial_started_at is not None:  # no other has ever served
                rankers[release.content.artifact_hash] = release.weights
        observed_under = rankers.get(protected.ranker)
        if observed_under is None:
            raise ConfigurationError(
                f"The protected questions were observed under a ranker that is not known here "
                f"({protected.ranker[:16]}…). Observe them again: assistant learn questions."
            )
        live = of_state(known, ReleaseState.LIVE)
        in_service = shipped if live is None else live.weights
        reports = [release.report for release in known]
        looks = sum(
            one.gate.look > 0 and one.gate.questions_sha256 == protected.questions_sha256
            for one in reports
            if one is not None
        )
        return cls(rankers, Gate(protected, observed_under, in_service), looks)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A release before the sealed half is opened."""

    content: RankerRelease
    report: LearningReport
    weights: Weights
    refusal: str | None

    def with_gate(self, gate: GateReport, *, state: ReleaseState) -> RankerRelease:
        report = self.report.model_copy(update={"gate": gate})
        return self.content.model_copy(update={"report": report.model_dump_json(), "state": state})


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


def _draft(collector: SignalCollector, request: LearningRequest, standing: _Standing, tenant: str) -> _Draft:
    """Learn, and shorten the step until it loses nothing on the open half."""
    signals = collector.signals(seed=request.seed, caps=request.caps)
    learned = learn(signals, request.plan)
    fitted_on = (
        f"{learned.signals} answers of {tenant} by {learned.agents} agents, "
        f"{request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}, seed {request.seed}"
    )
    gate = standing.gate
    step = _longest_step(learned, gate, fitted_on)
    unchanged = _UNCHANGED if _is_in_service(step.weights, gate.in_service) else None
    refusal = step.failed or unchanged or gate.refusal(looks=standing.looks)
    judged = GateReport(
        artifact_hash=step.weights.sha256,
        questions_sha256=gate.protected.questions_sha256,
        index_version=gate.protected.index_version,
        passed=False,
        refused_because=(refusal,) if refusal else ("the sealed half is closed",),
        open_half=step.checks,
        share_of_weights=step.of_weights,
        share_of_offsets=step.of_offsets,
    )
    report = _report(learned, step.weights, gate.in_service, left_out=signals.left_out, gate=judged)
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
    return _Draft(content, report, step.weights, refusal)


def _longest_step(learned: Learned, gate: Gate, fitted_on: str) -> _Step:
    """Return the longest step that loses nothing on the open half, else the shortest."""
    for of_weights, of_offsets in STEPS[:-1]:
        step = _step(learned, gate, fitted_on, of_weights, of_offsets)
        if not step.failed:
            return step
    return _step(learned, gate, fitted_on, *STEPS[-1])


def _step(learned: Learned, gate: Gate, fitted_on: str, of_weights: float, of_offsets: float) -> _Step:
    raw = learned.file(share_of_weights=of_weights, share_of_offsets=of_offsets, fitted_on=fitted_on)
    weights = check_artifact(raw, expected_hash=artifact_hash(raw))
    return _Step(raw, weights, gate.check_open(weights), of_weights, of_offsets)


def _is_in_service(weights: Weights, in_service: Weights) -> bool:
    return weights.features == in_service.features and weights.documents == in_service.documents


def _report(
    learned: Learned, weights: Weights, before: Weights, *, left_out: Mapping[str, int], gate: GateReport
) -> LearningReport:
    behaviour = learned.behaviour
    by_size = sorted(weights.documents.items(), key=lambda one: (-abs(one[1]), one[0]))
    return LearningReport(
        weights_before=before.features,
        weights_after=weights.features,
        questions=learned.questions,
        offsets=len(weights.documents),
        largest_offsets=dict(by_size[:_OFFSETS_SHOWN]),
        loss_before=round(learned.loss[0], 5),
        loss_after=round(learned.loss[1], 5),
        channels={
            name: (round(one.right, 3), round(one.wrong, 3)) for name, one in behaviour.channels.items()
        },
        examination=tuple(round(value, 3) for value in behaviour.examination),
        agents_left_out=behaviour.left_out,
        left_out=dict(left_out),
        gate=gate,
    )
