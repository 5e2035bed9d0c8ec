"""Retrieval over an index that ``benchmarks.indexing --keep FOLDER`` built: latency, overlap of engines.

The embedded index is copied into OpenSearch, because embedding the same texts twice takes minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import sqlite3
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import fmean

import orjson
from opensearchpy import AsyncOpenSearch
from opentelemetry import trace

from assistant.answering.rank import candidates, rank, shipped_weights
from assistant.answering.search import Search, SearchScope
from assistant.answering.services import Steps
from assistant.aws.opensearch_client import open_opensearch
from assistant.aws.opensearch_index import OpenSearchPassageIndex
from assistant.aws.opensearch_schema import PassageSchema, apply_schema, delete_index
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import IndexedDocument, Retrieved
from assistant.embedded import passage_rows as rows
from assistant.evaluation.measures import LEGS, ranked_documents, retrieval_quality
from assistant.evaluation.questions import load_questions
from assistant.model_artifacts import read_model_facts
from assistant.settings.process import ServiceSettings
from assistant.settings.tenant import load_tenant
from assistant.wiring.services import open_tenants
from benchmarks.local_embedding import TENANT, BenchLayout, embedding_path, machine_line
from benchmarks.preparation import PreparationFigures, measure_preparation, percentile, times_line

ALIAS = f"{TENANT}-passages"
_DOCUMENTS_A_WRITE = 200


async def copy_index(layout: BenchLayout, *, url: str) -> float | None:
    """Fill the alias's index with the embedded one's passages, and no others, unless it has as many already;
    return the seconds it took."""
    tenant = load_tenant(layout.tenants_dir / f"{TENANT}.toml")
    name, dimensions = tenant.embedding.model, tenant.embedding.dimensions
    digest = read_model_facts(layout.models_dir, name).digest
    version = rows.index_version(rows.IndexModel(name, dimensions, digest))
    folder = layout.state_dir / "tenants" / TENANT / "index" / version
    schema = PassageSchema(embedding_model=name, dimensions=dimensions, model_digest=digest)
    async with open_opensearch(url=url, auth="none") as client:
        return await _fill(client, schema, folder / rows.PASSAGES_FILE)


async def _fill(client: AsyncOpenSearch, schema: PassageSchema, file: Path) -> float | None:
    await apply_schema(client, alias=ALIAS, schema=schema)
    index = OpenSearchPassageIndex(client, alias=ALIAS, schema=schema)
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        passages, _ = rows.count_rows(connection)
        if (await index.info()).passage_count == passages:
            return None
        await delete_index(client, alias=ALIAS)  # another run's passages would be found too
        await apply_schema(client, alias=ALIAS, schema=schema)
        documents = _documents(connection)
        began_s = time.monotonic()
        while batch := list(islice(documents, _DOCUMENTS_A_WRITE)):
            await index.replace_documents(batch)
        await index.optimize()
        return time.monotonic() - began_s
    finally:
        connection.close()


def _documents(connection: sqlite3.Connection) -> Iterator[IndexedDocument]:
    def vectors(table: str) -> dict[int, list[float]]:
        found = rows.vector_rows(connection, table, None)
        return {entry.row: array("f", entry.vector).tolist() for entry in found}

    passages, titles = vectors(rows.PASSAGE_VECTORS), vectors(rows.TITLE_VECTORS)
    for document in rows.documents_of(connection, None, with_units=True):
        yield IndexedDocument(
            card=document.card,
            title_vectors=[titles[row] for row, _ in document.titles],
            passages=[(passage, passages[row]) for row, passage in document.passages],
        )


# --- overlap of two engines -----------------------------------------------------------------------------


TOP = 10
_QUESTIONS = Path(__file__).parents[1] / "evaluation" / "clinic.jsonl"
_TIMEOUT_S = 30.0
_WHOLE_LEGS = 200


@dataclass(frozen=True, slots=True)
class TwinFigures:
    """Each engine's quality on the committed questions, and how much of their answers is the same."""

    ndcg: Mapping[str, tuple[float, float]]
    """By leg: nDCG@10 of the embedded engine and of OpenSearch."""
    overlap: float
    """Mean share of the embedded engine's best 10 passages that are among OpenSearch's."""
    legs_overlap: Mapping[str, float]
    same_first: float
    same_document: float
    """Share of the questions for which the first ranking puts the same document first."""
    cosine_apart: float
    """The largest difference between the two best raw cosines of a question."""

    def ndcg_apart(self) -> float:
        embedded, real = self.ndcg["hybrid"]
        return abs(embedded - real)

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        lines = [
            f"nDCG@10         {leg}: embedded {embedded:.3f}, opensearch {real:.3f}"
            for leg, (embedded, real) in self.ndcg.items()
        ]
        legs = ", ".join(f"{leg} {share:.3f}" for leg, share in self.legs_overlap.items())
        lines.append(f"top {TOP} alike     {self.overlap:.3f} ({legs}); the first {self.same_first:.3f}")
        lines.append(f"best document   {self.same_document:.3f} alike, by the ranking of all legs")
        lines.append(f"best cosines    {self.cosine_apart:.1e} apart at most")
        return lines


