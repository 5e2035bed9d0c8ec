"""Keeps what a tenant learned as releases on its desk: one form, and one way back, for ranker weights and for
routers.

Releases are desk items by number (``ranker-000001``, ``router-000001``, …), refused ones too: those of the
ranker are also the ledger of looks at the sealed half of the protected questions.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Generic, Literal, TypeVar

from pydantic import ConfigDict

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.clock import Clock
from assistant.domain.desk import DeskItem, DeskKind, RankerRelease, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError, ConflictError, InvalidRequestError, NotFoundError
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from assistant.domain.public import PublicModel
from assistant.learning.ports import DeskStore, FeedbackStore
from assistant.tuning.gate import MARGIN, SEALED, Check, Gate, GateReport, ProtectedSet, check_artifact
from assistant.tuning.ranking import Learned, LearningPlan, artifact_hash, learn
from assistant.tuning.signals import Caps, SignalCollector, drawn, sent_as_shown

TRIAL_DAYS = 14
TRIAL_LOOKS = 5
"""Refused promotions that a trial may have; after them it must be rolled back."""
_BY = "learner"
Content = TypeVar("Content", RankerRelease, RouterRelease)


@dataclass(frozen=True, slots=True)
class Release(Generic[Content]):
    """A release as the desk has it; ``item`` is not stored after a dry run."""

    item: DeskItem
    content: Content

    @property
    def name(self) -> str:
        return self.item.item_id


class DeskReleases(Generic[Content]):
    """The releases of one tenant that are of one kind."""

    kind: DeskKind
    form: type[Content]
    fallback: str
    """What serves where nothing that was learned does."""

    def __init__(self, desk: DeskStore, *, clock: Clock) -> None:
        self._desk = desk
        self._clock = clock

    async def all(self) -> list[Release[Content]]:
        """Return every release, newest first. Raises RecordsUnavailableError."""
        items = await self._desk.list(self.kind)
        read = [Release(item, self.form.model_validate_json(item.body)) for item in items]
        return sorted(read, key=lambda release: release.name, reverse=True)

    def next(self, known: Sequence[Release[Content]], content: Content, note: str) -> Release[Content]:
        """Return the release of the next number, not stored."""
        number = 1 + max((int(release.name.rpartition("-")[2]) for release in known), default=0)
        prefix = self.kind.value.removesuffix("_release")
        return self._revision(f"{prefix}-{number:06d}", 1, content, note)

    async def put(self, release: Release[Content]) -> Release[Content]:
        """Store a revision. Raises ConflictError where somebody else wrote it meanwhile."""
        await self._desk.put(release.item)
        return release

    async def move(
        self, release: Release[Content], state: ReleaseState, note: str, **changes: object
    ) -> Release[Content]:
        """Give a release another state. Raises ConflictError where somebody else moved it meanwhile."""
        content = release.content.model_copy(update={"state": state, **changes})
        return await self.put(self._revision(release.name, release.item.revision + 1, content, note))

    async def roll_back(self) -> tuple[Release[Content], Release[Content] | None]:
        """Take the trial back, else what is live, and bring the one before back.

        Return both; None: ``fallback`` serves. Raises NotFoundError where neither serves.
        """
        known = await self.all()
        trial, live, before = (
            of_state(known, state) for state in (ReleaseState.TRIAL, ReleaseState.LIVE, ReleaseState.REPLACED)
        )
        if trial is not None:
            return await self.move(trial, ReleaseState.ROLLED_BACK, "rolled back"), live
        if live is None:
            raise NotFoundError(f"No learned release serves; what does is: {self.fallback}.")
        taken = await self.move(live, ReleaseState.ROLLED_BACK, "rolled back")
        if before is None:
            return taken, None
        note = f"brought back: {live.name} was rolled back"
        return taken, await self.move(before, ReleaseState.LIVE, note)

    async def replace_live(self, by: str) -> None:
        """Keep what is live as the way back from the release of this name."""
        for release in await self.all():
            if release.content.state is ReleaseState.LIVE and release.name != by:
                await self.move(release, ReleaseState.REPLACED, f"replaced by {by}")

    def _revision(self, name: str, revision: int, content: Content, note: str) -> Release[Content]:
        item = DeskItem(
            kind=self.kind,
            item_id=name,
            revision=revision,
            at=self._clock.now(),
            by=_BY,
            note=note[:2_000],
            body=content.model_dump_json(),
        )
        return Release(item, content)


def of_state(releases: Sequence[Release[Content]], state: ReleaseState) -> Release[Content] | None:
    return next((release for release in releases if release.content.state is state), None)


class RouterReleases(DeskReleases[RouterRelease]):
    """A router serves all conversations from its release on: labels judge it, not what agents do."""

    kind = DeskKind.ROUTER_RELEASE
    form = RouterRelease
    fallback = "keywords"


# Releases of the ranker, and their trial


class LearningReport(PublicModel):
    """What was learned, from what, and what the gate says. It is kept in ``RankerRelease.report``.

    Fields of earlier versions are passed over.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: int = 1
    weights_before: dict[str, float]
    """Of the ranker in service."""
    weights_after: dict[str, float]
    offsets: int
    """Documents with an offset."""
    largest_offsets: dict[str, float]
    """The ten largest by size."""
    channels: dict[str, tuple[float, float]]
    """P(accepted | right), P(accepted | wrong) by way to judge."""
    agents_left_out: tuple[str, ...]
    """Pseudonyms of agents whose judgements contradict all others or are chance."""
    left_out: dict[str, int]
    """Answers and events by reason."""
    gate: GateReport
    trial_looks: tuple[str, ...] = ()
    """Refused promotions: when, and what was counted."""


