"""Makes a corpus on this machine: parsing processes read documents, pyarrow writes the rows as Parquet.

Of each document only its MinHash and its id stay in memory, about 2 KB. Texts wait in a temporary file until
all are read: only then near-duplicates are known.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false, reportMissingImports=false

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from assistant.documents.parsing_process import ParsingProcess
from assistant.domain.errors import ConfigurationError
from assistant.options.models_lab import corpus
from assistant.options.models_lab.corpus import Candidate, CorpusRow, CorpusText, WantedDocument
from assistant.stores.documents import StoredDocuments

try:
    import pyarrow as arrow
    from pyarrow import dataset
except ImportError:
    advice = "Run: .venv/bin/uv pip install --require-hashes -r requirements/corpus.txt"
    raise ConfigurationError(f"A corpus needs the extra packages of corpora. {advice}") from None

# Columns of Parquet: the fields of ``CorpusRow``, strings but for these.
_TYPES = {"labels": arrow.list_(arrow.string()), "weight": arrow.float64()}
_SCHEMA = arrow.schema([(name, _TYPES.get(name, arrow.string())) for name in CorpusRow.__slots__])
_ROW_GROUP = 1024
"""Rows that are written together."""


async def write_corpus(
    folder: Path,
    wanted: AsyncIterator[Sequence[WantedDocument]],
    *,
    documents: StoredDocuments,
    mix: Mapping[str, float],
    processes: int,
) -> corpus.Counts:
    """Write the rows into ``folder``/rows, by document id, and return the counts. ``wanted``: pages of
    documents, as ``corpus.wanted_documents`` yields them.

    Raises LocalRuntimeError when no parsing process can be started, DependencyError.
    """
    rows_by_source, left_out, candidates = Counter[str](), Counter[str](), list[tuple[bytes, Candidate]]()
    with tempfile.TemporaryFile(dir=folder) as draft:
        async for text in _read(wanted, documents=documents, processes=processes):
            if isinstance(text, str):
                left_out[text] += 1
            else:
                candidates.append((text.signature, corpus.candidate_of(text, mix=mix)))
                draft.write(orjson.dumps(text.row, option=orjson.OPT_APPEND_NEWLINE))
        near = set(_near_duplicates(candidates))  # ids
        draft.seek(0)

        def batches() -> Iterator[Any]:
            """Yield the kept rows of the draft; count what is kept and left out."""
            while lines := list(islice(draft, _ROW_GROUP)):
                rows = [CorpusRow(**orjson.loads(line)) for line in lines]
                mixed = [corpus.mixed(row, is_duplicate=row.document_id in near, mix=mix) for row in rows]
                left_out.update(reason for reason in mixed if isinstance(reason, str))
                kept = [row for row in mixed if isinstance(row, CorpusRow)]
                rows_by_source.update(row.source for row in kept)
                yield arrow.RecordBatch.from_pylist(list(map(asdict, kept)), schema=_SCHEMA)

        place, form = folder / corpus.ROWS, "parquet"
        dataset.write_dataset(batches(), place, schema=_SCHEMA, format=form, preserve_order=True)
    return corpus.counts_of(rows_by_source, left_out)


def _near_duplicates(candidates: Sequence[tuple[bytes, Candidate]]) -> Iterator[str]:
    """Yield the ids of near-duplicates, some several times. ``candidates``: each with its whole MinHash."""
    for band in range(corpus.BANDS):
        buckets = defaultdict[bytes, list[Candidate]](list)
        for signature, candidate in candidates:
            buckets[corpus.band_of(signature, band)].append(candidate)
        for bucket in buckets.values():
            yield from corpus.duplicates_in(bucket)


async def _read(
    pages: AsyncIterator[Sequence[WantedDocument]], *, documents: StoredDocuments, processes: int
) -> AsyncIterator[CorpusText | str]:
    """Yield the texts in order, or why a document has none. Each process reads an equal part of a page."""
    with ExitStack() as stack:
        running = [stack.enter_context(ParsingProcess()) for _ in range(processes)]
        async for page in pages:
            size = -(-len(page) // processes) or 1  # rounded up
            parts = [page[start : start + size] for start in range(0, len(page), size)]
            reading = (
                corpus.read_texts(part, documents=documents, parsing=parsing)
                for part, parsing in zip(parts, running, strict=False)
            )
            for texts in await asyncio.gather(*reading):
                for text in texts:
                    yield text