async def compare_engines(
    embedded: ServiceSettings, real: ServiceSettings, *, questions: Sequence[str]
) -> TwinFigures:
    """Ask both engines the committed questions and the given ones. The first stands for what is right."""
    judged = [question for question in load_questions(_QUESTIONS) if question.answerable]
    asked = list(dict.fromkeys([*(question.question for question in judged), *questions]))
    answers = [await _ask(settings, asked) for settings in (embedded, real)]
    ndcg: dict[str, tuple[float, float]] = {}
    for leg in LEGS:
        first, second = (
            retrieval_quality(
                judged, {q.qid: ranked_documents(found[q.question].passages, leg=leg) for q in judged}
            )["ndcg@10"]
            for found in answers
        )
        ndcg[leg] = (first, second)
    pairs = [(answers[0][question], answers[1][question]) for question in asked]
    return TwinFigures(
        ndcg=ndcg,
        overlap=fmean(_overlap(a, b, key="rank") for a, b in pairs),
        legs_overlap={
            "bm25": fmean(_overlap(a, b, key="lexical_rank") for a, b in pairs),
            "vectors": fmean(_overlap(a, b, key="vector_rank") for a, b in pairs),
        },
        same_first=fmean(_best(a, 1, "rank") == _best(b, 1, "rank") for a, b in pairs),
        same_document=fmean(_best_document(a) == _best_document(b) for a, b in pairs),
        cosine_apart=max(abs(a.best_cosine - b.best_cosine) for a, b in pairs),
    )


async def _ask(settings: ServiceSettings, questions: Sequence[str]) -> dict[str, Retrieved]:
    clock = SystemClock()
    async with open_tenants(settings, generates=False) as tenants:
        retrieval = Search(tenants[TENANT].answering)
        found: dict[str, Retrieved] = {}
        for question in questions:
            scope = SearchScope.untraced(Deadline.after(_TIMEOUT_S, clock=clock), size=_WHOLE_LEGS)
            (vector,) = await retrieval.embed([question], scope)
            asked = await retrieval.run(question, vector=vector, scope=scope)
            found[question] = asked.retrieved
        return found


def _overlap(first: Retrieved, second: Retrieved, *, key: str) -> float:
    wanted = _best(first, TOP, key)
    return len(wanted & _best(second, TOP, key)) / len(wanted) if wanted else 1.0


def _best_document(found: Retrieved) -> str | None:
    ranked = rank(candidates(found), weights=shipped_weights("ranker"))
    return ranked[0].document_id if ranked else None


def _best(found: Retrieved, count: int, key: str) -> set[str]:
    ranked = [(getattr(one, key), one.passage.passage_id) for one in found.passages]
    return {name for rank, name in ranked if rank is not None and rank <= count}


# --- latency --------------------------------------------------------------------------------------------


AT_ONCE = 8
MOST_P50_MS = 30.0
MOST_NDCG_APART = 0.01
LEAST_OVERLAP = 0.85
"""What is asked of a real node, over 16,407 documents."""
_WARM_UP = 20
_SEED = 20261120

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
        return percentile([times["both"] for times in self.alone], 0.5)

    def p95_at_once_ms(self) -> float:
        return percentile([times["both"] for times in self.at_once], 0.95)

    def lines(self) -> list[str]:
        """Return the report, one figure a line."""
        lines = [f"index           {self.documents} documents, {self.passages} passages"]
        for name, times in (("one at a time", self.alone), (f"{AT_ONCE} at once", self.at_once)):
            for step, label in (("both", name), ("embed", "  embedding"), ("search", "  search")):
                lines.append(times_line(label, [one[step] for one in times]))
        lines.append(f"throughput      {self.at_once_per_s:.0f} retrievals a second, {AT_ONCE} at once")
        lines.append(f"machine         {self.machine}")
        return lines


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
        retrieve = _timed(Search(services))
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


def _timed(retrieval: Search) -> Retrieve:
    clock = SystemClock()

    async def retrieve(question: str) -> Timings:
        steps = Steps(trace.INVALID_SPAN, clock=clock)
        deadline = Deadline.after(_TIMEOUT_S, clock=clock)
        with steps.step("both"):
            scope = SearchScope(frozenset(), deadline, steps)
            (vector,) = await retrieval.embed([question], scope)
            asked = await retrieval.run(question, vector=vector, scope=scope)
        assert asked.retrieved.passages
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
