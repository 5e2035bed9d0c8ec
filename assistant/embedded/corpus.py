"""Makes a corpus on this machine: parsing processes read documents, one Parquet file holds the rows.

Of each document only its MinHash and its id stay in memory, about 800 bytes.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.knowledge.corpus import (
    BANDS,
    BATCH,
    ROWS,
    Candidate,
    CorpusRow,
    CorpusText,
    WantedDocument,
    band_of,
    candidate_of,
    counts_of,
    duplicates_in,
    mixed,
    read_texts,
)
from assistant.knowledge.parsing_process import ParsingProcess
from assistant.knowledge.ports import DocumentStore
from assistant.private_files import make_private_folder

try:
    import pyarrow as arrow
    from pyarrow import parquet
except ImportError:  # the extra "corpus" is not installed
    raise ConfigurationError(
        "A corpus needs packages that are not installed here. Run: uv pip install -r requirements/corpus.txt"
    ) from None

_STRINGS = arrow.list_(arrow.string())
_SCHEMA = arrow.schema(
    [
        (name, {"labels": _STRINGS, "weight": arrow.float64()}.get(name, arrow.string()))
        for name in CorpusRow.__slots__
    ]
)
_ROW_GROUP = 16 * BATCH


async def write_corpus(
    folder: Path,
    wanted: AsyncIterator[Sequence[WantedDocument]],
    *,
    documents: DocumentStore,
    mix: Mapping[str, float],
    processes: int,
) -> dict[str, dict[str, int]]:
    """Write the rows into the empty ``folder``, by document id, and return the counts.

    Raises LocalRuntimeError when no parsing process can be started, DependencyError.
    """
    left_out, candidates = Counter[str](), list[tuple[bytes, Candidate]]()
    draft = folder / ".draft.parquet"
    with _Rows(draft) as rows:
        async for batch in _read(wanted, documents=documents, processes=processes):
            texts = [text for text in batch if isinstance(text, CorpusText)]
            left_out.update(text for text in batch if isinstance(text, str))
            candidates += ((text.signature, candidate_of(text, mix=mix)) for text in texts)
            rows.add(text.row for text in texts)
    duplicates = set(_near_duplicates(candidates))
    made = Counter[str]()
    make_private_folder(folder / ROWS)
    with _Rows(folder / ROWS / "part-00000.parquet") as rows:
        for group in parquet.ParquetFile(draft).iter_batches(_ROW_GROUP):
            read = [CorpusRow(**{**row, "labels": tuple(row["labels"])}) for row in group.to_pylist()]
            chosen = [mixed(row, is_duplicate=row.document_id in duplicates, mix=mix) for row in read]
            left_out.update(row for row in chosen if isinstance(row, str))
            kept = [row for row in chosen if isinstance(row, CorpusRow)]
            made.update(row.source for row in kept)
            rows.add(kept)
    draft.unlink()
    return counts_of(made, left_out)


def _near_duplicates(candidates: Sequence[tuple[bytes, Candidate]]) -> Iterator[str]:
    for band in range(BANDS):
        buckets = defaultdict[bytes, list[Candidate]](list)
        for signature, candidate in candidates:
            buckets[band_of(signature, band)].append(candidate)
        for bucket in buckets.values():
            yield from duplicates_in(bucket)


class _Rows:
    """A Parquet file that is being written, in groups of rows."""

    def __init__(self, path: Path) -> None:
        self._writer = parquet.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._waiting: list[CorpusRow] = []

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._writer.close()

    def add(self, rows: Iterable[CorpusRow]) -> None:
        self._waiting += rows
        if len(self._waiting) >= _ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_table(
                arrow.Table.from_pylist(list(map(asdict, self._waiting)), schema=_SCHEMA)
            )
            self._waiting.clear()


async def _read(
    pages: AsyncIterator[Sequence[WantedDocument]], *, documents: DocumentStore, processes: int
) -> AsyncIterator[list[CorpusText | str]]:
    """Yield the texts of batches in order, while as many batches as there are processes are being read."""
    with ExitStack() as stack:
        idle = [stack.enter_context(ParsingProcess()) for _ in range(processes)]
        reading = deque[tuple[asyncio.Task[list[CorpusText | str]], ParsingProcess]]()
        async for page in pages:
            for start in range(0, len(page), BATCH):
                if not idle:
                    task, parsing = reading.popleft()
                    yield await task
                    idle.append(parsing)
                parsing = idle.pop()
                batch = read_texts(page[start : start + BATCH], documents=documents, parsing=parsing)
                reading.append((asyncio.create_task(batch), parsing))
        for task, _ in reading:
            yield await task
