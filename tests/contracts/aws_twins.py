"""The ports by AWS's services: one twin a service, so that a test opens only what it uses.

Each needs the fixture ``aws_server_url``, or to be in a process that a test with it started. It makes what
the tenant needs if it is not there; names come from the place.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from assistant.domain.clock import Clock
from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS
from assistant.options.live.stored import Switches
from assistant.process.aws import AwsService, ParameterWords, open_client
from assistant.stores.captures import StoredCaptures
from assistant.stores.documents import StoredDocuments
from assistant.stores.s3 import S3Blobs
from assistant.stores.sqs_queue import SqsIngestionQueue
from assistant.stores.uploads import UPLOAD_BLOBS, StoredUploads
from assistant.stores.words import Power, Revocations
from tests.emulated_aws import create_documents_bucket, create_queue, documents_in
from tests.fakes.aws_server import REGION, create_key, put_parameter, server_url
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind


@dataclass
class S3Twin:
    blobs: S3Blobs
    documents: StoredDocuments
    feedback_files: S3Blobs
    uploads: StoredUploads
    capture: StoredCaptures
    client: Any
    quarantine: str

    async def put_raw(self, key: str, content: bytes) -> None:
        await self.client.put_object(Bucket=self.quarantine, Key=key, Body=content)


@asynccontextmanager
async def open_s3_twin(place: Path) -> AsyncGenerator[S3Twin]:
    name = tenant_name(place)
    async with _client("kms") as kms, _client("s3") as s3:
        key_id = await create_key(kms, alias=name)
        plain, texts, quarantine, clean = (f"{name}-{kind}" for kind in ("plain", "texts", "raw", "clean"))
        for bucket in (name, plain, texts, quarantine, clean):
            await create_documents_bucket(s3, bucket=bucket, kms_key_id=key_id)
        yield S3Twin(
            blobs=S3Blobs(s3, bucket=plain, kms_key_id=key_id, prefix="below/"),
            documents=documents_in(s3, bucket=name, kms_key_id=key_id),
            feedback_files=S3Blobs.of(
                FEEDBACK_FILES, s3, bucket=name, beside={TEXTS: texts}, kms_key_id=key_id
            ),
            uploads=StoredUploads(S3Blobs.of(UPLOAD_BLOBS, s3, bucket=texts, kms_key_id=key_id)),
            capture=StoredCaptures.on_aws(s3, quarantine_bucket=quarantine, capture_bucket=clean),
            client=s3,
            quarantine=quarantine,
        )


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
    stack: AsyncExitStack
    proxy: FaultyProxy
    through_proxy: Any
    """A client whose calls the proxy passes on."""

    def power_by(self, clock: Clock) -> Power:
        power = Power(ParameterWords(self.client, place=self.name), clock=clock)
        self.stack.push_async_callback(power.close)
        return power

    async def set_power(self, word: str) -> None:
        await put_parameter(self.client, name=self.name, value=word)

    def switches_by(self, clock: Clock) -> Switches:
        words = ParameterWords(self.through_proxy, place=f"{self.name}-systems")
        switches = Switches(words, clock=clock)
        self.stack.push_async_callback(switches.close)
        return switches

    async def set_switch(self, system: str, word: str) -> None:
        await put_parameter(self.client, name=f"{self.name}-systems/{system}", value=word)

    @property
    def revocations(self) -> Revocations:
        return Revocations(ParameterWords(self.through_proxy, place=f"{self.name}-revocations"))

    async def put_revocations(self, content: str) -> None:
        await put_parameter(self.client, name=f"{self.name}-revocations", value=content)

    @asynccontextmanager
    async def unreadable_switches(self) -> AsyncGenerator[None]:
        """Have nobody listen at the store's address."""
        await self.proxy.break_by(Fault(Kind.REFUSE))
        try:
            yield
        finally:
            await self.proxy.heal()


@asynccontextmanager
async def open_ssm_twin(place: Path) -> AsyncGenerator[SsmTwin]:
    proxy = FaultyProxy(urlsplit(server_url()).netloc)
    await proxy.start()
    try:
        async with (
            _client("ssm") as ssm,
            _client("ssm", url=proxy.url) as through_proxy,
            AsyncExitStack() as stack,
        ):
            yield SsmTwin(ssm, f"/{tenant_name(place)}/power", stack, proxy, through_proxy)
    finally:
        await proxy.close()


def tenant_name(place: Path) -> str:
    """Return a name that no other place has, fit for buckets, queues, tables and indices."""
    return f"t-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:20]}"


@asynccontextmanager
async def _client(service: AwsService, *, url: str | None = None) -> AsyncGenerator[Any]:
    async with open_client(service, region=REGION, endpoint_url=url or server_url()) as client:
        yield client
