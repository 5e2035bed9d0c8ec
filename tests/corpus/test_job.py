"""The job makes rows in Spark, whose packages are in an environment of their own: ``check-corpus``. What a
row is, and which are near-duplicates: ``tests/options/models_lab/test_corpus.py``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.options.models_lab.corpus import COUNTS, ROWS, WANTED, WantedDocument
from assistant.process.aws import open_client
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_documents_bucket, documents_in
from tests.stage.knowledge import SOURCES, documents

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build/spark/bin/python"
MIX = {"handbook": 3.0, "wiki": 0.5}
SPARK_LIMIT_S = 900
READ = """
import json, sys
from pyspark.sql import SparkSession
rows = SparkSession.builder.getOrCreate().read.parquet(sys.argv[1]).collect()
print(json.dumps([row.asDict() for row in rows]))
"""


async def spark(*arguments: str | Path) -> str:
    """Run a program in Spark's environment; return what it printed."""
    done = await asyncio.to_thread(
        subprocess.run,
        [PYTHON, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": str(PYTHON)},
        capture_output=True,
        text=True,
        timeout=SPARK_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.skipif(not PYTHON.exists(), reason="the check check-corpus installs Spark")
async def test_the_job_writes_each_text_once_with_its_source_s_weight(
    aws_server_url: str, tmp_path: Path
) -> None:
    found = {each.document_id: each for each in documents(int(os.environ.get("DOCUMENTS", "1000")))}
    folder, bucket, wanted = tmp_path / "corpus", f"corpus-{uuid.uuid4().hex[:12]}", list[WantedDocument]()
    async with open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3:
        await create_documents_bucket(s3, bucket=bucket)
        there = documents_in(s3, bucket=bucket)
        for document in found.values():
            source = SOURCES.of_document(document.document_id)
            assert source is not None
            wanted.append(WantedDocument(document.document_id, document.content_hash(), source.name, ""))
            await there.put(document)
    (folder / WANTED).mkdir(parents=True)
    lines = b"".join(orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in wanted)
    (folder / WANTED / "part-000000.jsonl").write_bytes(lines)

    begun_s = time.monotonic()
    given: dict[str, Any] = {"folder": str(folder), "bucket": bucket, "region": REGION, "url": aws_server_url}
    given |= {"mix": MIX, "partitions": 3}
    await spark(ROOT / "containers/corpus_job/job.py", json.dumps(given))
    sys.stdout.write(f"\nSpark: {len(found):,} documents in {time.monotonic() - begun_s:.0f} s\n")

    rows = json.loads((await spark("-c", READ, folder / ROWS)).splitlines()[-1])
    counts = json.loads((folder / COUNTS / "part-00000").read_text(encoding="utf-8"))
    assert len({row["document_id"] for row in rows}) == len(rows) == sum(counts["rows"].values())
    for row in rows:
        document = found[row["document_id"]]
        assert (row["content_hash"], tuple(row["labels"])) == (document.content_hash(), document.labels)
        assert row["weight"] == max(1.0, MIX[row["source"]])
    left_out = counts["left_out"]
    # Of ten documents two are near-duplicates of one before them, and one is too short.
    assert left_out["near-duplicates"] == pytest.approx(0.2 * len(found), rel=0.02)
    assert left_out["shorter than 5 words"] == len(found) // 10
    assert left_out.keys() - {"near-duplicates", "shorter than 5 words"} == {
        "not drawn by its source's weight"
    }
    assert sum(counts["rows"].values()) + sum(left_out.values()) == len(found)
