"""``make fit``: learns the shipped weights files from the tuning halves of the committed questions.

    python -m tools.fit_weights [--tenant T ...] [--state DIR] [--dry-run]

The questions are asked four times: as the weights are; with the new ranker and the new weights of units;
with the new order of documents, for the gate to be fitted on, as they are and as short messages; and for the
figures. The head of readings is
fitted on the vectors of the same questions and of the shop's. An error, Ctrl-C and --dry-run leave the files
as they were.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from typing import get_args

import numpy as np

from assistant.answering.rank import INDEX_FEATURES, Kind, shipped_weights
from assistant.answering.reading import HeadFile, head_counts, shipped_head
from assistant.answering.services import TenantServices
from assistant.answering.vocabulary import Vocabulary
from assistant.cli.evaluate import committed, observe_all, open_services
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.terminal import Terminal, plain
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import AssistantError
from assistant.evaluation.fitting import (
    PENALTY,
    Choice,
    document_choices,
    fit_listwise,
    fit_logistic,
    gate_rows,
    ranker_choices,
    unit_choices,
    weights_file,
)
from assistant.evaluation.judging import Judge, Observed, Observer
from assistant.evaluation.measures import MEASURES, Results, estimates
from assistant.evaluation.questions import EvaluationQuestion, QuestionResult, load_questions

_SHOWN = ("right", "right_with_also", "telltale", "first", "three", "answered", "possibly", "refused")
_SHOWN_OF_UNANSWERABLE = ("false_answered", "true_refused")

Questions = Mapping[str, Sequence[EvaluationQuestion]]
_KINDS = {
    "fact": "fact",
    "comparison": "compare",
    "recommendation": "recommend",
    "opinion": "opinion",
    "order": "live",
}
"""Kinds of the shop's questions, as readings call them."""
_HEAD_SCALE = 3.0
"""Of a unit-length vector beside the counts, so that one penalty suits both."""
_HEAD_PENALTY = 0.001
_LEANS_EARLIER = 1.5
"""Added to the bias: of 14 follow-ups among 300 questions the plain threshold would miss half (chosen on the
tuning half: all of it found, no other question)."""
_RULES_EVERY = 3
_EMBEDDED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class _Fit:
    """One fit: asks the questions of all tenants, over services that stay open."""

    runtime: LocalRuntime
    questions: Questions
    short: Questions
    """The same questions as messages of two to seven words: the gate is fitted on them, too."""
    fitted_on: str
    gate_fitted_on: str
    shop: Path
    """Questions of a shop with their kinds."""

    async def run(self, services: Mapping[str, TenantServices], folder: Path) -> None:
        before, observed = await self._ask(services, "before", self.questions)
        self._listwise(folder, "ranker", ranker_choices(observed), list(INDEX_FEATURES))
        for kind in ("units", "unit_vectors"):
            names = list(shipped_weights(kind).features)
            self._listwise(folder, kind, unit_choices(observed, names), names)
        _, observed = await self._ask(services, "with new units", self.questions)
        for kind in ("unit_vectors", "reranker"):
            names = list(shipped_weights(kind).features)
            choices = unit_choices if kind == "unit_vectors" else document_choices
            self._listwise(folder, kind, choices(observed, names), names)
        _, observed = await self._ask(services, "with new order", self.questions)
        _, observed_short = await self._ask(services, "short", self.short)
        names = list(shipped_weights("gate").features)
        values, bias = fit_logistic(*gate_rows([*observed, *observed_short], names), penalty=PENALTY["gate"])
        self._write(folder, "gate", names, values, bias=bias, fitted_on=self.gate_fitted_on)
        await self._fit_head(folder, next(iter(services.values())))
        after, _ = await self._ask(services, "after", self.questions)
        for tenant in services:
            self._show(tenant, before[tenant], after[tenant])

    def _listwise(self, folder: Path, kind: Kind, choices: Sequence[Choice], names: Sequence[str]) -> None:
        values = fit_listwise(choices, penalty=PENALTY[kind])
        self._write(folder, kind, names, values, fitted_on=self.fitted_on)

    async def _fit_head(self, folder: Path, services: TenantServices) -> None:
        """Fit whether a question leans on the one before it, and its kind."""
        asked = [one for every in self.questions.values() for one in every if one.split == "tuning"]
        vectors = await self._vectors(services, [one.question for one in asked])
        vocabulary = Vocabulary.of(services.tenant)
        counts = [head_counts(one.question, vocabulary) for one in asked]
        rows = np.hstack([_HEAD_SCALE * vectors, np.array(counts)])
        leans = [one.kind == "follow_up" for one in asked]
        weights, bias = _raw_logistic(rows, leans)
        shop = [json.loads(line) for line in self.shop.read_text(encoding="utf-8").splitlines()]
        named = [(one["question"], _KINDS[one["kind"]]) for one in shop if one["kind"] in _KINDS]
        rules = [(one.question, "rule") for one in asked if one.answerable][::_RULES_EVERY]
        questions, kinds = zip(*named, *rules, strict=True)
        names = tuple(sorted(set(kinds)))
        of_kinds = await self._vectors(services, questions)
        fitted = [_raw_logistic(_HEAD_SCALE * of_kinds, [kind == name for kind in kinds]) for name in names]
        head = HeadFile(
            embedding_model=services.tenant.embedding.model,
            leans_bias=round(bias + _LEANS_EARLIER, 4),
            leans_counts=_three(weights[-3:]),
            leans_vector=tuple(round(_HEAD_SCALE * one, 3) for one in weights[:-3]),
            kinds=names,
            kind_bias=tuple(round(one, 4) for _, one in fitted),
            kind_vectors=tuple(tuple(round(_HEAD_SCALE * one, 3) for one in row) for row, _ in fitted),
            fitted_on=f"{self.fitted_on}; {self.shop.name}",
        )
        (folder / "reading.json").write_bytes(json.dumps(head.model_dump(mode="json")).encode() + b"\n")
        shipped_head.cache_clear()

    async def _vectors(self, services: TenantServices, texts: Sequence[str]) -> np.ndarray:
        vectors: list[list[float]] = []
        for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
            deadline = Deadline.after(30.0, clock=SystemClock())
            vectors += await services.embedder.embed(
                texts[start : start + _EMBEDDED_AT_ONCE], deadline=deadline
            )
        return np.array(vectors)

    async def _ask(
        self, services: Mapping[str, TenantServices], when: str, asked: Questions
    ) -> tuple[dict[str, Results], list[Observed]]:
        """Ask questions with the current files; return results, and the tuning halves' observations."""
        results: dict[str, Results] = {}
        tuning: list[Observed] = []
        for tenant, questions in asked.items():
            observer = Observer(services[tenant])
            await observer.check(questions)
            judge = Judge(observer)
            earlier = {question.qid: question.question for question in questions}
            found: dict[str, QuestionResult] = {}
            with self.runtime.terminal.counting(f"{when}: {tenant}", "questions") as show:
                async for one in observe_all(observer, questions, earlier):
                    found[one.question.qid] = await judge.result(one)
                    if one.question.split == "tuning":
                        tuning.append(one)
                    show(len(found), len(questions))
            results[tenant] = found
        return results, tuning

    def _write(
        self,
        folder: Path,
        kind: Kind,
        names: Sequence[str],
        values: Sequence[float],
        *,
        fitted_on: str,
        bias: float = 0.0,
    ) -> None:
        raw = weights_file(kind, names, values, fitted_on=fitted_on, bias=bias)
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


