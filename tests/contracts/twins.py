"""The implementations of the ports that the contract suite runs over: a new twin is added to TWINS here.

A twin is opened by its place, a folder. Two twins of one place are two processes' views of one tenant.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from assistant.adapters.aws.aws_clients import AwsService, open_client
from assistant.adapters.aws.local_resources import create_documents_bucket, create_key, create_queue
from assistant.adapters.aws.s3_documents import S3DocumentStore
from assistant.adapters.aws.sqs_queue import SqsIngestionQueue
from assistant.adapters.embedded.answer_log import SqliteAnswerLog
from assistant.adapters.embedded.tenant import EmbeddedTenant
from assistant.answering.ports import AnswerLog, AnswerRecords, PassageSearch
from assistant.domain.clock import Clock
from assistant.ingesting.ports import DocumentStates, DocumentStore, IngestionQueue, PassageIndex
from tests.fakes.aws_server import REGION, server_url

DIMENSIONS = 4
EMBEDDING_MODEL = "model-of-four"


class Twin(Protocol):
    """All stores of one tenant."""

    shortest_visibility_s: ClassVar[float]
    """The shortest visibility time-out that its queue takes."""

    @property
    def documents(self) -> DocumentStore: ...
    @property
    def states(self) -> DocumentStates: ...
    @property
    def queue(self) -> IngestionQueue: ...
    @property
    def withdrawals(self) -> IngestionQueue: ...
    @property
    def records(self) -> AnswerRecords: ...
    @property
    def log(self) -> AnswerLog: ...
    def log_by(self, clock: Clock) -> AnswerLog:
        """Return the same event log as a process sees it whose clock is ``clock``."""
        ...

    @property
    def index(self) -> PassageIndex: ...
    @property
    def search(self) -> PassageSearch: ...


class EmbeddedTwin(EmbeddedTenant):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        self._place = place
        self._other_logs: list[SqliteAnswerLog] = []

    def log_by(self, clock: Clock) -> SqliteAnswerLog:
        self._other_logs.append(SqliteAnswerLog(self._place / "events.sqlite", clock=clock))
        return self._other_logs[-1]

    async def close(self) -> None:
        for log in self._other_logs:
            await log.close()
        await super().close()


@asynccontextmanager
async def open_embedded_twin(place: Path) -> AsyncGenerator[Twin]:
    twin = EmbeddedTwin(place)
    try:
        yield twin
    finally:
        await twin.close()


@dataclass(kw_only=True)
class AwsTwin:
    """S3, DynamoDB and SQS by moto, the index on a real OpenSearch."""

    shortest_visibility_s: ClassVar[float] = 1.0
    """SQS counts whole seconds."""

    documents: S3DocumentStore
    queue: SqsIngestionQueue
    withdrawals: SqsIngestionQueue


@asynccontextmanager
async def open_aws_twin(place: Path) -> AsyncGenerator[Any]:
    """Open the tenant's stores and make what they need if it is not there: its names come from the place.

    Needs the fixture ``aws_server_url``, or to be in a process that a test with it started.
    """
    name = tenant_name(place)
    async with AsyncExitStack() as stack:
        kms, s3, sqs = [await _client(stack, service) for service in ("kms", "s3", "sqs")]
        key_id = await create_key(kms, alias=name)
        await create_documents_bucket(s3, bucket=name, kms_key_id=key_id)
        queue_url = await create_queue(sqs, name=f"{name}-documents")
        withdrawals_url = await create_queue(sqs, name=f"{name}-withdrawals")
        yield AwsTwin(
            documents=S3DocumentStore(s3, bucket=name, kms_key_id=key_id),
            queue=SqsIngestionQueue(sqs, queue_url=queue_url),
            withdrawals=SqsIngestionQueue(sqs, queue_url=withdrawals_url),
        )


def tenant_name(place: Path) -> str:
    """Return a name that no other place has, fit for buckets, queues, tables and indices."""
    return f"t-{hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:20]}"


async def _client(stack: AsyncExitStack, service: AwsService) -> Any:
    return await stack.enter_async_context(open_client(service, region=REGION, endpoint_url=server_url()))


OpenTwin = Callable[[Path], AbstractAsyncContextManager[Twin]]
TWINS: Mapping[str, OpenTwin] = {"embedded": open_embedded_twin, "aws": open_aws_twin}
NOT_YET: Mapping[str, frozenset[str]] = {
    "aws": frozenset(
        {
            "test_answer_log",
            "test_answer_records",
            "test_document_states",
            "test_passage_filters",
            "test_passage_index",
        }
    ),
}
"""Modules of the suite that a twin being built does not run yet."""
