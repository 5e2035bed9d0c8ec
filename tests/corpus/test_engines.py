"""Spark makes the rows that the local engine makes, and that engine takes a hundred thousand documents.

The packages of Spark are in an environment of their own: ``check-corpus``.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow.dataset
import pytest

from assistant.domain.documents import Document, DocumentState
from assistant.options.models_lab.corpus import COUNTS, ROWS, WANTED, WantedDocument, wanted_documents
from assistant.options.models_lab.corpus_here import write_corpus
from assistant.process.aws import open_client
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import StoredDocuments, StoredStates
from assistant.stores.sqlite_table import SqliteTable
from tests.emulated_aws import create_documents_bucket, documents_in
from tests.fakes.aws_server import REGION
from tests.fakes.corpus_documents import SOURCES, documents, statuses

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build/spark/bin/python"
MIX = {"handbook": 3.0, "wiki": 0.5}
SPARK_LIMIT_S = 900


async def wanted_of(found: Sequence[Document], folder: Path) -> list[WantedDocument]:
    """Return the documents that a corpus may hold; every seventh was withdrawn, each eleventh withheld."""
    states_table = SqliteTable(folder / "states.sqlite")
    states = StoredStates(states_table)
    await states.put_many(statuses(found))
    await states.put_many(statuses(found[::7], DocumentState.WITHDRAWN))
    await states.put_many(statuses(found[::11], DocumentState.WITHHELD))
    wanted = [each async for page in wanted_documents(states, sources=SOURCES, mix=MIX) for each in page]
    await states_table.close()
    return wanted


async def pages(wanted: Sequence[WantedDocument]) -> AsyncIterator[Sequence[WantedDocument]]:
    for start in range(0, len(wanted), 1000):
        yield wanted[start : start + 1000]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    table = pyarrow.dataset.dataset(folder / ROWS, format="parquet").to_table()
    return sorted(table.to_pylist(), key=lambda row: row["document_id"])


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_s() -> float:
    """Return the CPU time of this process and of those that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


@pytest.mark.skipif(not PYTHON.exists(), reason="the check check-corpus installs Spark")
async def test_spark_makes_the_rows_of_the_local_engine(aws_server_url: str, tmp_path: Path) -> None:
    found = list(documents(int(os.environ.get("SPARK_DOCUMENTS", "1000"))))
    wanted = await wanted_of(found, tmp_path)
    store, bucket = StoredDocuments(FolderBlobs(tmp_path / "documents")), f"corpus-{uuid.uuid4().hex[:12]}"
    local, spark = tmp_path / "local", tmp_path / "spark"
    local.mkdir()
    (spark / WANTED).mkdir(parents=True)
    lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in wanted)
    (spark / WANTED / "part-000000.jsonl").write_bytes(lines)
    async with open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3:
        await create_documents_bucket(s3, bucket=bucket)
        there = documents_in(s3, bucket=bucket)
        for document in found:
            await store.put(document)
            await there.put(document)

    counts = await write_corpus(local, pages(wanted), documents=store, mix=MIX, processes=2)
    begun_s = time.monotonic()
    given: dict[str, Any] = {"folder": str(spark), "bucket": bucket, "region": REGION, "url": aws_server_url}
    given |= {"mix": MIX, "partitions": 3}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": str(PYTHON)}
    command = [PYTHON, ROOT / "containers/corpus_job/job.py", json.dumps(given)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=SPARK_LIMIT_S
    )
    sys.stdout.write(f"\nSpark: {len(found):,} documents in {time.monotonic() - begun_s:.0f} s\n")

    assert done.returncode == 0, done.stderr[-4000:]
    assert rows_of(spark) == rows_of(local)
    assert json.loads((spark / COUNTS / "part-00000").read_text(encoding="utf-8")) == counts
    assert counts["left_out"].keys() == {
        "near-duplicates",
        "not drawn by its source's weight",
        "shorter than 5 words",
    }


async def test_the_local_engine_takes_many_documents(tmp_path: Path) -> None:
    count, folder = int(os.environ.get("DOCUMENTS", "1000")), tmp_path / "corpus"
    folder.mkdir()
    store, wanted = StoredDocuments(FolderBlobs(tmp_path / "documents")), list[WantedDocument]()
    for document in documents(count):
        await store.put(document)
        source = SOURCES.of_document(document.document_id)
        assert source is not None
        wanted.append(WantedDocument(document.document_id, document.content_hash(), source.name, ""))
    begun_s, begun_cpu_s, begun_mib = time.monotonic(), cpu_s(), peak_mib()

    counts = await write_corpus(
        folder, pages(wanted), documents=store, mix=MIX, processes=os.cpu_count() or 1
    )

    spent_s, spent_cpu_s = time.monotonic() - begun_s, cpu_s() - begun_cpu_s
    grown_mib = peak_mib() - begun_mib  # other tests of the process have imported what they need
    figures = (
        f"{spent_s:.0f} s, {spent_cpu_s:.0f} s of CPU, {grown_mib:.0f} MiB more beside the parsing processes"
    )
    sys.stdout.write(f"\nlocal: {count:,} documents in {figures}\n")
    assert sum(counts["rows"].values()) + sum(counts["left_out"].values()) == count
    assert counts["left_out"]["near-duplicates"] == pytest.approx(0.2 * count, rel=0.02)
    assert grown_mib < 200 + count / 200
    shutil.rmtree(tmp_path / "documents")
