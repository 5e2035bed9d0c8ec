"""Makes a corpus in Spark: ``spark-submit job.py JSON``, which is started as models_lab.md says.

The JSON has ``folder`` (of the corpus, with the wanted documents), ``mix`` (weight of each source),
``partitions``, ``bucket`` and ``region`` of the documents, and in tests ``url`` of an emulator:
``{"folder": "s3://corpus/2026-11", "mix": {"wiki": 0.5}, "partitions": 64, "bucket": "documents", "region":
"us-east-1"}``. It reads ``<folder>/wanted``, lines of JSON with the fields of ``WantedDocument``, and writes
``<folder>/rows`` (Parquet) and ``<folder>/counts``.

The rows are made by functions of ``assistant.options.models_lab.corpus``. Python 3.11, the newest that Spark
3.5 supports (https://spark.apache.org/docs/3.5.5/: "Python 3.8+", and its own packages are built for 3.8 to
3.11).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from functools import partial
from itertools import islice

import orjson
from pyspark import RDD, StorageLevel
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, DoubleType, StringType, StructField, StructType

from assistant.documents.parsing_process import ParsingProcess
from assistant.options.models_lab import corpus
from assistant.options.models_lab.corpus import Candidate, CorpusRow, CorpusText, WantedDocument
from assistant.process.aws import open_client
from assistant.stores.documents import DOCUMENT_BLOBS, StoredDocuments
from assistant.stores.s3 import S3Blobs

_TYPES = {"labels": ArrayType(StringType()), "weight": DoubleType()}
_SCHEMA = StructType([StructField(name, _TYPES.get(name, StringType())) for name in CorpusRow.__slots__])


def main() -> None:
    plan = json.loads(sys.argv[1])
    folder, mix = plan["folder"], plan["mix"]
    spark = SparkSession.builder.getOrCreate()
    lines = spark.sparkContext.textFile(f"{folder}/{corpus.WANTED}").repartition(plan["partitions"])
    reading = partial(read_partition, bucket=plan["bucket"], region=plan["region"], url=plan.get("url"))
    texts = lines.mapPartitions(reading).persist(StorageLevel.DISK_ONLY)
    counts = write_rows(spark, texts, mix=mix, folder=f"{folder}/{corpus.ROWS}")
    # Written last: a folder with counts has all its rows.
    spark.sparkContext.parallelize([json.dumps(counts)], 1).saveAsTextFile(f"{folder}/{corpus.COUNTS}")
    spark.stop()


def write_rows(
    spark: SparkSession, read: RDD[CorpusText | str], *, mix: Mapping[str, float], folder: str
) -> corpus.Counts:
    """Write the rows as Parquet and return the counts.

    ``read``: each wanted document's text, or the reason (a str) why it has none. Near-duplicates are found in
    buckets of equal MinHash bands and left out; the rest gets its source's weight, or a reason too. ``read``
    and ``chosen`` are used twice, so they are kept on the workers' disks.
    """
    # Shapes: buckets ((band, values), candidates); by_id (id, row); joined (id, (row, True or None)).
    texts = read.filter(lambda text: isinstance(text, CorpusText))
    buckets = texts.flatMap(partial(bucketed, mix=mix)).groupByKey()
    duplicates = buckets.flatMap(lambda bucket: corpus.duplicates_in(bucket[1])).distinct()
    by_id = texts.map(lambda text: (text.row.document_id, text.row))
    joined = by_id.leftOuterJoin(duplicates.map(lambda document_id: (document_id, True)))
    chosen = joined.map(lambda pair: corpus.mixed(pair[1][0], is_duplicate=bool(pair[1][1]), mix=mix))
    rows = chosen.persist(StorageLevel.DISK_ONLY).filter(lambda row: isinstance(row, CorpusRow))
    frame = spark.createDataFrame(rows.map(astuple), _SCHEMA)
    frame.write.parquet(folder, compression="zstd")
    left_out = read.union(chosen).filter(lambda row: isinstance(row, str)).countByValue()
    return corpus.counts_of(rows.map(lambda row: row.source).countByValue(), left_out)


def read_partition(
    lines: Iterator[str], *, bucket: str, region: str, url: str | None
) -> Iterator[CorpusText | str]:
    """Yield each document's text, or the reason (a str) why it has none, in batches of ``corpus.BATCH``.

    Spark calls it once for each partition, in a worker process: client, parser and event loop are opened
    here. ``lines``: a ``WantedDocument`` each. ``url``: of an emulator.
    """
    client = open_client("s3", region=region, endpoint_url=url)
    with asyncio.Runner() as runner, ParsingProcess() as parsing:
        blobs = S3Blobs.of(DOCUMENT_BLOBS, runner.run(client.__aenter__()), bucket=bucket)
        documents = StoredDocuments(blobs)
        while batch := [WantedDocument(**orjson.loads(line)) for line in islice(lines, corpus.BATCH)]:
            yield from runner.run(corpus.read_texts(batch, documents=documents, parsing=parsing))
        runner.run(client.__aexit__(None, None, None))


def bucketed(text: CorpusText, *, mix: Mapping[str, float]) -> Iterator[tuple[tuple[int, bytes], Candidate]]:
    """Yield the text as a candidate in each of its buckets (number and values of a MinHash band): texts that
    share a bucket are compared."""
    candidate = corpus.candidate_of(text, mix=mix)
    for band in range(corpus.BANDS):
        yield (band, corpus.band_of(text.signature, band)), candidate


if __name__ == "__main__":
    main()
