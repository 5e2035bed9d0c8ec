"""``assistant learn ranking|releases|promote|rollback|questions``: ranker weights from agents' feedback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import typer

from assistant.cli.evaluate import committed, observe_all, open_services
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import local_runtime
from assistant.cli.terminal import Terminal, plain, table
from assistant.domain.clock import SystemClock
from assistant.domain.desk import ReleaseState
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.judging import Judge, Observer
from assistant.evaluation.questions import EvaluationQuestion, load_questions
from assistant.private_files import make_private_folder, write_private
from assistant.tuning.gate import Check, ProtectedQuestion, ProtectedSet, protected_question, read_protected
from assistant.tuning.learn_ranking import LearningRequest, LearnRanking
from assistant.tuning.releases import LearningReport, Release, Releases, TrialCount
from assistant.wiring.feedback import open_learning

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
        until = _utc(self.until) if self.until is not None else now
        since = _utc(self.since) if self.since is not None else until - timedelta(days=DAYS)
        if since >= until:
            raise ConfigurationError(f"--since {since:%Y-%m-%d} is not before --until {until:%Y-%m-%d}.")
        return LearningRequest(
            since=since, until=until, seed=self.seed, share_percent=self.share_percent, dry_run=self.dry_run
        )


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def learn_ranking(options: GlobalOptions, chosen: RankingOptions) -> None:
    """Learn, ask the protected questions and show the release. Status 1 where the gate refused it."""
    terminal, clock = Terminal(), SystemClock()
    request = chosen.request(now=clock.now())
    if chosen.protected is not None:
        protected = read_protected(chosen.protected, tenant=chosen.tenant)
    else:
        protected = observe_questions(options, terminal, tenant=chosen.tenant)

    async def learn() -> Release:
        async with open_learning(
            options.tenant(chosen.tenant), state_dir=options.state_dir.resolve()
        ) as stores:
            learner = LearnRanking(
                tenant=chosen.tenant,
                feedback=stores.feedback,
                desk=stores.desk,
                protected=protected,
                clock=clock,
            )
            return await learner.learn(request)

    with terminal.waiting("learning"):
        release = asyncio.run(learn())
    if options.json:
        terminal.json(_as_json(release))
    else:
        show_release(terminal, release, dry_run=chosen.dry_run)
    if release.content.state is ReleaseState.REFUSED and not chosen.dry_run:
        raise typer.Exit(1)


def list_releases(options: GlobalOptions, *, tenant: str) -> None:
    """Show every release, newest first."""

    async def read() -> list[Release]:
        async with open_learning(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
            return await Releases(stores.desk, clock=SystemClock()).all()

    terminal, found = Terminal(), asyncio.run(read())
    if options.json:
        terminal.json([_as_json(release) for release in found])
        return
    rows = [
        (
            one.name,
            one.content.state.value,
            f"{one.item.at:%Y-%m-%d %H:%M}",
            str(one.content.signals),
            one.content.artifact_hash[:12],
            one.item.note[:80],
        )
        for one in found
    ]
    headings = ("release", "state", "since", "signals", "artifact", "note")
    terminal.out.print(
        table(*headings, right=("signals",), rows=rows)
        if rows
        else plain("No release yet: the shipped ranker serves.")
    )


def promote(options: GlobalOptions, *, tenant: str) -> None:
    """Make the trial live. Raises ConflictError with the count where it may not be."""

    async def move() -> tuple[Release, TrialCount]:
        async with open_learning(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
            return await Releases(stores.desk, clock=SystemClock()).promote(stores.feedback)

    terminal, (release, count) = Terminal(), asyncio.run(move())
    if options.json:
        terminal.json({"release": release.name, "state": release.content.state.value, "count": str(count)})
    else:
        terminal.out.print(plain(f"{release.name} is live: {count}."))


def roll_back(options: GlobalOptions, *, tenant: str) -> None:
    """Take the newest release back, and bring the one before back."""

    async def move() -> tuple[Release, Release | None]:
        async with open_learning(options.tenant(tenant), state_dir=options.state_dir.resolve()) as stores:
            return await Releases(stores.desk, clock=SystemClock()).roll_back()

    terminal, (taken, serves) = Terminal(), asyncio.run(move())
    now_serves = serves.name if serves is not None else "shipped"
    if options.json:
        terminal.json({"rolled_back": taken.name, "serves": now_serves})
    else:
        said = "the shipped ranker" if serves is None else serves.name
        terminal.out.print(plain(f"{taken.name} is rolled back; {said} serves within seconds."))


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


def show_release(terminal: Terminal, release: Release, *, dry_run: bool) -> None:
    """Print what was learned, from what, and what the gate says."""
    content, report = release.content, release.report
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
    terminal.out.print(_weights_table(report))
    for line in _facts(report):
        terminal.out.print(plain(line))
    for half, checks in (("open half", report.gate.open_half), ("sealed half", report.gate.sealed_half)):
        if checks:
            terminal.out.print(_checks_table(half, checks))
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


def _weights_table(report: LearningReport):
    rows = [
        (name, f"{report.weights_before.get(name, 0.0):.4f}", f"{after:.4f}")
        for name, after in report.weights_after.items()
    ]
    rows += [(f"offset of {name}", "", f"{value:+.4f}") for name, value in report.largest_offsets.items()]
    return table("weight", "before", "after", right=("before", "after"), rows=rows)


def _facts(report: LearningReport) -> list[str]:
    gate = report.gate
    trust = ", ".join(f"{name} {right:.2f} / {wrong:.2f}" for name, (right, wrong) in report.channels.items())
    left = ", ".join(f"{count} {reason}" for reason, count in report.left_out.items())
    lines = [
        f"{report.questions} different questions",
        f"{report.offsets} documents have an offset; share of the step that is kept: "
        f"weights {gate.share_of_weights:g}, offsets {gate.share_of_offsets:g}",
        f"mean loss of an answer {report.loss_before:.4f} before, {report.loss_after:.4f} after",
        f"accepted when right / wrong: {trust}",
    ]
    if report.examination:
        seen = ", ".join(f"{value:.2f}" for value in report.examination[:5])
        lines.append(f"examined at positions 1 to 5: {seen}")
    if report.agents_left_out:
        lines.append(f"agents left out, who contradict all others: {', '.join(report.agents_left_out)}")
    return [*lines, *([f"left out: {left}"] if left else [])]


def _checks_table(half: str, checks: Sequence[Check]):
    rows = [
        (
            one.name,
            str(one.questions),
            f"{one.before:.1%}",
            f"{one.after:.1%}",
            f"{100 * one.low:+.1f}",
            f"{100 * one.bound:+.1f}",
            "passed" if one.passed else "FAILED",
        )
        for one in checks
    ]
    numbers = ("n", "before", "after", "low", "bound")
    return table(half, *numbers, "", right=numbers, rows=rows)


def _as_json(release: Release) -> Mapping[str, object]:
    content = release.content.model_dump(mode="json", exclude={"weights_json", "report"})
    report = json.loads(release.content.report) if release.content.report else None
    return {"release": release.name, "note": release.item.note, **content, "report": report}
