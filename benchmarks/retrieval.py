"""How long retrieval takes over an index that ``benchmarks.indexing --keep FOLDER`` built.

    python -m benchmarks.retrieval --index FOLDER --questions FILE.jsonl [--count N] [--search opensearch]

With ``--search opensearch`` the same passages are searched on a real node (``make opensearch-up``, or
``--opensearch-url``), and the two engines' answers are compared: nDCG@10 on the clinic's committed questions,
and how much of the top 10 is the same. A bound that does not hold fails the run.

One retrieval is what an answer begins with: the question is embedded through the SageMaker client, the
gateway and the model server, then all legs are searched. On the embedded engine the rest of an answer's
preparation follows (``benchmarks.preparation``). Questions are ``{"question": …}`` lines, plain or gzip.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from opentelemetry import trace

from assistant.answering.retrieve import RetrievePassages
from assistant.answering.services import Steps
from assistant.domain.clock import Deadline, SystemClock
from assistant.settings.process import ServiceSettings
from assistant.wiring.services import open_tenants
from benchmarks.local_embedding import TENANT, BenchLayout, embedding_path, machine_line
from benchmarks.opensearch_copy import copy_index
from benchmarks.preparation import PreparationFigures, measure_preparation
from benchmarks.twin_engines import TwinFigures, compare_engines

AT_ONCE = 8
MOST_P50_MS = 30.0
MOST_NDCG_APART = 0.01
LEAST_OVERLAP = 0.85
"""What is asked of a real node, over 16,407 documents."""
_WARM_UP = 20
_SEED = 20261120
_TIMEOUT_S = 30.0

Timings = Mapping[str, float]
"""Milliseconds by step: ``embed``, ``search``, and ``both`` around them."""
Retrieve = Callable[[str], Awaitable[Timings]]


@dataclass(frozen=True, slots=True)
class RetrievalFigures:
    """Times of retrievals one at a time, and of those with AT_ONCE on their way at any moment."""

    documents: int
    passages: int
    alone: Sequence[Timings]
    at_once: Sequence[Timings]
    at_once_per_s: float
    machine: str

    def p50_ms(self) -> float:
        return percentile(self.alone, "both", 0.5)

    def p95_at_once_ms(self) -> float:
        return percentile(self.at_once, "both", 0.95)

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        lines = [f"index           {self.documents} documents, {self.passages} passages"]
        for name, times in (("one at a time", self.alone), (f"{AT_ONCE} at once", self.at_once)):
            for step, label in (("both", name), ("embed", "  embedding"), ("search", "  search")):
                p50, p95 = percentile(times, step, 0.5), percentile(times, step, 0.95)
                lines.append(f"{label:<16}p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   of {len(times)}")
        lines.append(f"throughput      {self.at_once_per_s:.0f} retrievals a second, {AT_ONCE} at once")
        lines.append(f"machine         {self.machine}")
        return lines


def percentile(times: Sequence[Timings], step: str, share: float) -> float:
    ordered = sorted(one[step] for one in times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def read_questions(path: Path, count: int) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        questions = [orjson.loads(line)["question"] for line in file if line.strip()]
    return random.Random(_SEED).choices(questions, k=count)


def measure_retrieval(layout: BenchLayout, questions: Sequence[str]) -> RetrievalFigures:
    """Retrieve for each question over the layout's index, alone and several at once."""
    before = machine_line()
    with embedding_path(layout, with_worker=False) as path:
        figures = asyncio.run(_measure(_embedded(layout, path.gateway_url), questions))
    return replace(figures, machine=f"before: {before}; after: {machine_line()}")


def measure_first_text(layout: BenchLayout, questions: Sequence[str]) -> PreparationFigures:
    """Prepare an answer to each question over the layout's index, and ask the service for it."""
    with embedding_path(layout, with_worker=False) as path:
        return measure_preparation(layout, _embedded(layout, path.gateway_url), questions)


