"""Retrieval over an index of ``benchmarks.indexing --keep FOLDER``: its times, and two engines' answers.

    python -m benchmarks.retrieval --index FOLDER --questions medquad.jsonl.gz [--node FOLDER]

``--node``: what ``benchmarks.indexing --keep FOLDER --opensearch-url URL`` made. Then the node is timed, and
compared with the embedded engine.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, quantiles
from time import perf_counter

import orjson

from assistant.answer.sources import SearchScope, SourceSearch
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import Retrieved
from assistant.evaluation.questions import load_questions
from assistant.evaluation.routing import ndcg
from assistant.process.settings import ServiceSettings
from assistant.service.opened import open_tenants
from benchmarks.indexing import TENANT, BenchLayout, on_node
from tools.tables import Figure, machine_line, print_figures

TOP = 10
AT_ONCE = 8
_COUNT = 400
"""Questions whose retrieval is timed."""
_QUESTIONS = Path(__file__).parents[1] / "evaluation" / "clinic.jsonl"
_WHOLE_LEGS = 200
_TIMEOUT_S = 30.0
_WARM_UP = 20
_SEED = 20260101


def read_questions(path: Path, count: int) -> list[str]:
    """Draw questions of the documents: ``count``, or one for each document where there are fewer."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        questions = [orjson.loads(line)["question"] for line in file if line.strip()]
    return random.Random(_SEED).choices(questions, k=min(count, len(questions)))


# --- times ----------------------------------------------------------------------------------------------


async def measure_times(
    settings: ServiceSettings, questions: Sequence[str], *, most_p50_ms: float
) -> list[Figure]:
    """Retrieve for each question, alone and several at once."""
    async with open_tenants(settings, generates=False) as tenants:
        retrieval = SourceSearch(tenants[TENANT].answering)

        async def retrieve_ms(question: str) -> float:
            began_s = perf_counter()
            retrieved = await _retrieve(retrieval, question)
            assert retrieved.passages
            return (perf_counter() - began_s) * 1000

        for question in questions[:_WARM_UP]:
            await retrieve_ms(question)
        alone = [await retrieve_ms(question) for question in questions]
        waiting, at_once = iter(questions), list[float]()

        async def ask() -> None:
            for question in waiting:
                at_once.append(await retrieve_ms(question))

        began_s = perf_counter()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        per_s = len(at_once) / (perf_counter() - began_s)
    p50_ms, p95_ms = quantiles(alone, n=100)[49], quantiles(at_once, n=100)[94]
    return [
        Figure(
            "hybrid retrieval, embedding included, p50",
            f"≤ {most_p50_ms:.0f} ms",
            f"{p50_ms:.1f} ms (p95 {quantiles(alone, n=100)[94]:.1f} ms)",
            p50_ms <= most_p50_ms,
        ),
        Figure(
            f"the same, p95 at {AT_ONCE} at once",
            "≤ 80 ms",
            f"{p95_ms:.1f} ms, {per_s:.0f} a second",
            p95_ms <= 80,
        ),
    ]


async def _retrieve(retrieval: SourceSearch, question: str, *, size: int | None = None) -> Retrieved:
    deadline = Deadline.after(_TIMEOUT_S, clock=SystemClock())
    scope = SearchScope.untraced(deadline) if size is None else SearchScope.untraced(deadline, size=size)
    (vector,) = await retrieval.embed([question], scope)
    return (await retrieval.run(question, vector=vector, scope=scope)).retrieved


def _ranked(retrieved: Retrieved) -> list[str]:
    """Return distinct document ids by their best passage."""
    ordered = sorted(retrieved.passages, key=lambda one: one.rank)
    return list(dict.fromkeys(hit.passage.document_id for hit in ordered))


# --- two engines ----------------------------------------------------------------------------------------


async def compare_engines(
    embedded: ServiceSettings, real: ServiceSettings, questions: Sequence[str]
) -> list[Figure]:
    """Ask both engines the committed questions and the given ones. The first stands for what is right."""
    judged = [question for question in load_questions(_QUESTIONS) if question.answerable]
    asked = list(dict.fromkeys([*(question.question for question in judged), *questions]))
    answers = [await _ask(settings, asked) for settings in (embedded, real)]
    first, second = (
        fmean(ndcg(_ranked(found[q.question]), q.documents) for q in judged) for found in answers
    )
    best = [[_best(found[question]) for question in asked] for found in answers]
    alike = fmean(len(wanted & other) / len(wanted) for wanted, other in zip(*best, strict=True) if wanted)
    return [
        Figure(
            "nDCG@10 of OpenSearch and of the embedded engine",
            "≤ 0.01 apart",
            f"{second:.3f} and {first:.3f}",
            abs(first - second) <= 0.01,
            timed=False,
        ),
        Figure(f"top {TOP} alike", "≥ 0.85", f"{alike:.3f}", alike >= 0.85, timed=False),
    ]


async def _ask(settings: ServiceSettings, questions: Sequence[str]) -> dict[str, Retrieved]:
    async with open_tenants(settings, generates=False) as tenants:
        retrieval = SourceSearch(tenants[TENANT].answering)
        return {question: await _retrieve(retrieval, question, size=_WHOLE_LEGS) for question in questions}


def _best(retrieved: Retrieved) -> set[str]:
    ranked = [(passage.rank, passage.passage.passage_id) for passage in retrieved.passages]
    return {name for rank, name in ranked if rank <= TOP}


def measure_retrieval(
    layout: BenchLayout, questions: Sequence[str], *, node: BenchLayout | None, url: str
) -> list[Figure]:
    """Measure the embedded engine; with a node the one at ``url`` instead, and both engines' answers."""
    embedded = _service(layout)
    if node is None:
        return asyncio.run(measure_times(embedded, questions, most_p50_ms=25))
    real = _service(node).model_copy(update=on_node(url))
    # first what needs no clock: a node that just started answers three times slower until it is warm
    alike = asyncio.run(compare_engines(embedded, real, questions))
    return [*asyncio.run(measure_times(real, questions, most_p50_ms=30)), *alike]


def _service(layout: BenchLayout) -> ServiceSettings:
    return ServiceSettings(
        tenants_dir=layout.tenants_dir,
        state_dir=layout.state_dir,
        model_artifacts_dir=layout.models_dir,
        models="embedded",
        issuer="http://127.0.0.1:1",
        jwks_url="http://127.0.0.1:1/jwks.json",
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", type=Path, required=True, help="what benchmarks.indexing --keep made")
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--node", type=Path, help="what it made with --opensearch-url")
    parser.add_argument("--opensearch-url", default="http://127.0.0.1:9200")
    given, before = parser.parse_args(), machine_line()
    figures = measure_retrieval(
        BenchLayout(given.index),
        read_questions(given.questions, _COUNT),
        node=None if given.node is None else BenchLayout(given.node),
        url=given.opensearch_url,
    )
    return print_figures(figures, before=before)


if __name__ == "__main__":
    raise SystemExit(main())