def _raw_logistic(rows: np.ndarray, labels: Sequence[bool]) -> tuple[list[float], float]:
    """Fit without standardising: the dimensions of a vector are alike as they are."""
    return fit_logistic(rows, labels, penalty=_HEAD_PENALTY, standardise=False)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = (round(value, 4) for value in values)
    return first, second, third


@contextmanager
def _restored(folder: Path, *, always: bool) -> Generator[None]:
    """Restore the weights files after an error, or always."""
    names = (*get_args(Kind), "reading")
    kept = {path: path.read_bytes() for path in (folder / f"{name}.json" for name in names)}
    done = False
    try:
        yield
        done = True
    finally:
        if always or not done:
            for path, raw in kept.items():
                path.write_bytes(raw)
            shipped_weights.cache_clear()
            shipped_head.cache_clear()


def _hashes(paths: Iterable[Path]) -> str:
    """Return the files' names, each with 16 hex digits of its SHA-256."""
    return ", ".join(
        f"{path.parent.name}/{path.name} (SHA-256 {sha256(path.read_bytes()).hexdigest()[:16]})"
        for path in paths
    )


async def _fit(runtime: LocalRuntime, ports: Mapping[str, int], folder: Path, tenants: Sequence[str]) -> None:
    folder_of_questions = committed(runtime.options)
    paths = {tenant: folder_of_questions / f"{tenant}.jsonl" for tenant in tenants}
    short_paths = {tenant: folder_of_questions / "short" / f"{tenant}.jsonl" for tenant in tenants}
    async with open_services(runtime, ports, tenants) as services:
        fit = _Fit(
            runtime,
            {tenant: load_questions(path) for tenant, path in paths.items()},
            {tenant: load_questions(path) for tenant, path in short_paths.items()},
            fitted_on=f"tuning halves of {_hashes(paths.values())}",
            gate_fitted_on=f"tuning halves of {_hashes((*paths.values(), *short_paths.values()))}",
            shop=folder_of_questions / "shop" / "tuning.jsonl",
        )
        await fit.run(services, folder)


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
