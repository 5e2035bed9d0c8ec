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

# Columns of Parquet: the fields of ``CorpusRow`` in their order, which is that of ``__slots__``; strings but
# for these.
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
    documents, as ``corpus.wanted_documents`` yields them. ``mix``: the weight of every source by its name, as
    ``corpus.mix_of`` returns it: {"wiki": 0.5, "forms": 1.0}.

    A text that is not written has a reason in its place, a str such as "shorter than 5 words": first where
    it cannot be read (``_read``), then where ``corpus.mixed`` leaves it out. The counts are by these reasons.

    Raises LocalRuntimeError when no parsing process can be started, DependencyError.
    """
    rows_by_source, left_out, candidates = Counter[str](), Counter[str](), list[tuple[bytes, Candidate]]()
    with tempfile.TemporaryFile(dir=folder) as draft:
        async for text_or_reason in _read(wanted, documents=documents, processes=processes):
            if isinstance(text_or_reason, str):
                left_out[text_or_reason] += 1
            else:
                candidates.append((text_or_reason.signature, corpus.candidate_of(text_or_reason, mix=mix)))
                draft.write(orjson.dumps(text_or_reason.row, option=orjson.OPT_APPEND_NEWLINE))
        near_ids = set(_near_duplicates(candidates))
        draft.seek(0)

        def batches() -> Iterator[Any]:
            """Yield the kept rows of the draft as batches of Parquet, while ``write_dataset`` asks for them.
            Adds to ``rows_by_source`` and ``left_out``, which are whole once all batches are written."""
            while lines := list(islice(draft, _ROW_GROUP)):
                rows = [CorpusRow(**orjson.loads(line)) for line in lines]
                # each a row, or the reason why it is left out
                results = [
                    corpus.mixed(row, is_duplicate=row.document_id in near_ids, mix=mix) for row in rows
                ]
                left_out.update(reason for reason in results if isinstance(reason, str))
                kept = [row for row in results if isinstance(row, CorpusRow)]
                rows_by_source.update(row.source for row in kept)
                yield arrow.RecordBatch.from_pylist(list(map(asdict, kept)), schema=_SCHEMA)

        rows_folder, form = folder / corpus.ROWS, "parquet"
        dataset.write_dataset(batches(), rows_folder, schema=_SCHEMA, format=form, preserve_order=True)
    return corpus.counts_of(rows_by_source, left_out)


def _near_duplicates(candidates: Sequence[tuple[bytes, Candidate]]) -> Iterator[str]:
    """Yield the ids of near-duplicates, some several times: two texts may meet in several bands.
    ``candidates``: each with the whole MinHash, by which texts meet in buckets; it has a byte of each value
    itself, by which those of a bucket are compared."""
    for band in range(corpus.BANDS):
        buckets = defaultdict[bytes, list[Candidate]](list)
        for signature, candidate in candidates:
            buckets[corpus.band_of(signature, band)].append(candidate)
        for bucket in buckets.values():
            yield from corpus.duplicates_in(bucket)


async def _read(
    pages: AsyncIterator[Sequence[WantedDocument]], *, documents: StoredDocuments, processes: int
) -> AsyncIterator[CorpusText | str]:
    """Yield the texts in the order of the pages, or why a document has none: a str, by which it is counted.
    Each process reads an equal part of a page."""
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