def report_of(content: RankerRelease) -> LearningReport | None:
    """Return the report; None where another version wrote it in another form."""
    try:
        return LearningReport.model_validate_json(content.report)
    except ValueError:
        return None


def weights_of(content: RankerRelease) -> Weights:
    """Return the weights. Raises ConfigurationError where the artifact does not fit or has another hash."""
    return check_artifact(content.weights_json.encode(), expected_hash=content.artifact_hash)


@dataclass(frozen=True, slots=True)
class TrialCount:
    """What agents did with answers in a trial and beside it, since it started."""

    answers: int
    """Verdicts and sends in the trial."""
    accepted: float
    """Share of them that accepted the answer."""
    others: int
    others_accepted: float
    wanted: int

    def __str__(self) -> str:
        return (
            f"{self.answers} of {self.wanted} verdicts and sends in the trial, {self.accepted:.1%} accepted; "
            f"beside it {self.others}, {self.others_accepted:.1%} accepted"
        )


class Releases(DeskReleases[RankerRelease]):
    """The ranker releases of one tenant."""

    kind = DeskKind.RANKER_RELEASE
    form = RankerRelease
    fallback = "shipped"

    async def promote(self, feedback: FeedbackStore) -> tuple[Release[RankerRelease], TrialCount]:
        """Make the trial live when it has its sample and is not worse than what serves beside it.

        Raises NotFoundError without a trial, ConflictError with the count where it may not go live.
        """
        now = self._clock.now()
        trial = of_state(await self.all(), ReleaseState.TRIAL)
        if trial is None or trial.content.trial_started_at is None:
            raise NotFoundError("There is no trial. Learn a release first: assistant learn ranking.")
        count = await _count(feedback, trial.content, since=trial.content.trial_started_at, until=now)
        report = report_of(trial.content)
        looks = report.trial_looks if report else ()
        fault = _fault(trial.content, count, now=now, looks=len(looks))
        if fault is not None:
            if count.answers >= count.wanted and report is not None:
                note = f"{now:%Y-%m-%d %H:%M}: {count}"
                seen = report.model_copy(update={"trial_looks": (*looks, note)})
                await self.move(trial, ReleaseState.TRIAL, note, report=seen.model_dump_json())
            raise ConflictError(f"{trial.name} stays a trial: {fault} ({count}).")
        weights_of(trial.content)  # an artifact that does not fit never goes live
        await self.replace_live(by=trial.name)
        return await self.move(trial, ReleaseState.LIVE, f"promoted: {count}"), count


