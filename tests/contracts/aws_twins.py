"""The primitives by AWS's services: one twin a service, so that a test opens only what it uses.

Each needs the fixture ``aws_server_url``, or to be in a process that a test with it started. It makes what
the tenant needs if it is not there; names come from the place.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from assistant.process.aws import AwsService, ParameterWords, open_client
from assistant.stores.s3 import S3Blobs
from assistant.stores.sqs_queue import SqsIngestionQueue
from tests.emulated_aws import create_documents_bucket, create_queue
from tests.fakes.aws_server import REGION, create_key, put_parameter, server_url
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind


@dataclass
class S3Twin:
    blobs: S3Blobs


@asynccontextmanager
async def open_s3_twin(place: Path) -> AsyncGenerator[S3Twin]:
    name = tenant_name(place)
    async with _client("kms") as kms, _client("s3") as s3:
        key_id = await create_key(kms, alias=name)
        await create_documents_bucket(s3, bucket=name, kms_key_id=key_id)
        yield S3Twin(S3Blobs(s3, bucket=name, kms_key_id=key_id, prefix="below/"))


@dataclass
class SqsTwin:
    shortest_visibility_s: ClassVar[float] = 1.0
    """SQS counts whole seconds."""

    queue: SqsIngestionQueue
    withdrawals: SqsIngestionQueue


@asynccontextmanager
async def open_sqs_twin(place: Path) -> AsyncGenerator[SqsTwin]:
    name = tenant_name(place)
    async with _client("sqs") as sqs:
        urls = [await create_queue(sqs, name=f"{name}-{kind}") for kind in ("documents", "withdrawals")]
        queue, withdrawals = [SqsIngestionQueue(sqs, queue_url=url) for url in urls]
        yield SqsTwin(queue=queue, withdrawals=withdrawals)


@dataclass
class SsmTwin:
    client: Any
    name: str
    proxy: FaultyProxy
    words: ParameterWords
    """They are read through the proxy."""

    async def set_word(self, name: str, word: str) -> None:
        await put_parameter(self.client, name=f"{self.name}/{name}" if name else self.name, value=word)

    @asynccontextmanager
    async def unreadable_words(self) -> AsyncGenerator[None]:
        """Have nobody listen at the store's address."""
        await self.proxy.break_by(Fault(Kind.REFUSE))
        try:
            yield
        finally:
            await self.proxy.heal()


@asynccontextmanager
async def open_ssm_twin(place: Path) -> AsyncGenerator[SsmTwin]:
    proxy, name = FaultyProxy(urlsplit(server_url()).netloc), f"/{tenant_name(place)}/words"
    await proxy.start()
    try:
        async with _client("ssm") as ssm, _client("ssm", url=proxy.url) as through_proxy:
            yield SsmTwin(ssm, name, proxy, ParameterWords(through_proxy, place=name))
    finally:
        await proxy.close()


def tenant_name(place: Path) -> str:
    """Return a name that no other place has, fit for buckets, queues, tables and indices."""
    return f"t-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:20]}"


@asynccontextmanager
async def _client(service: AwsService, *, url: str | None = None) -> AsyncGenerator[Any]:
    async with open_client(service, region=REGION, endpoint_url=url or server_url()) as client:
        yield client
