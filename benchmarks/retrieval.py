"""Measures the times of retrieval over an index of ``benchmarks.indexing --keep FOLDER``.

The targets are those of docs/benchmarks.md. Call it as:

python -m benchmarks.retrieval --index FOLDER --questions medquad.jsonl.gz [--copies 9]

``--copies`` first writes that many copies of each document under other ids, with vectors drawn by chance: the
time of an exact search depends on their number alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import numpy as np
import orjson

from assistant.answer.embed import EmbedTexts
from assistant.answer.find import SourceSearch
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import IndexedDocument, Retrieved, StoredDocument
from assistant.evaluation.judging import untraced
from assistant.process.settings import ServiceSettings
from assistant.service.opened import open_ingestion, open_tenants
from benchmarks.indexing import TENANT, BenchLayout
from tools.tables import Figure, machine_line, print_figures

AT_ONCE = 8
"""Concurrent retrievals of the second measurement."""
_COUNT = 400
"""Questions whose retrieval is timed."""
_DIMENSIONS = 384
_PAGE = 500
"""Documents of a write."""
_TIMEOUT_S = 30.0
_WARM_UP = 20
_SEED = 20260101


def read_questions(path: Path, count: int) -> list[str]:
    """Draw questions of the documents, with replacement: ``count``, or as many as there are documents.

    ``path`` has a line of JSON for each document; its field ``question`` is read.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        questions = [orjson.loads(line)["question"] for line in file if line.strip()]
    return random.Random(_SEED).choices(questions, k=min(count, len(questions)))


async def write_copies(layout: BenchLayout, copies: int) -> Figure:
    """Write ``copies`` of each document into the index, and return how many a second it took."""
    chance, began_s = np.random.default_rng(_SEED), perf_counter()
    async with open_ingestion(layout.worker_settings) as (tenant,):
        names = await tenant.index.document_ids()
        for begin in range(0, len(names), _PAGE):
            stored = await tenant.index.read(names[begin : begin + _PAGE])
            for number in range(copies):
                await tenant.index.replace_documents([_copy(each, number, chance) for each in stored])
    count, spent_s = len(names) * copies, perf_counter() - began_s
    rate = f"{count / spent_s:.0f} documents/s"
    return Figure(f"{count:,} copies written, without embedding", "", rate, holds=True)


def _copy(document: StoredDocument, number: int, chance: np.random.Generator) -> IndexedDocument:
    """Return a copy of a document under another id, with vectors of unit length drawn by ``chance``."""
    name, titles = f"{document.card.document_id}-{number}", 1 + len(document.card.questions)
    vectors = chance.standard_normal((titles + len(document.passages), _DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    passages = [
        (replace(passage, passage_id=f"{name}#{passage.ordinal}", document_id=name), vector)
        for passage, vector in zip(document.passages, vectors[titles:], strict=True)
    ]
    return IndexedDocument(replace(document.card, document_id=name), vectors[:titles], passages)


async def measure_times(settings: ServiceSettings, questions: Sequence[str]) -> list[Figure]:
    """Retrieve for each question, one at a time and then ``AT_ONCE`` at once; return both figures, the time
    from a start to the first result, and the memory."""
    opened_s = perf_counter()
    async with open_tenants(settings, generates=False) as tenants:
        services = tenants[TENANT].answering
        embed, retrieval = EmbedTexts(services), SourceSearch(services)

        async def retrieve_ms(question: str) -> float:
            began_s = perf_counter()
            retrieved = await _retrieve(embed, retrieval, question)
            assert retrieved.passages
            return (perf_counter() - began_s) * 1000

        await retrieve_ms(questions[0])
        first_s = perf_counter() - opened_s
        for question in questions[:_WARM_UP]:
            await retrieve_ms(question)
        alone_ms = [await retrieve_ms(question) for question in questions]
        remaining, concurrent_ms = iter(questions), list[float]()

        async def ask() -> None:
            for question in remaining:
                concurrent_ms.append(await retrieve_ms(question))

        began_s = perf_counter()
        await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
        per_s = len(concurrent_ms) / (perf_counter() - began_s)
    p50_ms, p95_ms = quantiles(alone_ms, n=100)[49], quantiles(concurrent_ms, n=100)[94]
    return [
        Figure(
            "hybrid retrieval, embedding included, p50",
            "≤ 25 ms",
            f"{p50_ms:.1f} ms (p95 {quantiles(alone_ms, n=100)[94]:.1f} ms)",
            p50_ms <= 25,
        ),
        Figure(
            f"the same, p95 at {AT_ONCE} at once",
            "≤ 80 ms",
            f"{p95_ms:.1f} ms, {per_s:.0f} a second",
            p95_ms <= 80,
        ),
        Figure("from the start of a process to its first result", "", f"{first_s:.1f} s", holds=True),
        Figure(
            "memory of that process at its peak",
            "",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB",
            holds=True,
        ),
    ]


async def _retrieve(embed: EmbedTexts, retrieval: SourceSearch, question: str) -> Retrieved:
    """Embed the question and search by its words and its vector, as an answer does."""
    call = untraced(Deadline.after(_TIMEOUT_S, clock=SystemClock()))
    vectors = await embed.run([question], call)
    return (await retrieval.run(question, vector=vectors[question], call=call)).retrieved


def _service(layout: BenchLayout) -> ServiceSettings:
    """Return the service's settings over the index. No token is verified, so nothing calls the issuer."""
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
    parser.add_argument("--copies", type=int, default=0, help="of each document, written first")
    options, before = parser.parse_args(), machine_line()
    layout = BenchLayout(options.index)
    written = [asyncio.run(write_copies(layout, options.copies))] if options.copies else []
    questions = read_questions(options.questions, _COUNT)
    figures = asyncio.run(measure_times(_service(layout), questions))
    return print_figures([*written, *figures], before=before)


if __name__ == "__main__":
    raise SystemExit(main())