def _fault(trial: RankerRelease, count: TrialCount, *, now: datetime, looks: int) -> str | None:
    """Return why a trial may not go live, or None."""
    ends_at, lacks = trial.trial_ends_at, count.wanted - count.answers
    if lacks > 0 and ends_at is not None and now >= ends_at:
        return f"it ended at {ends_at:%Y-%m-%d %H:%M} without its sample. Roll it back, and learn again"
    if lacks > 0:
        return f"{lacks} more are needed"
    if looks >= TRIAL_LOOKS:
        return f"it was refused {looks} times, which is the most. Roll it back"
    if count.others < count.wanted:
        return f"{count.others} answers beside it are too few to compare; {count.wanted} are needed"
    loss = count.others_accepted - count.accepted
    if loss > MARGIN + 1e-9:
        return f"it is {100 * loss:.1f} points worse; {100 * MARGIN:.0f} are allowed"
    return None


async def _count(
    feedback: FeedbackStore, trial: RankerRelease, *, since: datetime, until: datetime
) -> TrialCount:
    """Count the latest verdict or send of each answer, by the ranker that served it. Of one agent's day no
    more count than a learner takes, chosen by the answers' ids: nobody decides a trial alone."""
    latest: dict[str, tuple[datetime, tuple[str, date], bool, bool]] = {}
    async for event in feedback.read(since, until):
        good, known = _accepted(event), latest.get(event.answer_id)
        if good is None or event.asked_at < since or (known is not None and known[0] > event.at):
            continue
        is_trial = event.weights.get("ranker") == trial.artifact_hash
        latest[event.answer_id] = event.at, (event.agent, event.asked_at.date()), is_trial, good
    shifts, arms = Counter[tuple[str, date]](), {True: list[bool](), False: list[bool]()}
    for answer_id in sorted(latest, key=lambda name: drawn(trial.seed, name)):
        _, shift, is_trial, good = latest[answer_id]
        shifts[shift] += 1
        if shifts[shift] <= Caps().per_agent_day:
            arms[is_trial].append(good)
    shares = {arm: sum(acts) / len(acts) if acts else 0.0 for arm, acts in arms.items()}
    return TrialCount(len(arms[True]), shares[True], len(arms[False]), shares[False], trial.least_sample)


def _accepted(event: FeedbackEvent) -> bool | None:
    if event.kind is FeedbackKind.VERDICT:
        return event.label is VerdictLabel.GOOD
    return sent_as_shown(event) is not False if event.kind is FeedbackKind.SENT else None


# Learning a release, and its way through the gate

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
WINDOW = timedelta(days=90)
"""Feedback that a release is learned from."""
REST = timedelta(days=7)
"""After a refusal: the sealed half allows twenty looks in all."""


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


@dataclass(frozen=True, slots=True)
class Turn:
    """What a night brought. ``waits``: nothing was stored, for the given reason."""

    outcome: Literal["promoted", "on_trial", "refused", "waits"]
    release: str | None
    reason: str