def measure_on_opensearch(
    layout: BenchLayout, questions: Sequence[str], *, url: str
) -> tuple[RetrievalFigures, TwinFigures]:
    """Put the layout's index into the node, measure it there, and compare both engines' answers."""
    copied_s = asyncio.run(copy_index(layout, url=url))
    if copied_s is not None:
        print(f"copied          in {copied_s:.0f} s", flush=True)
    before = machine_line()
    with embedding_path(layout, with_worker=False) as path:
        embedded = _embedded(layout, path.gateway_url)
        real = embedded.model_copy(
            update={"search": "opensearch", "opensearch_url": url, "opensearch_auth": "none"}
        )
        # first what needs no clock: a node that just started answers three times slower until it is warm
        twins = asyncio.run(compare_engines(embedded, real, questions=questions))
        figures = asyncio.run(_measure(real, questions))
    return replace(figures, machine=f"before: {before}; after: {machine_line()}"), twins


def _embedded(layout: BenchLayout, gateway_url: str) -> ServiceSettings:
    return ServiceSettings(
        tenants_dir=layout.tenants_dir,
        state_dir=layout.state_dir,
        model_artifacts_dir=layout.models_dir,
        sagemaker_endpoint_url=gateway_url,
        issuer=gateway_url,
        jwks_url=gateway_url,
    )


async def _measure(settings: ServiceSettings, questions: Sequence[str]) -> RetrievalFigures:
    async with open_tenants(settings, generates=False) as tenants:
        services = tenants[TENANT].answering
        info = await services.search.info()
        retrieve = _timed(RetrievePassages(services))
        for question in questions[:_WARM_UP]:
            await retrieve(question)
        alone = [await retrieve(question) for question in questions]
        at_once, per_s = await _several_at_once(retrieve, questions)
    return RetrievalFigures(
        documents=info.document_count,
        passages=info.passage_count,
        alone=alone,
        at_once=at_once,
        at_once_per_s=per_s,
        machine="",
    )


def _timed(retrieval: RetrievePassages) -> Retrieve:
    clock = SystemClock()

    async def retrieve(question: str) -> Timings:
        steps = Steps(trace.INVALID_SPAN, clock=clock)
        deadline = Deadline.after(_TIMEOUT_S, clock=clock)
        with steps.step("both"):
            (vector,) = await retrieval.embed([question], deadline=deadline, steps=steps)
            found = await retrieval.retrieve(
                question, vector=vector, labels=frozenset(), deadline=deadline, steps=steps
            )
        assert found.passages
        return steps.timings_ms

    return retrieve


async def _several_at_once(retrieve: Retrieve, questions: Sequence[str]) -> tuple[list[Timings], float]:
    waiting = iter(questions)
    times: list[Timings] = []

    async def asker() -> None:
        for question in waiting:
            times.append(await retrieve(question))

    began_s = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(AT_ONCE)))
    return times, len(times) / (time.perf_counter() - began_s)


def holds(figures: RetrievalFigures, twins: TwinFigures, *, judge_times: bool) -> bool:
    """Print what is asked of a real node beside what was measured; return whether all of it holds."""
    in_time = figures.p50_ms() <= MOST_P50_MS or not judge_times
    rows = (
        ("retrieval p50", figures.p50_ms(), MOST_P50_MS, in_time),
        ("nDCG@10 apart", twins.ndcg_apart(), MOST_NDCG_APART, twins.ndcg_apart() <= MOST_NDCG_APART),
        ("top-10 overlap", twins.overlap, LEAST_OVERLAP, twins.overlap >= LEAST_OVERLAP),
    )
    for what, value, bound, kept in rows:
        print(f"{what:<16}{value:.3f}, asked {bound:g}{'' if kept else '  ← missed'}")
    return all(kept for *_, kept in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True, help="what benchmarks.indexing --keep made")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--search", choices=("embedded", "opensearch"), default="embedded")
    parser.add_argument("--opensearch-url", default="http://127.0.0.1:9200")
    parser.add_argument("--judge", choices=("all", "quality"), default="all", help="what may fail the run")
    arguments = parser.parse_args()
    questions = read_questions(arguments.questions, arguments.count)
    layout = BenchLayout(arguments.index)
    if arguments.search == "embedded":
        print(*measure_retrieval(layout, questions).lines(), sep="\n", flush=True)
        print(*measure_first_text(layout, questions).lines(), sep="\n")
        return 0
    figures, twins = measure_on_opensearch(layout, questions, url=arguments.opensearch_url)
    print(*figures.lines(), *twins.lines(), sep="\n")
    return 0 if holds(figures, twins, judge_times=arguments.judge == "all") else 1


if __name__ == "__main__":
    raise SystemExit(main())
