"""``assistant learn ranking|releases|promote|rollback|questions``: ranker weights from agents' feedback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import typer

from assistant.cli.evaluate import committed, observe_all, open_services
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import local_runtime
from assistant.cli.terminal import GlobalOptions, Terminal, plain, table
from assistant.domain.clock import SystemClock
from assistant.domain.desk import RankerRelease, ReleaseState, RouterRelease
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.judging import Judge, Observer
from assistant.evaluation.questions import EvaluationQuestion, load_questions
from assistant.private_files import make_private_folder, write_private
from assistant.tuning.gate import Check, ProtectedQuestion, ProtectedSet, protected_question, read_protected
from assistant.tuning.releases import (
    LearningReport,
    LearningRequest,
    LearnRanking,
    Release,
    Releases,
    RouterReleases,
    TrialCount,
    report_of,
)
from assistant.wiring.feedback import LearningStores, open_learning

Result = TypeVar("Result")
DAYS = 28
"""Of the window, where none is named."""


@dataclass(frozen=True, slots=True)
class RankingOptions:
    """The options of ``learn ranking``. Dates without a time zone are UTC."""

    tenant: str
    since: datetime | None = None
    until: datetime | None = None
    seed: int = 0
    share_percent: int = 10
    dry_run: bool = False
    protected: Path | None = None

    def request(self, *, now: datetime) -> LearningRequest:
        """Return the request. Raises ConfigurationError for a window that ends before it begins."""
        until = now if self.until is None else _utc(self.until)
        since = until - timedelta(days=DAYS) if self.since is None else _utc(self.since)
        if since >= until:
            raise ConfigurationError(f"--since {since:%Y-%m-%d} is not before --until {until:%Y-%m-%d}.")
        return LearningRequest(
            since=since, until=until, seed=self.seed, share_percent=self.share_percent, dry_run=self.dry_run
        )


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def with_stores(
    options: GlobalOptions, tenant: str, use: Callable[[LearningStores], Awaitable[Result]]
) -> Result:
    """Return what ``use`` returns of the tenant's embedded stores."""

    async def run() -> Result:
        async with open_learning(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
            return await use(stores)

    return asyncio.run(run())


def learn_ranking(options: GlobalOptions, chosen: RankingOptions) -> None:
    """Learn, ask the protected questions and show the release. Status 1 where the gate refused it."""
    terminal, clock = Terminal(), SystemClock()
    request = chosen.request(now=clock.now())
    if chosen.protected is not None:
        protected = read_protected(chosen.protected, tenant=chosen.tenant)
    else:
        protected = observe_questions(options, terminal, tenant=chosen.tenant)

    async def learn(stores: LearningStores) -> Release[RankerRelease]:
        return await LearnRanking(
            tenant=chosen.tenant,
            feedback=stores.feedback,
            desk=stores.desk,
            protected=protected,
            clock=clock,
        ).learn(request)

    with terminal.waiting("learning"):
        release = with_stores(options, chosen.tenant, learn)
    if options.json:
        terminal.json(as_json(release))
    else:
        _show(terminal, release, dry_run=chosen.dry_run)
    if release.content.state is ReleaseState.REFUSED and not chosen.dry_run:
        raise typer.Exit(1)


def list_releases(options: GlobalOptions, *, tenant: str) -> None:
    """Show every release, newest first."""
    terminal = Terminal()
    known = with_stores(options, tenant, lambda stores: Releases(stores.desk, clock=SystemClock()).all())
    if options.json:
        terminal.json([as_json(release) for release in known])
        return
    rows = [
        (
            release.name,
            release.content.state.value,
            f"{release.item.at:%Y-%m-%d %H:%M}",
            str(release.content.signals),
            release.content.artifact_hash[:12],
            release.item.note[:80],
        )
        for release in known
    ]
    headings = ("release", "state", "since", "signals", "artifact", "note")
    empty = plain("No release yet: the shipped ranker serves.")
    terminal.out.print(table(*headings, right=("signals",), rows=rows) if rows else empty)


def promote(options: GlobalOptions, *, tenant: str) -> None:
    """Make the trial live. Raises ConflictError with the count where it may not be."""

    async def move(stores: LearningStores) -> tuple[Release[RankerRelease], TrialCount]:
        return await Releases(stores.desk, clock=SystemClock()).promote(stores.feedback)

    terminal, (release, count) = Terminal(), with_stores(options, tenant, move)
    if options.json:
        terminal.json({"release": release.name, "state": release.content.state.value, "count": str(count)})
    else:
        terminal.out.print(plain(f"{release.name} is live: {count}."))


def roll_back(
    options: GlobalOptions, *, tenant: str, kind: type[Releases | RouterReleases] = Releases
) -> None:
    """Take the newest release of the ranker or router back, and bring the one before back."""

    async def move(stores: LearningStores) -> tuple[str, str | None]:
        taken, serves = await kind(stores.desk, clock=SystemClock()).roll_back()
        return taken.name, None if serves is None else serves.name

    terminal, (taken, serves) = Terminal(), with_stores(options, tenant, move)
    if options.json:
        terminal.json({"rolled_back": taken, "serves": serves or kind.fallback})
    else:
        terminal.out.print(plain(f"{taken} is rolled back; now serving: {serves or kind.fallback}."))


def write_questions(options: GlobalOptions, *, tenant: str, out: Path) -> None:
    """Observe the tenant's evaluation questions and write them for a job that has no index at hand."""
    terminal = Terminal()
    protected = observe_questions(options, terminal, tenant=tenant)
    make_private_folder(out.parent)
    write_private(out, protected.model_dump_json().encode())
    terminal.out.print(plain(f"{out}: {len(protected.questions)} questions, {protected.left_out} left out."))


def observe_questions(options: GlobalOptions, terminal: Terminal, *, tenant: str) -> ProtectedSet:
    """Ask the committed questions through the answer path and keep what ranking knew of their candidates.

    Raises ConfigurationError without questions, and what the local processes raise.
    """
    path = committed(options) / f"{tenant}.jsonl"
    if not path.is_file():
        raise ConfigurationError(
            f"{tenant} has no evaluation questions ({path}): a ranker that nothing evaluates is not released."
        )
    questions = load_questions(path)
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.for_loading, command="assistant learn") as ports:
        asyncio.run(load_if_empty(runtime, tenant))

        async def observe() -> tuple[list[ProtectedQuestion], str, str]:
            async with open_services(runtime, ports, [tenant]) as services:
                observer = Observer(services[tenant])
                await observer.check(questions)
                info = await services[tenant].search.info()
                found = await _observed(observer, questions, terminal)
                return found, info.index_version, observer.weights["ranker"]

        found, index_version, ranker = asyncio.run(observe())
    return ProtectedSet(
        tenant=tenant,
        questions_sha256=sha256(path.read_bytes()).hexdigest(),
        index_version=index_version,
        ranker=ranker,
        left_out=len(questions) - len(found),
        questions=tuple(found),
    )


