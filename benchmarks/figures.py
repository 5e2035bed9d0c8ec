"""The table of figures: what was asked, what this machine does.

    python -m benchmarks.figures --documents medquad.jsonl.gz    about ten minutes on two cores
    python -m benchmarks.figures            with the documents of the clinic, which are committed, instead

Each figure is measured through the production path by a module of its own beside this one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from assistant.cli.evaluate import EvaluationPlan, committed, questions_of, run_questions
from assistant.cli.global_options import GlobalOptions
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import local_runtime
from assistant.cli.terminal import Terminal
from assistant.evaluation.measures import MEASURES
from assistant.evaluation.report import asked_text
from assistant.evaluation.runs import TenantRun, bound_of, read_asked
from benchmarks.indexing import measure_indexing
from benchmarks.local_embedding import BenchLayout, machine_line
from benchmarks.retrieval import measure_retrieval, read_questions
from benchmarks.startup import measure_startup
from tools.tables import Figure, figures_table

ROOT = Path(__file__).parents[1]
TENANTS = ("pharmacy", "clinic")
_MIB = 1024 * 1024
_SAMPLE = ROOT / "knowledge" / "clinic" / "medquad.jsonl"


def indexing_and_retrieval(documents: Path) -> list[Figure]:
    """Index the documents twice, then retrieve their own questions from them."""
    with tempfile.TemporaryDirectory() as scratch:
        layout = BenchLayout(Path(scratch))
        index = measure_indexing(documents, layout=layout)
        found = measure_retrieval(layout, read_questions(documents, 400))
    tokens_per_s = index.tokens / index.seconds
    p50_ms, p95_ms = found.p50_ms(), found.p95_at_once_ms()
    return [
        Figure(
            f"embedding and indexing of {index.documents:,} documents, {index.tokens:,} passage tokens",
            "≥ 12,000 tokens/s",
            f"{tokens_per_s:,.0f} tokens/s, {index.live / index.seconds:.0f} documents/s",
            tokens_per_s >= 12_000 and index.live == index.documents,
        ),
        Figure(
            "memory of all its processes at the peak",
            "≤ 1.5 GiB",
            f"{index.peak_bytes / _MIB:,.0f} MiB",
            index.peak_bytes <= 1.5 * 1024 * _MIB,
        ),
        Figure(
            "second run over them unchanged",
            "≤ 15 s, nothing embedded",
            f"{index.second_seconds:.1f} s, {index.second_embedded} embedded",
            index.second_seconds <= 15 and index.second_embedded == 0,
        ),
        Figure("hybrid retrieval, embedding included, p50", "≤ 25 ms", f"{p50_ms:.1f} ms", p50_ms <= 25),
        Figure("the same, p95 at 8 at once", "≤ 80 ms", f"{p95_ms:.1f} ms", p95_ms <= 80),
    ]


def quality() -> list[Figure]:
    """Judge answers, ranking and gate on the held-out half of both tenants' questions."""
    with tempfile.TemporaryDirectory() as scratch:
        options = GlobalOptions(tenants_dir=ROOT / "tenants", state_dir=Path(scratch), port=0, json=False)
        runtime = local_runtime(options, Terminal())
        with runtime.processes(runtime.layout.for_loading, command="figures") as ports:
            for name in TENANTS:
                asyncio.run(load_if_empty(runtime, name))
            plan = EvaluationPlan(tenants=TENANTS)
            run = asyncio.run(run_questions(runtime, ports, questions_of(options, plan), plan))
    folder = committed(options)
    return [
        row
        for one in run.tenants
        for row in _quality_rows(one, read_asked(folder / "asked.toml", one.tenant))
    ]


def _quality_rows(run: TenantRun, asked: Mapping[str, float]) -> list[Figure]:
    judged = run.judged
    return [
        Figure(f"{run.tenant}: {measure.title}", asked_text(measure, bound), f"{now.value:.1%}", bound.is_met)
        for measure in MEASURES
        if (now := judged.get(measure.name)) and (bound := bound_of(measure, now, asked))
    ]


def startup() -> Figure:
    """Start the service without the embedded engine."""
    seconds, resident_bytes = measure_startup(rounds=5)
    return Figure(
        "service: from exec to ready, without the embedded engine",
        "≤ 2.5 s, ≤ 200 MiB",
        f"{seconds:.2f} s, {resident_bytes / _MIB:.0f} MiB",
        seconds <= 2.5 and resident_bytes <= 200 * _MIB,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=Path, default=_SAMPLE)
    arguments = parser.parse_args()
    before = machine_line()
    rows = [*indexing_and_retrieval(arguments.documents), *quality(), startup()]
    print(figures_table(rows), end="")
    print(f"\n{os.cpu_count()} cores; before: {before}; after: {machine_line()}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
