"""How long retrieval takes over an index that ``benchmarks.indexing --keep FOLDER`` built.

    python -m benchmarks.retrieval --index FOLDER --questions FILE.jsonl [--count N]

One retrieval is what an answer does: the question is embedded through the SageMaker client, the gateway and
the model server, then both legs are searched. Questions are ``{"question": …}`` lines, plain or gzip.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import orjson
from opentelemetry import trace

from assistant.answering.retrieving import RetrievePassages
from assistant.answering.steps import Steps
from assistant.bootstrap import open_tenants
from assistant.domain.clock import Deadline, SystemClock
from assistant.settings import ServiceSettings
from benchmarks.local_embedding import TENANT, BenchLayout, embedding_path, machine_line

AT_ONCE = 8
_WARM_UP = 20
_SEED = 20261120
_TIMEOUT_S = 30.0

Timings = Mapping[str, float]
"""Milliseconds by step: ``embed``, ``search``, and ``both`` around them."""
Retrieve = Callable[[str], Awaitable[Timings]]


def read_questions(path: Path, count: int) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        questions = [orjson.loads(line)["question"] for line in file if line.strip()]
    return random.Random(_SEED).choices(questions, k=count)


def report(name: str, times_ms: Sequence[float]) -> None:
    ordered = sorted(times_ms)
    p50, p95 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95))
    print(f"{name:<28}p50 {p50:6.1f} ms   p95 {p95:6.1f} ms   of {len(ordered)}", flush=True)


async def one_by_one(retrieve: Retrieve, questions: Sequence[str]) -> None:
    times = [await retrieve(question) for question in questions]
    report("one at a time", [one["both"] for one in times])
    report("  of it, embedding", [one["embed"] for one in times])
    report("  of it, search", [one["search"] for one in times])


async def several_at_once(retrieve: Retrieve, questions: Sequence[str]) -> None:
    waiting = iter(questions)
    times: list[Timings] = []

    async def asker() -> None:
        for question in waiting:
            times.append(await retrieve(question))

    began_s = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(AT_ONCE)))
    seconds = time.perf_counter() - began_s
    report(f"{AT_ONCE} at once", [one["both"] for one in times])
    report("  of it, embedding", [one["embed"] for one in times])
    report("  of it, search", [one["search"] for one in times])
    print(f"{'':<28}{len(times) / seconds:.0f} retrievals a second")


async def measure(layout: BenchLayout, gateway_url: str, questions: Sequence[str]) -> None:
    settings = ServiceSettings(
        tenants_dir=layout.tenants_dir,
        state_dir=layout.state_dir,
        model_artifacts_dir=layout.models_dir,
        sagemaker_endpoint_url=gateway_url,
        issuer=gateway_url,
        jwks_url=gateway_url,
    )
    clock = SystemClock()
    async with open_tenants(settings, generates=False) as tenants:
        services = tenants[TENANT].answering
        retrieval = RetrievePassages(services)

        async def retrieve(question: str) -> Timings:
            steps = Steps(trace.INVALID_SPAN, clock=clock)
            deadline = Deadline.after(_TIMEOUT_S, clock=clock)
            with steps.step("both", span_name="both"):
                found = await retrieval.retrieve(question, labels=frozenset(), deadline=deadline, steps=steps)
            assert found.passages
            return steps.timings_ms

        info = await services.search.info()
        print(f"index                       {info.document_count} documents, {info.passage_count} passages")
        for question in questions[:_WARM_UP]:
            await retrieve(question)
        await one_by_one(retrieve, questions)
        await several_at_once(retrieve, questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True, help="what benchmarks.indexing --keep made")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--count", type=int, default=300)
    arguments = parser.parse_args()
    layout = BenchLayout(arguments.index)
    questions = read_questions(arguments.questions, arguments.count)
    print(f"machine                     {machine_line()}")
    with embedding_path(layout, with_worker=False) as path:
        asyncio.run(measure(layout, path.gateway_url, questions))
    print(f"machine                     {machine_line()}")


if __name__ == "__main__":
    main()