@dataclass(slots=True, kw_only=True)
class LearnRanking:
    """Learns releases for one tenant."""

    tenant: str
    feedback: FeedbackStore
    desk: DeskStore
    protected: ProtectedSet
    clock: Clock

    @property
    def releases(self) -> Releases:
        return Releases(self.desk, clock=self.clock)

    async def learn(self, request: LearningRequest) -> Release[RankerRelease]:
        """Return the release: a trial, or refused with its report. Nothing is stored where it raises.

        Raises InvalidRequestError for a window that cannot be learned from, ConflictError for a trial that
        runs, another learner or judgements like chance, ConfigurationError for questions that do not fit.
        """
        known = await self.releases.all()
        await self._end_trial(known, request)
        rankers = _rankers(known)
        gate, looks = self._gate(known, rankers)
        collector = SignalCollector(rankers=rankers)
        async for event in self.feedback.read(request.since, request.until):
            collector.add(event)
        draft = await asyncio.to_thread(self._draft, collector, request, gate)
        refusal = draft.failed or _unchanged(draft.weights, gate.in_service) or gate.refusal(looks=looks)
        if refusal or request.dry_run:
            content = draft.judged(refused_because=(refusal or "the sealed half is closed",))
            note = "dry run" if request.dry_run else refusal or ""
            release = self.releases.next(known, content, note)
            return release if request.dry_run else await self._claim(release)
        opening = draft.judged(
            refused_because=("the sealed half was opened without a result",), look=looks + 1
        )
        note = f"look {looks + 1} at the sealed half"
        claimed = await self._claim(self.releases.next(known, opening, note))
        checks = await asyncio.to_thread(gate.checks, SEALED, draft.weights)
        failed = tuple(check.said for check in checks if not check.passed)
        judged = draft.judged(
            refused_because=failed, look=looks + 1, sealed_half=checks, passed=not failed
        ).report
        if failed:
            return await self.releases.move(claimed, ReleaseState.REFUSED, "; ".join(failed), report=judged)
        now = self.clock.now()
        times = {"trial_started_at": now, "trial_ends_at": now + timedelta(days=TRIAL_DAYS)}
        return await self.releases.move(
            claimed, ReleaseState.TRIAL, "passed the gate", report=judged, **times
        )

    async def turn(self) -> Turn:
        """Take one night's turn: promote the release on trial where it may be, or learn the next.

        Each release that reaches the sealed half costs one of its few looks, so after a refusal the loop
        rests. Raises DependencyError, and ConfigurationError for questions that do not fit.
        """
        now, known = self.clock.now(), await self.releases.all()
        trial, newest = of_state(known, ReleaseState.TRIAL), known[0] if known else None
        if trial is not None:
            try:
                promoted, count = await self.releases.promote(self.feedback)
                return Turn("promoted", promoted.name, str(count))
            except ConflictError as error:
                if _is_running(trial.content, now):
                    return Turn("waits", trial.name, error.message)
        if newest and newest.content.state is ReleaseState.REFUSED and now - newest.item.at < REST:
            return Turn("waits", newest.name, f"{newest.name} was refused less than {REST.days} days ago")
        try:
            learned = await self.learn(LearningRequest(since=now - WINDOW, until=now))
        except (ConflictError, InvalidRequestError) as error:
            return Turn("waits", None, error.message)
        refused = learned.content.state is ReleaseState.REFUSED
        return Turn("refused" if refused else "on_trial", learned.name, learned.item.note)

    async def _end_trial(self, known: RankerReleases, request: LearningRequest) -> None:
        """Raise ConflictError while a trial runs; end one whose time is over."""
        trial = of_state(known, ReleaseState.TRIAL)
        if trial is None:
            return
        if _is_running(trial.content, self.clock.now()):
            raise ConflictError(
                f"{trial.name} is on trial. Promote it or roll it back before learning again."
            )
        if not request.dry_run:
            await self.releases.move(trial, ReleaseState.ROLLED_BACK, "the trial ended without its sample")

    def _gate(self, known: RankerReleases, rankers: Mapping[str, Weights]) -> tuple[Gate, int]:
        """Return the gate and the openings of its sealed half so far.

        Raises ConfigurationError where the questions were observed under unknown weights.
        """
        protected = self.protected
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

    def _draft(self, collector: SignalCollector, request: LearningRequest, gate: Gate) -> _Draft:
        """Learn, and shorten the step until it loses nothing on the open half; else take the shortest."""
        signals = collector.signals(seed=request.seed, caps=request.caps)
        learned = learn(signals, request.plan)
        fitted_on = (
            f"{learned.signals} answers of {self.tenant} by {learned.agents} agents, "
            f"{request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}, seed {request.seed}"
        )
        tried: list[tuple[tuple[float, float], bytes, Weights, tuple[Check, ...]]] = []
        for shares in STEPS:
            raw = learned.file(*shares, fitted_on=fitted_on)
            weights = check_artifact(raw, expected_hash=artifact_hash(raw))
            tried.append((shares, raw, weights, gate.checks("tuning", weights)))
            if all(check.passed for check in tried[-1][3]):
                break
        (of_weights, of_offsets), raw, weights, checks = tried[-1]
        report = _report(learned, weights, gate, left_out=signals.left_out)
        opened = {"open_half": checks, "share_of_weights": of_weights, "share_of_offsets": of_offsets}
        content = RankerRelease(
            artifact_hash=weights.sha256,
            weights_json=raw.decode(),
            state=ReleaseState.REFUSED,
            window=(request.since, request.until),
            signals=learned.signals,
            agents=learned.agents,
            prior_hash=shipped_weights("ranker").sha256,
            seed=request.seed,
            report="",
            share_percent=request.share_percent,
            least_sample=request.least_sample,
        )
        judged = report.model_copy(update={"gate": report.gate.model_copy(update=opened)})
        return _Draft(content, judged, weights)

    async def _claim(self, release: Release[RankerRelease]) -> Release[RankerRelease]:
        try:
            return await self.releases.put(release)
        except ConflictError:
            raise ConflictError(
                f"Another learner stored {release.name} meanwhile. Nothing of this one was stored and no "
                "look was taken. See what it made: assistant learn releases."
            ) from None


