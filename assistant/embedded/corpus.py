"""Makes a corpus on this machine: parsing processes read documents, pyarrow writes the rows as Parquet.

Of each document only its MinHash and its id stay in memory, about 1 KB.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import orjson

from assistant.domain.errors import ConfigurationError
from assistant.knowledge import corpus
from assistant.knowledge.corpus import Candidate, CorpusRow, CorpusText, WantedDocument
from assistant.knowledge.parsing_process import ParsingProcess
from assistant.knowledge.ports import DocumentStore

try:
    import pyarrow as arrow
    from pyarrow import dataset
except ImportError:
    advice = "Run: .venv/bin/uv pip install --require-hashes -r requirements/corpus.txt"
    raise ConfigurationError(f"A corpus needs the extra packages of corpora. {advice}") from None

_TYPES = {"labels": arrow.list_(arrow.string()), "weight": arrow.float64()}
_SCHEMA = arrow.schema([(name, _TYPES.get(name, arrow.string())) for name in CorpusRow.__slots__])
_ROW_GROUP = 1024


async def write_corpus(
    folder: Path,
    wanted: AsyncIterator[Sequence[WantedDocument]],
    *,
    documents: DocumentStore,
    mix: Mapping[str, float],
    processes: int,
) -> corpus.Counts:
    """Write the rows into ``folder``, by document id, and return the counts.

    Raises LocalRuntimeError when no parsing process can be started, DependencyError.
    """
    made, left_out, candidates = Counter[str](), Counter[str](), list[tuple[bytes, Candidate]]()
    with tempfile.TemporaryFile(dir=folder) as draft:
        async for batch in _read(wanted, documents=documents, processes=processes):
            for text in batch:
                if isinstance(text, CorpusText):
                    candidates.append((text.signature, corpus.candidate_of(text, mix=mix)))
                    draft.write(orjson.dumps(text.row, option=orjson.OPT_APPEND_NEWLINE))
                else:
                    left_out[text] += 1
        duplicates = set(_near_duplicates(candidates))
        draft.seek(0)

        def rows() -> Iterator[arrow.RecordBatch]:
            for line in draft:
                row = CorpusRow(**orjson.loads(line))
                chosen = corpus.mixed(row, is_duplicate=row.document_id in duplicates, mix=mix)
                if isinstance(chosen, str):
                    left_out[chosen] += 1
                else:
                    made[chosen.source] += 1
                    yield arrow.RecordBatch.from_pylist([asdict(chosen)], schema=_SCHEMA)

        dataset.write_dataset(
            rows(),
            folder / corpus.ROWS,
            schema=_SCHEMA,
            format="parquet",
            min_rows_per_group=_ROW_GROUP,
            use_threads=False,  # keeps the order
        )
    return corpus.counts_of(made, left_out)


def _near_duplicates(candidates: Sequence[tuple[bytes, Candidate]]) -> Iterator[str]:
    for band in range(corpus.BANDS):
        buckets = defaultdict[bytes, list[Candidate]](list)
        for signature, candidate in candidates:
            buckets[corpus.band_of(signature, band)].append(candidate)
        for bucket in buckets.values():
            yield from corpus.duplicates_in(bucket)


async def _read(
    pages: AsyncIterator[Sequence[WantedDocument]], *, documents: DocumentStore, processes: int
) -> AsyncIterator[list[CorpusText | str]]:
    """Yield the texts of batches in order, while as many batches as there are processes are being read."""
    with ExitStack() as stack:
        idle = [stack.enter_context(ParsingProcess()) for _ in range(processes)]
        reading = deque[tuple[asyncio.Task[list[CorpusText | str]], ParsingProcess]]()
        async for page in pages:
            for start in range(0, len(page), corpus.BATCH):
                if not idle:
                    task, parsing = reading.popleft()
                    yield await task
                    idle.append(parsing)
                part, parsing = page[start : start + corpus.BATCH], idle.pop()
                texts = corpus.read_texts(part, documents=documents, parsing=parsing)
                reading.append((asyncio.create_task(texts), parsing))
        for task, _ in reading:
            yield await task