async def _observed(
    observer: Observer, questions: Sequence[EvaluationQuestion], terminal: Terminal
) -> list[ProtectedQuestion]:
    judge, earlier = Judge(observer), {question.qid: question.question for question in questions}
    asked = [question for question in questions if question.answerable]
    found: list[ProtectedQuestion] = []
    with terminal.counting("asking the protected questions", "questions") as show:
        done = 0
        async for observed in observe_all(observer, asked, earlier):
            one = protected_question(observed, await judge.result(observed))
            found += [one] if one is not None else []
            done += 1
            show(done, len(asked))
    return found


def _show(terminal: Terminal, release: Release[RankerRelease], *, dry_run: bool) -> None:
    """Print what was learned, from what, and what the gate says."""
    content, report = release.content, report_of(release.content)
    since, until = content.window
    state = "dry run, nothing is stored" if dry_run else content.state.value
    terminal.out.print(plain(f"{release.name}: {state}", style="bold"))
    terminal.out.print(
        plain(
            f"{content.signals} answers by {content.agents} agents, {since:%Y-%m-%d} to {until:%Y-%m-%d}, "
            f"seed {content.seed}; artifact {content.artifact_hash[:16]}"
        )
    )
    if report is None:
        return
    rows = [
        (name, f"{report.weights_before.get(name, 0.0):.4f}", f"{after:.4f}")
        for name, after in report.weights_after.items()
    ]
    rows += [(f"offset of {name}", "", f"{value:+.4f}") for name, value in report.largest_offsets.items()]
    terminal.out.print(table("weight", "before", "after", right=("before", "after"), rows=rows))
    for line in _facts(report):
        terminal.out.print(plain(line))
    show_checks(terminal, "open half", report.gate.open_half)
    show_checks(terminal, "sealed half", report.gate.sealed_half)
    for reason in report.gate.refused_because:
        terminal.out.print(plain(f"refused: {reason}", style="yellow"))
    if content.state is ReleaseState.TRIAL:
        ends = content.trial_ends_at
        terminal.out.print(
            plain(
                f"on trial for {content.share_percent} % of conversations until {ends:%Y-%m-%d}; "
                f"{content.least_sample} verdicts and sends are needed: assistant learn promote"
            )
        )


def _facts(report: LearningReport) -> list[str]:
    gate = report.gate
    trust = ", ".join(f"{name} {right:.2f} / {wrong:.2f}" for name, (right, wrong) in report.channels.items())
    left = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items())
    lines = [
        f"{report.offsets} documents have an offset; share of the step that is kept: "
        f"weights {gate.share_of_weights:g}, offsets {gate.share_of_offsets:g}",
        f"accepted when right / wrong: {trust}",
    ]
    if report.agents_left_out:
        lines.append(f"agents left out, who contradict all others: {', '.join(report.agents_left_out)}")
    return [*lines, *([f"left out: {left}"] if left else [])]


def show_checks(terminal: Terminal, title: str, checks: Sequence[Check]) -> None:
    """Print what a gate compared, if anything."""
    rows = [
        (
            check.name,
            str(check.questions),
            f"{check.before:.1%}",
            f"{check.after:.1%}",
            f"{100 * check.low:+.1f}",
            f"{100 * check.bound:+.1f}",
            "passed" if check.passed else "FAILED",
        )
        for check in checks
    ]
    numbers = ("n", "before", "after", "low", "bound")
    if rows:
        terminal.out.print(table(title, *numbers, "", right=numbers, rows=rows))


def as_json(release: Release[RankerRelease] | Release[RouterRelease]) -> Mapping[str, object]:
    """Return a release without the artifact."""
    content = release.content.model_dump(mode="json", exclude={"weights_json", "router_json", "report"})
    report = json.loads(release.content.report) if release.content.report else None
    return {"release": release.name, "note": release.item.note, **content, "report": report}
