"""Keeps what a tenant learned as releases on its desk, and moves ranker weights through trial, live and back.

The releases of the ranker are desk items ``ranker-000001``, ``ranker-000002``, …: they are also the ledger of
looks at the sealed half of the protected questions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from assistant.answering.rank import Weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.clock import Clock
from assistant.domain.desk import DeskItem, DeskKind, RankerRelease, ReleaseState, RouterRelease
from assistant.domain.errors import ConflictError, NotFoundError
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from assistant.domain.public import PublicModel
from assistant.learning.ports import DeskStore, FeedbackStore
from assistant.tuning.gate import MARGIN, GateReport, check_artifact
from assistant.tuning.signals import sent_as_shown

TRIAL_DAYS = 14
TRIAL_LOOKS = 5
"""Refused promotions that a trial may have; after them it must be rolled back."""
_BY = "learner"


class LearningReport(PublicModel):
    """What was learned, from what, and what the gate says. It is kept in ``RankerRelease.report``."""

    schema_version: int = 1
    weights_before: dict[str, float]
    """Of the ranker in service."""
    weights_after: dict[str, float]
    questions: int = 0
    """Different questions among the answers that count."""
    offsets: int
    """Documents with an offset."""
    largest_offsets: dict[str, float]
    """The ten largest by size."""
    loss_before: float
    loss_after: float
    channels: dict[str, tuple[float, float]]
    """P(accepted | right), P(accepted | wrong) by way to judge."""
    examination: tuple[float, ...]
    """P(examined) by position; empty where too few sources were opened."""
    agents_left_out: tuple[str, ...]
    """Pseudonyms of agents whose judgements contradict all others or are chance."""
    left_out: dict[str, int]
    """Answers and events by reason."""
    gate: GateReport
    trial_looks: tuple[str, ...] = ()
    """Refused promotions: when, and what was counted."""


Content = TypeVar("Content", RankerRelease, RouterRelease)


@dataclass(frozen=True, slots=True)
class DeskRelease(Generic[Content]):
    """A release as the desk has it; ``item`` is not stored after a dry run."""

    item: DeskItem
    content: Content

    @property
    def name(self) -> str:
        return self.item.item_id


@dataclass(frozen=True, slots=True)
class Release(DeskRelease[RankerRelease]):
    """A release of ranker weights."""

    @classmethod
    def of(cls, item: DeskItem) -> Release:
        return cls(item, RankerRelease.model_validate_json(item.body))

    @property
    def report(self) -> LearningReport | None:
        """Return the report; None where another release wrote it in another form."""
        try:
            return LearningReport.model_validate_json(self.content.report)
        except ValueError:
            return None

    @property
    def weights(self) -> Weights:
        """Raises ConfigurationError where the artifact does not fit or has another hash."""
        return check_artifact(self.content.weights_json.encode(), expected_hash=self.content.artifact_hash)


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


Stored = TypeVar("Stored", bound=DeskRelease[RankerRelease] | DeskRelease[RouterRelease])


class DeskReleases(Generic[Stored]):
    """The releases of one tenant that are of one kind. ``read``: makes one of its desk item."""

    def __init__(
        self, desk: DeskStore, *, kind: DeskKind, read: Callable[[DeskItem], Stored], clock: Clock
    ) -> None:
        self._desk = desk
        self._kind = kind
        self._read = read
        self._clock = clock

    async def all(self) -> list[Stored]:
        """Return every release, newest first. Raises RecordsUnavailableError."""
        found = [self._read(item) for item in await self._desk.list(self._kind)]
        return sorted(found, key=lambda one: one.name, reverse=True)

    async def write(
        self, name: str, revision: int, content: RankerRelease | RouterRelease, note: str
    ) -> Stored:
        """Add a revision. Raises ConflictError where somebody else wrote it meanwhile."""
        item = self.item(name, revision, content, note)
        await self._desk.put(item)
        return self._read(item)

    def item(self, name: str, revision: int, content: RankerRelease | RouterRelease, note: str) -> DeskItem:
        """Return a revision that is not stored."""
        return DeskItem(
            kind=self._kind,
            item_id=name,
            revision=revision,
            at=self._clock.now(),
            by=_BY,
            note=note[:2_000],
            body=content.model_dump_json(),
        )

    async def move(self, release: Stored, state: ReleaseState, note: str, **changes: object) -> Stored:
        """Give a release another state. Raises ConflictError where somebody else moved it meanwhile."""
        content = release.content.model_copy(update={"state": state, **changes})
        return await self.write(release.name, release.item.revision + 1, content, note)

    async def take_back(self, live: Stored, known: Sequence[Stored]) -> tuple[Stored, Stored | None]:
        """Take back what is live and bring the one before back. Return both; None where there was none."""
        taken = await self.move(live, ReleaseState.ROLLED_BACK, "rolled back")
        before = of_state(known, ReleaseState.REPLACED)
        if before is None:
            return taken, None
        return taken, await self.move(before, ReleaseState.LIVE, f"brought back: {live.name} was rolled back")


class Releases(DeskReleases[Release]):
    """The ranker releases of one tenant."""

    def __init__(self, desk: DeskStore, *, clock: Clock) -> None:
        super().__init__(desk, kind=DeskKind.RANKER_RELEASE, read=Release.of, clock=clock)

    async def promote(self, feedback: FeedbackStore) -> tuple[Release, TrialCount]:
        """Make the trial live when it has its sample and is not worse than what serves beside it.

        Raises NotFoundError without a trial, ConflictError with the count where it may not go live.
        """
        now = self._clock.now()
        releases = await self.all()
        trial = of_state(releases, ReleaseState.TRIAL)
        if trial is None or trial.content.trial_started_at is None:
            raise NotFoundError("There is no trial. Learn a release first: assistant learn ranking.")
        count = await _count(feedback, trial, until=now)
        report = trial.report
        looks = report.trial_looks if report else ()
        fault = _fault(trial, count, now=now, looks=len(looks))
        if fault is not None:
            if count.answers >= count.wanted and report is not None:
                said = f"{now:%Y-%m-%d %H:%M}: {count}"
                seen = report.model_copy(update={"trial_looks": (*looks, said)})
                await self.move(trial, ReleaseState.TRIAL, said, report=seen.model_dump_json())
            raise ConflictError(f"{trial.name} stays a trial: {fault} ({count}).")
        _ = trial.weights  # an artifact that does not fit never goes live
        live = of_state(releases, ReleaseState.LIVE)
        if live is not None:
            await self.move(live, ReleaseState.REPLACED, f"replaced by {trial.name}")
        return await self.move(trial, ReleaseState.LIVE, f"promoted: {count}"), count

    async def roll_back(self) -> tuple[Release, Release | None]:
        """Take the trial back, else what is live, and bring the one before back.

        Return both; None is the shipped ranker. Raises NotFoundError where neither serves.
        """
        releases = await self.all()
        trial, live = (of_state(releases, state) for state in (ReleaseState.TRIAL, ReleaseState.LIVE))
        if trial is not None:
            return await self.move(trial, ReleaseState.ROLLED_BACK, "rolled back"), live
        if live is None:
            raise NotFoundError("No learned release serves: the shipped ranker does.")
        return await self.take_back(live, releases)


def of_state(releases: Sequence[Stored], state: ReleaseState) -> Stored | None:
    return next((one for one in releases if one.content.state is state), None)


def _fault(trial: Release, count: TrialCount, *, now: datetime, looks: int) -> str | None:
    """Return why a trial may not go live, or None."""
    ends_at = trial.content.trial_ends_at
    if ends_at is not None and now >= ends_at and count.answers < count.wanted:
        return f"it ended at {ends_at:%Y-%m-%d %H:%M} without its sample. Roll it back, and learn again"
    if count.answers < count.wanted:
        return f"{count.wanted - count.answers} more are needed"
    if looks >= TRIAL_LOOKS:
        return f"it was refused {looks} times, which is the most. Roll it back"
    if count.others < count.wanted:
        return f"{count.others} answers beside it are too few to compare; {count.wanted} are needed"
    loss = count.others_accepted - count.accepted
    if loss > MARGIN + 1e-9:
        return f"it is {100 * loss:.1f} points worse; {100 * MARGIN:.0f} are allowed"
    return None


async def _count(feedback: FeedbackStore, trial: Release, *, until: datetime) -> TrialCount:
    """Count the latest verdict or send of each answer, by the ranker that served it."""
    started = trial.content.trial_started_at
    assert started is not None  # noqa: S101 - the caller looked
    latest: dict[str, tuple[datetime, bool, bool]] = {}
    async for event in feedback.read(started, until):
        good = _accepted(event)
        known = latest.get(event.answer_id)
        if good is None or event.asked_at < started or (known is not None and known[0] > event.at):
            continue
        is_trial = event.weights.get("ranker") == trial.content.artifact_hash
        latest[event.answer_id] = event.at, is_trial, good
    arms = [[good for _, is_trial, good in latest.values() if is_trial is arm] for arm in (True, False)]
    shares = [sum(arm) / len(arm) if arm else 0.0 for arm in arms]
    return TrialCount(len(arms[0]), shares[0], len(arms[1]), shares[1], trial.content.least_sample)


def _accepted(event: FeedbackEvent) -> bool | None:
    if event.kind is FeedbackKind.VERDICT:
        return event.label is VerdictLabel.GOOD
    return sent_as_shown(event) is not False if event.kind is FeedbackKind.SENT else None


def number(known: Sequence[Stored]) -> int:
    """Return the highest number of a release; 0 where there is none."""
    return max((int(one.name.rpartition("-")[2]) for one in known), default=0)
