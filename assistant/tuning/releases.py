"""Keeps what a tenant learned as releases on its desk: one form, and one way back, for ranker weights and for
routers.

Releases are desk items by number (``ranker-000001``, ``router-000001``, …), refused ones too: those of the
ranker are also the ledger of looks at the sealed half of the protected questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import ConfigDict

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
    """Count the latest verdict or send of each answer, by the ranker that served it."""
    latest: dict[str, tuple[datetime, bool, bool]] = {}
    async for event in feedback.read(since, until):
        good = _accepted(event)
        known = latest.get(event.answer_id)
        if good is None or event.asked_at < since or (known is not None and known[0] > event.at):
            continue
        is_trial = event.weights.get("ranker") == trial.artifact_hash
        latest[event.answer_id] = event.at, is_trial, good
    arms = [[good for _, is_trial, good in latest.values() if is_trial is arm] for arm in (True, False)]
    shares = [sum(arm) / len(arm) if arm else 0.0 for arm in arms]
    return TrialCount(len(arms[0]), shares[0], len(arms[1]), shares[1], trial.least_sample)


def _accepted(event: FeedbackEvent) -> bool | None:
    if event.kind is FeedbackKind.VERDICT:
        return event.label is VerdictLabel.GOOD
    return sent_as_shown(event) is not False if event.kind is FeedbackKind.SENT else None