@dataclass(frozen=True, slots=True)
class _Draft:
    """What was learned, after the open half was asked."""

    content: RankerRelease
    report: LearningReport
    weights: Weights

    @property
    def failed(self) -> str:
        return "; ".join(check.said for check in self.report.gate.open_half if not check.passed)

    def judged(self, **judged: object) -> RankerRelease:
        """Return the release with what the gate says now."""
        gate = self.report.gate.model_copy(update=judged)
        report = self.report.model_copy(update={"gate": gate})
        return self.content.model_copy(update={"report": report.model_dump_json()})


def _is_running(trial: RankerRelease, now: datetime) -> bool:
    return trial.trial_ends_at is None or now < trial.trial_ends_at


def _rankers(known: RankerReleases) -> Mapping[str, Weights]:
    """Return the weights that have ever served, by SHA-256."""
    served = [release.content for release in known if release.content.trial_started_at is not None]
    shipped = shipped_weights("ranker")
    return {shipped.sha256: shipped} | {content.artifact_hash: weights_of(content) for content in served}


def _unchanged(weights: Weights, in_service: Weights) -> str | None:
    is_same = weights.features == in_service.features and weights.documents == in_service.documents
    return "the learned weights are those in service" if is_same else None


def _report(learned: Learned, weights: Weights, gate: Gate, *, left_out: Mapping[str, int]) -> LearningReport:
    by_size = sorted(weights.documents.items(), key=lambda offset: (-abs(offset[1]), offset[0]))
    channels = learned.behaviour.channels.items()
    return LearningReport(
        weights_before=gate.in_service.features,
        weights_after=weights.features,
        offsets=len(weights.documents),
        largest_offsets=dict(by_size[:_OFFSETS_SHOWN]),
        channels={name: (round(rates.right, 3), round(rates.wrong, 3)) for name, rates in channels},
        agents_left_out=learned.behaviour.left_out,
        left_out=dict(left_out),
        gate=GateReport(
            artifact_hash=weights.sha256,
            questions_sha256=gate.protected.questions_sha256,
            index_version=gate.protected.index_version,
            passed=False,
        ),
    )
