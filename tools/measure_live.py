"""Measures which live elements questions read: recall of what is asked, and reads that nobody asked for.

    python -m tools.measure_live evaluation/live/tuning.jsonl --tenant pharmacy

It prepares each answer as the service does, with the local index and models, and calls no live system.
``--show`` prints the misses; do not use it on a file that must stay blind.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from pydantic import Field

from assistant.answering.adaptations import Adaptations
from assistant.answering.prepare import AnswerRequest, FollowUpRequest, PrepareAnswer
from assistant.answering.services import TenantServices
from assistant.cli.evaluate import open_adapted
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal
from assistant.domain.answers import LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.elements import ElementProblem
from assistant.domain.identity import Identity, Role
from assistant.domain.live import CareContext
from assistant.domain.public import PublicModel
from assistant.live.ports import Caller, ElementType, Filled, LiveElements, LiveReadError

_CONTEXT = CareContext(
    agent="measuring",
    customer="PT-204417",
    ids={"customer": ("PT-204417",), "order": ("4471-2208",), "prescription": ("7301842-04417",)},
    expires_at=datetime(9999, 1, 1, tzinfo=UTC),
)
_READ = frozenset({LiveMatchState.READ, LiveMatchState.SHOWN})
"""One that the quoted document shows is asked for, too."""
_DEADLINE_S = 30.0
_RESAMPLES, _SEED = 1_000, 20_261_121


class LiveQuestion(PublicModel):
    """One line of ``evaluation/live/*.jsonl``; its README has the fields."""

    id: str = Field(min_length=1)
    tenant: str
    question: str = Field(min_length=1)
    before: str | None = None
    wording: str = Field(min_length=1)
    asks: tuple[tuple[str, ...], ...]
    """For each value that is asked, the elements that show it, the best first."""


@dataclass(frozen=True, slots=True)
class LiveResult:
    question: LiveQuestion
    read: tuple[str, ...]
    """Elements that the question had read."""

    @property
    def needless(self) -> list[str]:
        """The elements that were read and show nothing that is asked."""
        wanted = {name for names in self.question.asks for name in names}
        return [name for name in self.read if name not in wanted]

    @property
    def is_right(self) -> bool:
        """Whether all that is asked was read, and nothing else."""
        found = all(any(name in self.read for name in names) for names in self.question.asks)
        return found and not self.needless


def load_asked(path: Path, *, tenant: str) -> list[LiveQuestion]:
    """Read the questions of one tenant. Raises ValidationError."""
    lines = path.read_text(encoding="utf-8").splitlines()
    questions = [LiveQuestion.model_validate_json(line) for line in lines if line.strip()]
    return [one for one in questions if one.tenant == tenant]


class NoCalls:
    """``LiveElements`` of a tenant that calls no system."""

    def __init__(self, offered: LiveElements) -> None:
        self._offered = offered

    def types(self) -> Mapping[str, ElementType]:
        return self._offered.types()

    def takes(self, name: str, word: str) -> bool:
        return self._offered.takes(name, word)

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        del name, caller, deadline
        raise LiveReadError(ElementProblem.SWITCHED_OFF, "No system is called while questions are measured.")


class LiveTrial:
    """Prepares the answers of one tenant, and says what they would read."""

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        offered = services.live_elements
        silent = replace(services, live_elements=None if offered is None else NoCalls(offered))
        self._preparing = PrepareAnswer(silent, adaptations)
        self._clock = services.clock
        roles = frozenset({Role.AGENT})
        labels = frozenset(services.tenant.labels)
        self._identity = Identity(services.tenant.name, _CONTEXT.agent, roles, labels)

    async def ask(self, one: LiveQuestion) -> LiveResult:
        """Raises what preparing an answer raises."""
        asking = AnswerRequest(question=one.question)
        if one.before is not None:
            asking = FollowUpRequest(question=one.question, earlier_question=one.before)
        prepared = await self._preparing.prepare(
            asking,
            identity=self._identity,
            deadline=Deadline.after(_DEADLINE_S, clock=self._clock),
            context=_CONTEXT,
        )
        prepared.hydration.cancel()
        prepared.steps.root.end()
        read = (each.element for each in prepared.live_matches if each.state in _READ)
        return LiveResult(one, tuple(dict.fromkeys(read)))


async def ask_all(
    runtime: LocalRuntime, ports: Mapping[str, int], questions: Sequence[LiveQuestion], *, tenant: str
) -> list[LiveResult]:
    async with open_adapted(runtime, ports, tenant) as (services, adaptations):
        trial = LiveTrial(services, adaptations)
        return [await trial.ask(question) for question in questions]


# Metrics


Counts = tuple[int, int]
"""How many, of how many."""


def _asked(one: LiveResult, *, best: bool) -> Counts | None:
    asks = one.question.asks
    read = (any(name in one.read for name in names[: 1 if best else None]) for names in asks)
    return (sum(read), len(asks)) if asks else None


def _read_wrongly(one: LiveResult) -> Counts | None:
    return None if one.question.asks else (bool(one.read), 1)


def _needless(one: LiveResult) -> Counts | None:
    return (bool(one.needless), 1) if one.question.asks else None


def _several(one: LiveResult) -> Counts | None:
    return (one.is_right, 1) if len(one.question.asks) > 1 else None


METRICS: Mapping[str, Callable[[LiveResult], Counts | None]] = {
    "asked values that an element shows": lambda one: _asked(one, best=False),
    "asked values with the best element": lambda one: _asked(one, best=True),
    "questions that ask a value, and more is read": _needless,
    "questions that ask none, and one is read": _read_wrongly,
    "questions that ask several, exactly right": _several,
}


def interval(results: Sequence[LiveResult], value: Callable[[LiveResult], Counts | None]) -> str | None:
    """Return a share with its 95 % interval, bootstrapped by wording; None where no question fits."""
    groups: dict[str, list[Counts]] = {}
    for one in results:
        if (counts := value(one)) is not None:
            groups.setdefault(f"{one.question.tenant}: {one.question.wording}", []).append(counts)
    if not groups:
        return None
    sums = np.array([[sum(column) for column in zip(*counts, strict=True)] for counts in groups.values()])
    draws = sums[np.random.default_rng(_SEED).integers(0, len(sums), (_RESAMPLES, len(sums)))].sum(axis=1)
    low, high = np.quantile(draws[:, 0] / draws[:, 1], (0.025, 0.975))
    found, of = sums.sum(axis=0)
    return f"{found:4} of {of:<4} {100 * found / of:5.1f} %  [{100 * low:.1f} to {100 * high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--state", type=Path, default=Path(".state"))
    parser.add_argument("--port", type=int, help="the first of the ports, where the usual ones are taken")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    questions = load_asked(asked.questions, tenant=asked.tenant)
    options = GlobalOptions(tenants_dir=asked.tenants, state_dir=asked.state, port=asked.port, json=False)
    runtime = local_runtime(options, Terminal())
    with runtime.processes(runtime.layout.for_loading, command="measure_live") as ports:
        asyncio.run(load_if_empty(runtime, asked.tenant))
        results = asyncio.run(ask_all(runtime, ports, questions, tenant=asked.tenant))
    out = sys.stdout
    out.write(f"{len(questions)} questions of {asked.questions} to {asked.tenant}\n")
    for name, value in METRICS.items():
        if (told := interval(results, value)) is not None:
            out.write(f"{name:<48}{told}\n")
    for one in results if asked.show else ():
        if not one.is_right:
            before = f"{one.question.before} → " if one.question.before else ""
            wanted = " + ".join("|".join(names) for names in one.question.asks) or "nothing"
            read = ", ".join(one.read) or "nothing"
            out.write(f"{before}{one.question.question}: asks {wanted}; read {read}\n")


if __name__ == "__main__":
    main()
