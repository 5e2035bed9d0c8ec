"""Makes a corpus in Spark: ``spark-submit job.py``, started by ``assistant knowledge prepare --engine emr``.

The rows are those of ``assistant.embedded.corpus``: both engines run the functions of
``assistant.knowledge.corpus``. Python 3.11, the newest that Spark 3.5 supports
(https://spark.apache.org/docs/3.5.5/: "Python 3.8+", and its own packages are built for 3.8 to 3.11).
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import astuple, dataclass
from functools import partial
from itertools import islice

import orjson
from pyspark import RDD, StorageLevel
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, DoubleType, StringType, StructField, StructType

from assistant.aws.clients import open_client
from assistant.aws.s3 import S3DocumentStore
from assistant.knowledge import corpus
from assistant.knowledge.corpus import Candidate, CorpusRow, CorpusText, WantedDocument
from assistant.knowledge.parsing_process import ParsingProcess

_TYPES = {"labels": ArrayType(StringType()), "weight": DoubleType()}
_SCHEMA = StructType([StructField(name, _TYPES.get(name, StringType())) for name in CorpusRow.__slots__])


@dataclass(frozen=True, slots=True)
class DocumentsPlace:
    """Where an executor reads documents."""

    bucket: str
    region: str
    endpoint_url: str | None
    """Of an emulator; None on AWS."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes a corpus of documents.")
    parser.add_argument("--folder", required=True, help="of the corpus, with the wanted documents")
    parser.add_argument("--bucket", required=True, help="of the documents")
    parser.add_argument("--region", required=True)
    parser.add_argument("--endpoint-url")
    parser.add_argument("--mix", required=True, type=json.loads, help="weight of each source, as JSON")
    parser.add_argument("--partitions", required=True, type=int)
    given = parser.parse_args()
    place = DocumentsPlace(given.bucket, given.region, given.endpoint_url)
    spark = SparkSession.builder.getOrCreate()
    lines = spark.sparkContext.textFile(f"{given.folder}/{corpus.WANTED}").repartition(given.partitions)
    wanted = lines.map(lambda line: WantedDocument(**orjson.loads(line)))
    counts = write_rows(spark, wanted, place=place, mix=given.mix, folder=given.folder)
    spark.sparkContext.parallelize([json.dumps(counts)], 1).saveAsTextFile(f"{given.folder}/{corpus.COUNTS}")
    spark.stop()


def write_rows(
    spark: SparkSession,
    wanted: RDD[WantedDocument],
    *,
    place: DocumentsPlace,
    mix: Mapping[str, float],
    folder: str,
) -> corpus.Counts:
    """Write the rows below ``folder`` and return the counts. What is read once lies on the workers' disks."""
    read = wanted.mapPartitions(partial(_read_partition, place=place)).persist(StorageLevel.DISK_ONLY)
    texts = read.filter(lambda text: isinstance(text, CorpusText))
    buckets = texts.flatMap(partial(_bucketed, mix=mix)).groupByKey()
    duplicates = (
        buckets.flatMap(lambda bucket: corpus.duplicates_in(bucket[1]))
        .distinct()
        .map(lambda id_: (id_, True))
    )
    by_id = texts.map(lambda text: (text.row.document_id, text.row)).leftOuterJoin(duplicates)
    chosen = by_id.map(lambda pair: corpus.mixed(pair[1][0], is_duplicate=pair[1][1] is not None, mix=mix))
    chosen = chosen.persist(StorageLevel.DISK_ONLY)
    rows = chosen.filter(lambda row: isinstance(row, CorpusRow))
    frame = spark.createDataFrame(rows.map(astuple), _SCHEMA)
    frame.write.parquet(f"{folder}/{corpus.ROWS}", compression="zstd")
    left_out = read.union(chosen).filter(lambda row: isinstance(row, str)).countByValue()
    return corpus.counts_of(Counter(rows.map(lambda row: row.source).countByValue()), left_out)


def _read_partition(wanted: Iterator[WantedDocument], *, place: DocumentsPlace) -> Iterator[CorpusText | str]:
    with asyncio.Runner() as runner, ParsingProcess() as parsing:
        stack = AsyncExitStack()
        client = runner.run(
            stack.enter_async_context(open_client("s3", region=place.region, endpoint_url=place.endpoint_url))
        )
        documents = S3DocumentStore(client, bucket=place.bucket)
        while batch := list(islice(wanted, corpus.BATCH)):
            yield from runner.run(corpus.read_texts(batch, documents=documents, parsing=parsing))
        runner.run(stack.aclose())


def _bucketed(text: CorpusText, *, mix: Mapping[str, float]) -> Iterator[tuple[tuple[int, bytes], Candidate]]:
    candidate = corpus.candidate_of(text, mix=mix)
    for band in range(corpus.BANDS):
        yield (band, corpus.band_of(text.signature, band)), candidate


if __name__ == "__main__":
    main()
