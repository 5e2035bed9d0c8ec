"""``make fit``: learns the shipped weights files from the tuning halves of every tenant's questions.

    python -m tools.fit_weights [--tenant T ...] [--state DIR] [--dry-run]

The questions are asked three times: as the weights are, with the new ranker, reranker and quoter for the
gate to be fitted on, and with the new gate and thresholds for the figures. An error, Ctrl-C and --dry-run
leave the weights files as they were.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from typing import get_args

from assistant.answering.retrieve import Kind, shipped_weights
from assistant.answering.services import TenantServices
from assistant.cli.evaluate import committed, observe_all, open_services
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal, plain
from assistant.domain.errors import AssistantError
from assistant.evaluation.fitting import (
    PULL,
    Thresholds,
    choose_thresholds,
    fit_gate,
    fit_listwise,
    gate_rows,
    message_probability,
    prior_of,
    quoter_choices,
    ranker_choices,
    reranker_choices,
    weights_file,
)
from assistant.evaluation.judging import Judge, Observed, Observer
from assistant.evaluation.measures import MEASURES, Results, estimates
from assistant.evaluation.questions import EvaluationQuestion, QuestionResult, load_questions
from assistant.settings.tenant import GateSection

_SHOWN = ("right", "right_with_also", "telltale", "first", "three", "answered", "possibly", "refused")
_SHOWN_OF_UNANSWERABLE = ("false_answered", "true_refused")

Questions = Mapping[str, Sequence[EvaluationQuestion]]
AllObserved = Mapping[str, Sequence[Observed]]


@dataclass(frozen=True, slots=True)
class _Fit:
    """One fit: asks the questions of all tenants, over services that stay open."""

    runtime: LocalRuntime
    questions: Questions
    fitted_on: str

    async def run(self, services: Mapping[str, TenantServices], folder: Path) -> None:
        before, observed = await self._ask(services, "before")
        self._fit_order(folder, observed)
        _, observed = await self._ask(services, "with new order")
        thresholds = self._fit_gate(folder, observed)
        gated = {
            name: replace(one, tenant=one.tenant.model_copy(update={"gate": _section(thresholds[name])}))
            for name, one in services.items()
        }
        after, _ = await self._ask(gated, "after")
        for tenant in services:
            self._show(tenant, before[tenant], after[tenant])
            found = thresholds[tenant]
            gate = f"[gate] answered = {found.answered}  possibly = {found.possibly}"
            self._print(f"tenants/{tenant}.toml: {gate}", style="bold")

    async def _ask(
        self, services: Mapping[str, TenantServices], when: str
    ) -> tuple[dict[str, Results], AllObserved]:
        """Ask every question with the current files; return results, and the tuning halves' observations."""
        results: dict[str, Results] = {}
        tuning: dict[str, list[Observed]] = {}
        for tenant, questions in self.questions.items():
            observer = Observer(services[tenant])
            await observer.check(questions)
            judge = Judge(observer)
            earlier = {question.qid: question.question for question in questions}
            tuning[tenant] = []
            found: dict[str, QuestionResult] = {}
            with self.runtime.terminal.counting(f"{when}: {tenant}", "questions") as show:
                async for one in observe_all(observer, questions, earlier):
                    found[one.question.qid] = await judge.result(one)
                    if one.question.split == "tuning":
                        tuning[tenant].append(one)
                    show(len(found), len(questions))
            results[tenant] = found
        return results, tuning

    def _fit_order(self, folder: Path, observed: AllObserved) -> None:
        every = [one for tenant in observed.values() for one in tenant]
        kinds: tuple[Kind, ...] = ("ranker", "quoter", "reranker")
        names = {kind: list(shipped_weights(kind).features) for kind in kinds}
        ranker_before = shipped_weights("ranker")
        ranker = fit_listwise(ranker_choices(every), prior_of("ranker", names["ranker"]), pull=PULL["ranker"])
        quoter = fit_listwise(
            quoter_choices(every, names["quoter"]), prior_of("quoter", names["quoter"]), pull=PULL["quoter"]
        )
        choices = reranker_choices(
            every,
            names["reranker"],
            ranker_before=ranker_before,
            ranker=dict(zip(names["ranker"], ranker, strict=True)),
            quoter=dict(zip(names["quoter"], quoter, strict=True)),
        )
        reranker = fit_listwise(choices, prior_of("reranker", names["reranker"]), pull=PULL["reranker"])
        for kind, values in zip(kinds, (ranker, quoter, reranker), strict=True):
            self._write(folder, kind, names[kind], values)

    def _fit_gate(self, folder: Path, observed: AllObserved) -> dict[str, Thresholds]:
        names = list(shipped_weights("gate").features)
        rows = [row for tenant in observed.values() for row in gate_rows(tenant)]
        values, bias = fit_gate(rows, names, pull=PULL["gate"])
        self._write(folder, "gate", names, values, bias=bias)
        weights = shipped_weights("gate")
        return {
            tenant: choose_thresholds(
                (message_probability(one, weights), one.question.answerable) for one in asked
            )
            for tenant, asked in observed.items()
        }

    def _write(
        self, folder: Path, kind: Kind, names: Sequence[str], values: Sequence[float], *, bias: float = 0.0
    ) -> None:
        raw = weights_file(kind, names, values, fitted_on=self.fitted_on, bias=bias)
        (folder / f"{kind}.json").write_bytes(raw)
        shipped_weights.cache_clear()

    def _show(self, tenant: str, before: Results, after: Results) -> None:
        for split in ("tuning", "held_out"):
            was, now = (estimates(results, split=split) for results in (before, after))
            self._print(f"{tenant}, {split.replace('_', ' ')}", style="bold")
            for measure in MEASURES:
                if measure.name in (*_SHOWN, *_SHOWN_OF_UNANSWERABLE) and measure.name in now:
                    values = f"{was[measure.name].value:.3f} → {now[measure.name].value:.3f}"
                    self._print(f"  {measure.title:52} {values}")

    def _print(self, line: str, *, style: str = "") -> None:
        self.runtime.terminal.out.print(plain(line, style=style))


