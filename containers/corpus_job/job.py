"""Makes a corpus in Spark: ``spark-submit job.py JSON``, which ``assistant knowledge prepare`` starts.

The JSON has ``folder`` (of the corpus, with the wanted documents), ``mix`` (weight of each source),
``partitions``, ``bucket`` and ``region`` of the documents, ``url`` of an emulator.

The rows are those of ``assistant.options.models_lab.corpus_here``: both engines run the functions of
``assistant.options.models_lab.corpus``. Python 3.11, the newest that Spark 3.5 supports
(https://spark.apache.org/docs/3.5.5/: "Python 3.8+", and its own packages are built for 3.8 to 3.11).
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
    given = json.loads(sys.argv[1])
    folder, mix = given["folder"], given["mix"]
    spark = SparkSession.builder.getOrCreate()
    lines = spark.sparkContext.textFile(f"{folder}/{corpus.WANTED}").repartition(given["partitions"])
    reading = partial(read_partition, bucket=given["bucket"], region=given["region"], url=given.get("url"))
    read = lines.mapPartitions(reading).persist(StorageLevel.DISK_ONLY)
    counts = write_rows(spark, read, mix=mix, folder=f"{folder}/{corpus.ROWS}")
    # Written last: a corpus with counts is whole.
    spark.sparkContext.parallelize([json.dumps(counts)], 1).saveAsTextFile(f"{folder}/{corpus.COUNTS}")
    spark.stop()


def write_rows(
    spark: SparkSession, read: RDD[CorpusText | str], *, mix: Mapping[str, float], folder: str
) -> corpus.Counts:
    """Write the rows as Parquet and return the counts. What is computed once lies on the workers' disks."""
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
    """Yield the texts of documents, or why one has none. ``url``: of an emulator."""
    opened = open_client("s3", region=region, endpoint_url=url)
    with asyncio.Runner() as runner, ParsingProcess() as parsing:
        blobs = S3Blobs.of(DOCUMENT_BLOBS, runner.run(opened.__aenter__()), bucket=bucket)
        documents = StoredDocuments(blobs)
        while batch := [WantedDocument(**orjson.loads(line)) for line in islice(lines, corpus.BATCH)]:
            yield from runner.run(corpus.read_texts(batch, documents=documents, parsing=parsing))
        runner.run(opened.__aexit__(None, None, None))


def bucketed(text: CorpusText, *, mix: Mapping[str, float]) -> Iterator[tuple[tuple[int, bytes], Candidate]]:
    candidate = corpus.candidate_of(text, mix=mix)
    for band in range(corpus.BANDS):
        yield (band, corpus.band_of(text.signature, band)), candidate


if __name__ == "__main__":
    main()