def _section(found: Thresholds) -> GateSection:
    return GateSection(answered=found.answered, possibly=found.possibly)


@contextmanager
def _restored(folder: Path, *, always: bool) -> Generator[None]:
    """Restore the weights files after an error, or always."""
    kept = {path: path.read_bytes() for path in (folder / f"{kind}.json" for kind in get_args(Kind))}
    done = False
    try:
        yield
        done = True
    finally:
        if always or not done:
            for path, raw in kept.items():
                path.write_bytes(raw)
            shipped_weights.cache_clear()


async def _fit(runtime: LocalRuntime, ports: Mapping[str, int], folder: Path, tenants: Sequence[str]) -> None:
    folder_of_questions = committed(runtime.options)
    paths = {tenant: folder_of_questions / f"{tenant}.jsonl" for tenant in tenants}
    hashes = ", ".join(
        f"{path.name} (SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]})" for path in paths.values()
    )
    questions = {tenant: load_questions(path) for tenant, path in paths.items()}
    async with open_services(runtime, ports, tenants) as services:
        await _Fit(runtime, questions, fitted_on=f"tuning halves of {hashes}").run(services, folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tenant", action="append", metavar="T")
    parser.add_argument("--tenants", type=Path, default=Path("tenants"), metavar="DIR")
    parser.add_argument("--state", type=Path, default=Path(".state"), metavar="DIR")
    parser.add_argument("--port", type=int, metavar="N")
    parser.add_argument("--dry-run", action="store_true", help="put the weights files back afterwards")
    arguments = parser.parse_args()
    options = GlobalOptions(
        tenants_dir=arguments.tenants, state_dir=arguments.state, port=arguments.port, json=False
    )
    terminal = Terminal()
    tenants: list[str] = arguments.tenant or ["pharmacy", "clinic"]
    try:
        runtime = local_runtime(options, terminal)
        with (
            as_file(files("assistant.answering").joinpath("weights")) as folder,
            runtime.processes(runtime.layout.for_loading, command="make fit") as ports,
            _restored(folder, always=arguments.dry_run),
        ):
            for tenant in tenants:
                asyncio.run(load_if_empty(runtime, tenant))
            asyncio.run(_fit(runtime, ports, folder, tenants))
    except AssistantError as error:
        terminal.err.print(plain(f"fit: {error.message}", style="red"))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
